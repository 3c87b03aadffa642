//! Certificate profiles as code: what each kind of certificate says, and for how long. Never a key.
//!
//! `portcullis dev` issues by these; README.md beside this file says how to read them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a certificate says.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// The subject's common name; nothing reads it but people.
    pub common_name: &'static str,
    /// Subject alternative names: the hosts that it speaks for.
    pub hosts: &'static [Host],
    /// Subject alternative name: the workload that it speaks for.
    pub spiffe_id: Option<&'static str>,
    /// What the key may sign (RFC 5280 section 4.2.1.3).
    pub signs: &'static [Signs],
    /// What the certificate is for (RFC 5280 section 4.2.1.12).
    pub purpose: &'static [Purpose],
    /// An authority's certificate speaks only for these (RFC 5280 section 4.2.1.10); a leaf has none.
    pub constrained_to: Option<&'static [Host]>,
    /// Days from its issue.
    pub days: u64,
}

/// A name or address that clients connect to.
#[derive(Clone, Copy, Debug)]
pub enum Host {
    /// A DNS name.
    Name(&'static str),
    /// An IP address.
    Address(IpAddr),
}

/// What a key signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signs {
    /// Certificates.
    Certificates,
    /// Revocation lists.
    Revocations,
    /// Handshakes.
    Handshakes,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// TLS servers.
    Server,
    /// TLS clients.
    Client,
}

/// The development authority. Constrained to this machine's own names: whoever takes its key, or trusts it in a
/// browser, gives nothing else away.
pub const AUTHORITY: Profile = Profile {
    common_name: "Portcullis development CA",
    hosts: &[],
    spiffe_id: None,
    signs: &[Signs::Certificates, Signs::Revocations],
    purpose: &[],
    constrained_to: Some(&LOOPBACK),
    days: 3650,
};

/// The gateway's own, for whoever connects to this machine.
pub const LOCALHOST: Profile = Profile {
    common_name: "localhost",
    hosts: &LOOPBACK,
    spiffe_id: None,
    signs: &[Signs::Handshakes],
    purpose: &[Purpose::Server],
    constrained_to: None,
    days: 30,
};

/// A workload that calls by mTLS: one SPIFFE id and nothing else (SPIFFE X.509-SVID section 5.2).
pub const BILLING: Profile = Profile {
    common_name: "billing",
    hosts: &[],
    spiffe_id: Some("spiffe://example.org/ns/shop/sa/billing"),
    signs: &[Signs::Handshakes],
    purpose: &[Purpose::Client],
    constrained_to: None,
    days: 30,
};

const LOOPBACK: [Host; 3] = [
    Host::Name("localhost"),
    Host::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    Host::Address(IpAddr::V6(Ipv6Addr::LOCALHOST)),
];
