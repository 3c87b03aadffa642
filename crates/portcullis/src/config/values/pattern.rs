//! Names, and patterns of hosts and paths.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use proxy::normalize::authority;
use proxy::normalize::path::canonical_path;
use proxy::route::{HostPattern, PathPattern};

use super::{Misread, Word, words};

/// The name of an entry: what other entries, policies, logs and metrics call it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Name> for Arc<str> {
    fn from(name: &Name) -> Self {
        Self::clone(&name.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Word for Name {
    const EXPECTED: &'static str =
        "a name of letters, digits, `-`, `_` and `.` that begins with a letter or digit, up to 64 long";

    fn parse(text: &str) -> Result<Self, Misread> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.bytes().all(inner) && text.len() <= 64 {
            Ok(Self(Arc::from(text)))
        } else {
            Err(Misread::Other)
        }
    }
}

/// The host of a route: exact or `*.wildcard`; any host is written by leaving it out.
#[derive(Clone, Debug)]
pub(in crate::config) struct RouteHost(pub(in crate::config) HostPattern);

impl Word for RouteHost {
    const EXPECTED: &'static str = "a host such as `api.example.com` or `*.example.com`, without a port";

    fn parse(text: &str) -> Result<Self, Misread> {
        if text == "*" {
            return Err("`*` alone; leave `host` out to match any host".into());
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            let host = canonical_host(suffix)?;
            if host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok() {
                return Err(Misread::Other);
            }
            return Ok(Self(HostPattern::Wildcard(format!(".{host}"))));
        }
        canonical_host(text).map(HostPattern::Exact).map(Self)
    }
}

/// A name that a client may send in SNI: exact or `*.wildcard`, never an address (RFC 6066 section 3).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SniName {
    /// The name in lower case; of a wildcard what follows `*`, with its dot.
    pub text: Arc<str>,
    /// Whether it was `*.` and this.
    pub wildcard: bool,
}

impl fmt::Display for SniName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.wildcard { "*" } else { "" }, self.text)
    }
}

impl Word for SniName {
    const EXPECTED: &'static str = "a DNS name such as `admin.example.com` or `*.example.com`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let (host, wildcard) = match RouteHost::parse(text)?.0 {
            HostPattern::Exact(host) => (host, false),
            HostPattern::Wildcard(suffix) => (suffix, true),
            HostPattern::Any => return Err(Misread::Other),
        };
        let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
        if is_address {
            Err("an address; clients name hosts, not addresses".into())
        } else {
            Ok(Self { text: host.into(), wildcard })
        }
    }
}

/// The path of a route: exact, or everything below a prefix with `/**` at its end.
#[derive(Clone, Debug)]
pub(in crate::config) struct RoutePath(pub(in crate::config) PathPattern);

impl Word for RoutePath {
    const EXPECTED: &'static str =
        "a canonical path such as `/healthz`, or `/api/**` for it and everything below";

    fn parse(text: &str) -> Result<Self, Misread> {
        let (literal, prefix) = match text.strip_suffix("/**") {
            Some(literal) => (literal, true),
            None => (text, false),
        };
        if literal.contains('*') {
            return Err("`*` stands only in `/**` at the end of a path".into());
        }
        if literal.is_empty() && prefix {
            return Ok(Self(PathPattern::Prefix(String::new())));
        }
        let canonical = canonical(literal)?;
        if prefix && literal.ends_with('/') {
            return Err("`//` never reaches a route: it is merged before".into());
        }
        Ok(Self(if prefix { PathPattern::Prefix(canonical) } else { PathPattern::Exact(canonical) }))
    }
}

/// A prefix that a rewrite takes away or puts in; without a final slash, so that `/` is empty.
#[derive(Clone, Debug)]
pub(in crate::config) struct PathPrefix(pub(in crate::config) String);

impl Word for PathPrefix {
    const EXPECTED: &'static str = "a canonical path prefix such as `/api`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let path = canonical(text)?;
        Ok(Self(path.strip_suffix('/').map(str::to_owned).unwrap_or(path)))
    }
}

words! {
    Name: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    RouteHost: r"^(\*\.)?[^/*]+$",
    SniName: r"^(\*\.)?[^/*:]+$",
    RoutePath: r"^/[^*]*(/\*\*)?$|^/\*\*$",
    PathPrefix: "^/[^*]*$",
}

fn canonical_host(text: &str) -> Result<String, Misread> {
    match authority::parse(text) {
        Ok(parsed) if parsed.port.is_some() => {
            Err("a port; the listener has the port, a route has the host alone".into())
        }
        Ok(parsed) => Ok(parsed.host.into_owned()),
        Err(_) => Err(Misread::Other),
    }
}

/// INVARIANT: a literal that requests are compared with is what [`canonical_path`] makes of itself, else no request
/// could ever match it.
fn canonical(text: &str) -> Result<String, Misread> {
    if text.contains(['?', '#']) {
        return Err("a query or fragment is no part of a path".into());
    }
    match canonical_path(text) {
        Ok(canonical) if canonical.path == text => Ok(text.to_owned()),
        Ok(canonical) => {
            Err(format!("not canonical, no request would match it; write `{}`", canonical.path).into())
        }
        Err(error) => Err(format!("not a path: {error}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_path_is_canonical_and_ends_in_two_stars_or_none() {
        assert_eq!(RoutePath::parse("/api/**").unwrap().0, PathPattern::Prefix("/api".into()));
        assert_eq!(RoutePath::parse("/**").unwrap().0, PathPattern::Prefix(String::new()));
        assert_eq!(RoutePath::parse("/").unwrap().0, PathPattern::Exact("/".into()));
        for text in [
            "api", "", "/a/../b", "/a//b", "/%61", "/a/*", "/a/**/b", "/a**", "/a?b", "/a b", "/a//**",
            "/a\\b",
        ] {
            assert!(RoutePath::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_has_no_port_and_one_spelling() {
        assert_eq!(
            RouteHost::parse("API.Example.com").unwrap().0,
            HostPattern::Exact("api.example.com".into())
        );
        assert_eq!(
            RouteHost::parse("*.example.com").unwrap().0,
            HostPattern::Wildcard(".example.com".into())
        );
        for text in ["*", "a:80", "a/b", "", "*.*.a", "a.*.b", "*.127.0.0.1"] {
            assert!(RouteHost::parse(text).is_err(), "{text}");
        }
        assert!(SniName::parse("127.0.0.1").is_err());
    }

    #[test]
    fn names_are_plain() {
        assert!(Name::parse("orders-v1.x_y").is_ok());
        for text in ["", "-a", "a b", "ä", "a\"b", &"a".repeat(65)] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
    }
}
