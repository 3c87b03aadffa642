//! How endpoints are found, checked and chosen.

use std::net::{IpAddr, SocketAddr};

use http::HeaderName;
use http::uri::PathAndQuery;

use super::{Misread, Word, words};

/// A name server.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct NameServer(pub(in crate::config) SocketAddr);

impl Word for NameServer {
    const EXPECTED: &'static str = "the address of a name server such as `10.0.0.2` or `10.0.0.2:5353`";

    fn parse(text: &str) -> Result<Self, Misread> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(SocketAddr::new(address, 53)));
        }
        text.parse().map(Self).map_err(|_| Misread::Other)
    }
}

/// What a check asks for.
#[derive(Clone, Debug)]
pub(in crate::config) struct CheckPath(pub(in crate::config) PathAndQuery);

impl Word for CheckPath {
    const EXPECTED: &'static str = "a path such as `/healthz`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let path = PathAndQuery::try_from(text).map_err(|_| Misread::Other)?;
        if text.starts_with('/') && !text.contains('#') { Ok(Self(path)) } else { Err(Misread::Other) }
    }
}

/// A field whose value keeps requests together.
#[derive(Clone, Debug)]
pub(in crate::config) struct HashField(pub(in crate::config) HeaderName);

impl Word for HashField {
    const EXPECTED: &'static str = "the name of a header field such as `x-tenant`";

    fn parse(text: &str) -> Result<Self, Misread> {
        HeaderName::from_bytes(text.as_bytes()).map(Self).map_err(|_| Misread::Other)
    }
}

words! {
    NameServer: "^[0-9a-fA-F.:\\[\\]]+$",
    CheckPath: "^/[^#]*$",
    HashField: "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_an_address_whose_port_is_53_unless_it_says_otherwise() {
        for (text, address) in [
            ("10.0.0.2", "10.0.0.2:53"),
            ("10.0.0.2:5353", "10.0.0.2:5353"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(NameServer::parse(text).unwrap().0.to_string(), address);
        }
        for text in ["", "dns", "dns:53", "10.0.0.2:"] {
            assert!(NameServer::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_check_asks_for_a_path() {
        assert_eq!(CheckPath::parse("/healthz?full=1").unwrap().0.as_str(), "/healthz?full=1");
        for text in ["", "healthz", "http://a/healthz", "/a b", "/a#b", "*"] {
            assert!(CheckPath::parse(text).is_err(), "{text}");
        }
    }
}
