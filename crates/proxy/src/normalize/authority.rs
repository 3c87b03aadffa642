//! One canonical host (RFC 9110 section 7.2, RFC 9112 section 3.2).
//!
//! **Passes:** a DNS name, an IPv4 or a bracketed IPv6 address, each with an optional decimal port. Names are
//! lower-cased and lose one final dot. **Refused:** nothing, two, lists, user information, percent escapes, empty or
//! overlong labels, a port that is no number, and a `Host` that differs from the request target's authority.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::HOST;
use http::{HeaderMap, Uri};

/// Why a request names no single host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthorityError {
    /// Target and `Host` field differ.
    #[error("request target and `Host` differ")]
    Differ,
    /// The value is not `host` or `host:port`.
    #[error("malformed host")]
    Malformed,
    /// No host at all.
    #[error("no host")]
    Missing,
    /// More than one `Host` field.
    #[error("more than one `Host` field")]
    Several,
}

/// Host and optional port in canonical form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority<'a> {
    /// Lower case, no final dot; IPv6 keeps its brackets.
    pub host: Cow<'a, str>,
    /// The port, where one was given.
    pub port: Option<u16>,
}

/// The one authority that a request names.
///
/// # Errors
/// When there is none, more than one, or one that is malformed.
pub fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Authority<'a>, AuthorityError> {
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(AuthorityError::Several);
    }
    let field = match field {
        Some(value) => Some(parse(value.to_str().map_err(|_| AuthorityError::Malformed)?)?),
        None => None,
    };
    let target = match uri.authority() {
        Some(value) => Some(parse(value.as_str())?),
        None => None,
    };
    match (target, field) {
        (Some(target), Some(field)) if target != field => Err(AuthorityError::Differ),
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(AuthorityError::Missing),
    }
}

/// The canonical form of `host` or `host:port`.
///
/// # Errors
/// When the text is neither.
pub fn parse(text: &str) -> Result<Authority<'_>, AuthorityError> {
    let (host, port) = match text.rfind(']') {
        Some(end) => text.split_at(end + 1),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| AuthorityError::Malformed)?)
        }
        None if port.is_empty() => None,
        _ => return Err(AuthorityError::Malformed),
    };
    Ok(Authority { host: canonical_host(host)?, port })
}

fn canonical_host(host: &str) -> Result<Cow<'_, str>, AuthorityError> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|a| a.parse::<Ipv6Addr>().ok());
        return address.map(|a| Cow::Owned(format!("[{a}]"))).ok_or(AuthorityError::Malformed);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > MAX_NAME || !name.split('.').all(is_label) {
        return Err(AuthorityError::Malformed);
    }
    Ok(if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// RFC 1035 section 2.3.4.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: &str, hosts: &[&str]) -> Result<(String, Option<u16>), AuthorityError> {
        let uri: Uri = target.parse().unwrap();
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, http::HeaderValue::from_bytes(host.as_bytes()).unwrap());
        }
        authority(&uri, &headers).map(|a| (a.host.into_owned(), a.port))
    }

    #[test]
    fn hosts_have_one_spelling() {
        assert_eq!(of("/", &["GW.Test"]).unwrap(), ("gw.test".into(), None));
        assert_eq!(of("/", &["gw.test.:8443"]).unwrap(), ("gw.test".into(), Some(8443)));
        assert_eq!(of("/", &["[0:0::1]:1"]).unwrap(), ("[::1]".into(), Some(1)));
        assert_eq!(of("http://gw.test/x", &["GW.test"]).unwrap(), ("gw.test".into(), None));
        assert_eq!(of("https://gw.test/x", &[]).unwrap(), ("gw.test".into(), None));
    }

    #[test]
    fn no_host_two_hosts_and_odd_hosts_are_refused() {
        use AuthorityError::*;
        assert_eq!(of("/", &[]), Err(Missing));
        assert_eq!(of("/", &["a", "a"]), Err(Several));
        assert_eq!(of("http://a/", &["b"]), Err(Differ));
        for host in [
            "", ".", "a..b", "a, b", "u@a", "a/b", "a:", "a:80x", "a:99999", "a:1:2", "[::1", "[zz]", "a%00",
            "a\\b", "\u{e9}", "::1",
        ] {
            assert_eq!(of("/", &[host]), Err(Malformed), "{host}");
        }
    }
}
