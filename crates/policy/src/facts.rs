//! What a decision is made from, besides the principal: the route, and the request as it arrived.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

/// A route as policies see it: `Route::"name"`, in a `Label::"key=value"` for each of its labels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RouteFacts {
    /// The route's name in the configuration.
    pub name: String,
    /// Its labels; readable in policies as tags, too.
    pub labels: BTreeMap<String, String>,
}

/// The position of a route in the list that an [`Engine`](crate::Engine) was compiled with.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouteIndex(pub u32);

/// A scope of minted tokens, as [`Engine::scope`](crate::Engine::scope) gave it: it counts within that engine alone.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ScopeIndex(pub(crate) u32);

/// A request after normalisation and routing. The strings are the canonical ones that the upstream will see.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The HTTP method, in capitals as on the wire.
    pub method: &'a str,
    /// The canonical path, without the query.
    pub path: &'a str,
    /// The query without its question mark; its keys are looked for only if a policy reads them.
    pub query: Option<&'a str>,
    /// The canonical host, without the port.
    pub host: &'a str,
    /// The client's address.
    pub address: IpAddr,
    /// The connection's TLS, if it has any.
    pub tls: TlsFacts<'a>,
    /// The time of the decision.
    pub now: SystemTime,
    /// The earliest end of the proofs that the principal rests on; it becomes the permit's.
    pub ends: Option<SystemTime>,
}

/// The TLS of the client's connection; all empty for plain HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsFacts<'a> {
    /// `1.2` or `1.3`; `None` means that the connection is plain HTTP.
    pub version: Option<&'static str>,
    /// The server name of the handshake (RFC 6066 section 3).
    pub sni: Option<&'a str>,
    /// The verified client certificate.
    pub client_certificate: Option<CertificateFacts<'a>>,
}

/// A verified client certificate. With a token on the same request the token is the principal and this is context.
#[derive(Clone, Copy, Debug)]
pub struct CertificateFacts<'a> {
    /// The certificate's principal id as [`identity::PrincipalId`] prints it.
    pub name: &'a str,
    /// SHA-256 of the DER bytes, in lower-case hex.
    pub fingerprint: &'a str,
    /// The serial number, in lower-case hex.
    pub serial: &'a str,
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// A plain request at a fixed time.
    pub(crate) fn facts() -> Facts<'static> {
        Facts {
            method: "GET",
            path: "/orders/1",
            query: None,
            host: "api.example.com",
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tls: TlsFacts::default(),
            now: UNIX_EPOCH + Duration::from_secs(1_795_000_000),
            ends: None,
        }
    }
}
