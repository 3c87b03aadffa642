//! Addresses, networks, URLs, and protocols other than HTTP.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use proxy::upgrade::{Protocol, ProtocolError};
use url::{Host, Url};

use super::{Misread, Word, words};

/// An address and a port to listen on.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Bind(pub(in crate::config) SocketAddr);

impl Word for Bind {
    const EXPECTED: &'static str = "an address and a port such as `127.0.0.1:8443` or `[::1]:8443`";

    fn parse(text: &str) -> Result<Self, Misread> {
        text.parse().map(Self).map_err(|_| Misread::Other)
    }
}

/// A network, or one address.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Network(pub(in crate::config) IpNet);

impl Word for Network {
    const EXPECTED: &'static str = "a network such as `10.0.0.0/8` or an address";

    fn parse(text: &str) -> Result<Self, Misread> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address)));
        }
        let network: IpNet = text.parse().map_err(|_| Misread::Other)?;
        if network == network.trunc() {
            return Ok(Self(network));
        }
        Err(format!("`{network}` has bits set behind its prefix; the network is `{}`", network.trunc())
            .into())
    }
}

/// A protocol that a route lets through instead of HTTP.
#[derive(Clone, Debug)]
pub(in crate::config) struct UpgradeProtocol(pub(in crate::config) Protocol);

impl Word for UpgradeProtocol {
    const EXPECTED: &'static str = "a protocol to upgrade to, such as `websocket`";

    fn parse(text: &str) -> Result<Self, Misread> {
        Protocol::parse(text).map(Self).map_err(|error| match error {
            ProtocolError::Malformed => Misread::Other,
            ProtocolError::CarriesRequests => {
                format!("`{text}` is HTTP again, or carries it: requests inside it would pass no policy")
                    .into()
            }
        })
    }
}

/// Plain HTTP or TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// One server of an upstream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// How to speak to it.
    pub scheme: Scheme,
    /// Its name or address; an IPv6 address without brackets.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl Word for Endpoint {
    const EXPECTED: &'static str =
        "a server such as `http://127.0.0.1:8080` or `https://orders.internal:8443`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let url = without_credentials(text)?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => {
                return Err(
                    format!("the scheme `{other}` is not supported; expected `http` or `https`").into()
                );
            }
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("an endpoint has no path; change paths by a route's `rewrite`".into());
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => Arc::from(name),
            Some(Host::Ipv4(address)) => Arc::from(address.to_string()),
            Some(Host::Ipv6(address)) => Arc::from(address.to_string()),
            None => return Err(Misread::Other),
        };
        match url.port_or_known_default() {
            Some(port) if port != 0 => Ok(Self { scheme, host, port }),
            _ => Err(Misread::Other),
        }
    }
}

/// A URL that keys or metadata are fetched from: `https`, or `http` on loopback.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchUrl {
    /// As it was written: an issuer is compared byte for byte (RFC 8414 section 3.3).
    pub text: Arc<str>,
    /// Parsed.
    pub url: Url,
}

impl FetchUrl {
    /// The same rule for a URL that comes from elsewhere than the configuration.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

impl Word for FetchUrl {
    const EXPECTED: &'static str = "a URL such as `https://id.example.com`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let url = protected(
            text,
            "keys fetched over plain `http` could be anybody's; use `https` (plain is for loopback)",
        )?;
        if url.fragment().is_some() {
            return Err("a URL to fetch from has no fragment".into());
        }
        Ok(Self { text: Arc::from(text), url })
    }
}

/// A node of a Vault cluster: `https`, or `http` on loopback.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct VaultAddress(pub(in crate::config) Url);

impl Word for VaultAddress {
    const EXPECTED: &'static str = "the address of Vault such as `https://vault.internal:8200`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let url = protected(
            text,
            "over plain `http` tokens and secrets are anybody's; use `https` (plain is for loopback)",
        )?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("an address of Vault has no path".into());
        }
        Ok(Self(url))
    }
}

/// The directory of an ACME server: `https`, or `http` on loopback.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct AcmeDirectory(pub(in crate::config) Url);

impl Word for AcmeDirectory {
    const EXPECTED: &'static str =
        "the directory of an ACME server such as `https://acme.example.com/directory`";

    fn parse(text: &str) -> Result<Self, Misread> {
        protected(text, "ACME needs `https` (RFC 8555 section 6.1; plain is for loopback)").map(Self)
    }
}

/// A URL that nobody on the way can change the answer of: `https`, or `http` on loopback.
fn protected(text: &str, if_plain: &'static str) -> Result<Url, Misread> {
    let url = without_credentials(text)?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(if_plain.into()),
        other => Err(format!("the scheme `{other}` is not supported; expected `https`").into()),
    }
}

/// Whether a URL's host is this machine: plain HTTP is allowed there.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

words! {
    Bind: "^.+:[0-9]+$",
    Network: "^[0-9a-fA-F.:]+(/[0-9]+)?$",
    Endpoint: "^https?://[^/]+/?$",
    FetchUrl: "^https?://.+$",
    VaultAddress: "^https?://[^/]+/?$",
    AcmeDirectory: "^https?://.+$",
    UpgradeProtocol: r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+(/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?$",
}

pub(super) fn without_credentials(text: &str) -> Result<Url, Misread> {
    let url =
        Url::parse(text).map_err(|_| if text.contains('@') { SECRET_URL.into() } else { Misread::Other })?;
    if url.username().is_empty() && url.password().is_none() { Ok(url) } else { Err(SECRET_URL.into()) }
}

const SECRET_URL: &str = "a user name or password in a URL; secrets do not stand in the configuration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_known_scheme_and_no_path() {
        let endpoint = Endpoint::parse("https://orders.internal").unwrap();
        assert_eq!(
            (endpoint.scheme, &*endpoint.host, endpoint.port),
            (Scheme::Https, "orders.internal", 443)
        );
        assert_eq!(Endpoint::parse("http://[::1]:80").unwrap().to_string(), "http://[::1]:80");
        for text in ["tcp://a:1", "orders:80", "http://a/b", "http://a?b", "http://a:0", "127.0.0.1:80", ""] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_fetched_over_tls_unless_from_this_machine() {
        assert!(FetchUrl::parse("http://localhost:9000/jwks").is_ok());
        assert!(FetchUrl::parse("http://127.0.0.1:9000/jwks").is_ok());
        assert!(FetchUrl::parse("http://id.example.com/jwks").is_err());
        assert!(FetchUrl::parse("ftp://id.example.com/jwks").is_err());
    }

    #[test]
    fn vault_is_asked_over_tls_unless_on_this_machine() {
        for text in ["https://vault:8200", "http://127.0.0.1:8200/", "http://[::1]:8200"] {
            assert!(VaultAddress::parse(text).is_ok(), "{text}");
        }
        for text in
            ["http://vault:8200", "https://vault/v1", "https://vault?a", "vault:8200", "unix:///a", ""]
        {
            assert!(VaultAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for text in ["http://user:canary@host:1", "http://user:canary@:x"] {
            let Err(Misread::Because(reason)) = Endpoint::parse(text) else { panic!("{text}") };
            assert!(!reason.contains("canary"));
        }
    }

    #[test]
    fn a_network_names_no_host_bits() {
        assert!(Network::parse("10.0.0.0/8").is_ok());
        assert_eq!(Network::parse("10.1.2.3").unwrap().0.to_string(), "10.1.2.3/32");
        assert!(Network::parse("10.1.2.3/8").is_err());
    }
}
