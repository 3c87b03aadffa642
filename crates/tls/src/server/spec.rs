//! What a TLS listener is to do, as the configuration says it.

use crate::{Alpn, Credentials, Trusts, Version};

/// A listener's TLS: one policy for all names, and others for single names.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// For every name that no entry of `hosts` matches, and for clients that send none.
    pub default: HostSpec,
    /// Policies by server name: exact (`admin.example.com`) or one wildcard label (`*.example.com`).
    pub hosts: Vec<(String, HostSpec)>,
    /// The lowest version that is spoken.
    pub min_version: Version,
    /// What a client without a server name gets.
    pub without_sni: WithoutSni,
    /// Offered protocols, the preferred one first.
    pub alpn: Vec<Alpn>,
}

/// Certificates and client authentication of one name.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// By server name: exact, then wildcard, then the first.
    pub certificates: Vec<Credentials>,
    /// Whether and by which trust entries clients prove themselves.
    pub client: ClientAuth,
}

/// Whether clients prove themselves by a certificate.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// Not asked for.
    Off,
    /// Asked for; a client without one is let in unproven, one with a bad one is refused.
    Optional(Vec<Trusts>),
    /// Demanded.
    Required(Vec<Trusts>),
}

/// What a client without a server name (SNI, RFC 6066 section 3) gets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WithoutSni {
    /// The default policy.
    #[default]
    Default,
    /// An `unrecognized_name` alert.
    Refuse,
}

/// Why a specification makes no listener.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// A name of `hosts` is none.
    #[error("`{0}` is no server name: expected a name such as `admin.example.com` or `*.example.com`")]
    Host(String),
    /// A name of `hosts` stands twice.
    #[error("the server name `{0}` stands twice")]
    DuplicateHost(String),
    /// A policy has no certificate.
    #[error("no certificate is named: expected at least one")]
    NoCertificate,
    /// A policy asks for client certificates without trust.
    #[error("client certificates are asked for, but no trust entry is named")]
    NoTrust,
    /// An upstream's expected name is none.
    #[error("`{0}` is neither a DNS name nor an IP address")]
    ServerName(String),
    /// An upstream's expected identity cannot be proven by the system's authorities.
    #[error("a SPIFFE id is expected, but trust is the system's: name the trust entry of its trust domain")]
    SystemTrust,
    /// The system has no authorities.
    #[error("the system's trust store cannot be used: {0}")]
    SystemStore(String),
    /// The crypto provider refuses the configuration.
    #[error("the crypto provider refuses: {0}")]
    Provider(String),
    /// More policies than a listener can number.
    #[error("more than {max} server names on one listener", max = u16::MAX)]
    TooManyHosts,
}

impl ClientAuth {
    /// The trust entries that clients are judged by.
    pub(crate) fn trusts(&self) -> &[Trusts] {
        match self {
            Self::Off => &[],
            Self::Optional(trusts) | Self::Required(trusts) => trusts,
        }
    }

    /// Whether both ask the same of a client.
    pub(crate) fn same_rule(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.trusts().len() == other.trusts().len()
            && self.trusts().iter().zip(other.trusts()).all(|(one, two)| one.same(two))
    }
}
