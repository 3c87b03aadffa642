//! Header fields of a request: what never passes, in whatever spelling.
//!
//! **Removed always:** hop-by-hop fields (RFC 9110 section 7.6.1) with all that `Connection` lists, and framing that
//! the upstream connection makes anew. **Removed from untrusted peers:** every spelling (`-`, `_`, `.`, any case) of
//! every identity and forwarding field, those included that any route sets. **Refused:** two `Authorization`
//! fields, an expectation other than `100-continue`. Cookie crumbs (RFC 9113 section 8.2.3) are joined.

use std::collections::HashSet;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

use crate::refusal::Refusal;

/// The names that only the gateway may set, compared with `_` and `.` read as `-`.
#[derive(Clone, Debug, Default)]
pub struct Reserved {
    configured: HashSet<Box<str>>,
}

impl Reserved {
    /// The built-in names, and those that the configuration's routes set.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a HeaderName>) -> Self {
        Self { configured: configured.into_iter().map(|name| dashed(name.as_str()).into()).collect() }
    }

    /// True when a field of this name says who the caller is or where it came from.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        if name.contains(['_', '.']) {
            let name = dashed(name);
            return self.holds(&name) || is_framing(&name);
        }
        self.holds(name)
    }

    fn holds(&self, name: &str) -> bool {
        // Most names (accept, user-agent, authorization, …) are done with after one byte.
        let may_be_built_in =
            matches!(name.as_bytes().first(), Some(b'c' | b'f' | b'p' | b'r' | b's' | b't' | b'v' | b'x'));
        may_be_built_in && (FAMILIES.iter().any(|family| name.starts_with(family)) || NAMES.contains(&name))
            || !self.configured.is_empty() && self.configured.contains(name)
    }
}

/// Cleans the fields of a request head in place.
///
/// # Errors
/// Two `Authorization` fields, unknown expectations and transfer codings are refused.
pub fn clean_request(headers: &mut HeaderMap, reserved: &Reserved) -> Result<(), Refusal> {
    let (mut credentials, mut crumbs, mut codings) = (0, 0, 0);
    let (mut takes_trailers, mut has_host) = (false, false);
    let mut unwanted: Vec<HeaderName> = Vec::new();
    // One pass: most requests have nothing to remove but `Host`.
    for (name, value) in headers.iter() {
        match name.as_str() {
            "authorization" => credentials += 1,
            "cookie" => crumbs += 1,
            "expect" if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
                return Err(Refusal::ExpectationUnknown);
            }
            "transfer-encoding" => {
                codings += 1;
                if codings > 1 || !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::TransferCodingUnknown);
                }
                unwanted.push(name.clone());
            }
            "connection" => {
                unwanted.extend(list(value).filter_map(|token| HeaderName::from_bytes(token).ok()));
                unwanted.push(name.clone());
            }
            "te" => {
                takes_trailers |= list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
                unwanted.push(name.clone());
            }
            // Every request has it: the list of what else is unwanted mostly stays empty.
            "host" => has_host = true,
            "content-length" | "expect" | "keep-alive" | "proxy-connection" | "upgrade" => {
                unwanted.push(name.clone());
            }
            other if reserved.contains(other) => unwanted.push(name.clone()),
            _ => {}
        }
    }
    if credentials > 1 {
        return Err(Refusal::SeveralCredentials);
    }
    if has_host {
        headers.remove(HOST);
    }
    for name in unwanted {
        headers.remove(name);
    }
    if takes_trailers {
        // Said anew for the next hop, or the upstream would leave out what the client wants (RFC 9110 section 10.1.4).
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if crumbs > 1 {
        join_cookies(headers);
    }
    Ok(())
}

/// The members of a list field.
pub(crate) fn list(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Removes hop-by-hop fields, all that `Connection` lists, and message framing.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(list)
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [&CONTENT_LENGTH, &TRANSFER_ENCODING, &TE, &UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// Removes from a trailer section what may not stand there (RFC 9110 section 6.5.1) and what is reserved.
pub fn clean_trailers(trailers: &mut HeaderMap, reserved: &Reserved) {
    let unwanted: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| {
            reserved.contains(name.as_str()) || is_framing(name.as_str()) || CONTROL.contains(&name.as_str())
        })
        .cloned()
        .collect();
    for name in unwanted {
        trailers.remove(name);
    }
}

fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice())) {
        headers.insert(COOKIE, joined);
    }
}

fn dashed(name: &str) -> String {
    name.replace(['_', '.'], "-")
}

fn is_framing(name: &str) -> bool {
    [CONTENT_LENGTH, TRANSFER_ENCODING, HOST, CONNECTION, TE, TRAILER, UPGRADE]
        .iter()
        .any(|framing| name == framing.as_str())
        || name == "keep-alive"
}

/// Families of names that proxies and identity providers use; every name that starts so is reserved.
const FAMILIES: &[&str] = &[
    "cf-connecting-ip",
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-client-cert",
    "x-envoy-",
    "x-forwarded",
    "x-gateway-",
    "x-goog-authenticated-user-",
    "x-original-",
    "x-pomerium-",
    "x-portcullis-",
    "x-remote-",
    "x-rewrite-",
    "x-ssl-",
    "x-tailscale-",
];

/// Single names that say who or where from, or that turn a server into an open proxy (`proxy`, CVE-2016-5385).
const NAMES: &[&str] = &[
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    "proxy",
    "proxy-authorization",
    "remote-user",
    "ssl-client-cert",
    "ssl-client-verify",
    "traceparent",
    "tracestate",
    "true-client-ip",
    "via",
    "x-accel-redirect",
    "x-client-id",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-request-id",
    "x-sendfile",
    "x-url-scheme",
    "x-user",
    "x-user-id",
    "x-webauth-user",
];

/// Fields that control routing, authentication or processing and so never count in a trailer section.
const CONTROL: &[&str] = &[
    "authorization",
    "cache-control",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "max-forwards",
    "pragma",
    "range",
    "set-cookie",
    "www-authenticate",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(fields: &[(&str, &str)]) -> Result<HeaderMap, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let set = HeaderName::from_static("x-tenant");
        clean_request(&mut headers, &Reserved::new([&set])).map(|()| headers)
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_lists_do_not_pass() {
        let got = cleaned(&[
            ("connection", "close, Foo"),
            ("connection", "bar"),
            ("foo", "1"),
            ("bar", "1"),
            ("keep-alive", "1"),
            ("te", "deflate"),
            ("upgrade", "x"),
            ("transfer-encoding", "chunked"),
            ("content_length", "5"),
            ("accept", "*/*"),
        ])
        .unwrap();
        assert_eq!(got.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn only_the_wish_for_trailers_is_said_anew() {
        let got = cleaned(&[("te", "deflate;q=0.5, Trailers"), ("connection", "te")]).unwrap();
        assert_eq!((&got[TE], &got[CONNECTION]), (&"trailers".parse().unwrap(), &"te".parse().unwrap()));
    }

    #[test]
    fn every_built_in_name_is_found() {
        let reserved = Reserved::default();
        for name in NAMES.iter().chain(FAMILIES) {
            assert!(reserved.contains(name), "{name}");
        }
        assert!(!reserved.contains("accept") && !reserved.contains("x-custom"));
    }

    #[test]
    fn crumbs_are_joined_and_two_credentials_refused() {
        let got = cleaned(&[("cookie", "a=1"), ("cookie", "b=2")]).unwrap();
        assert_eq!(got.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
        assert!(matches!(
            cleaned(&[("authorization", "a"), ("authorization", "a")]),
            Err(Refusal::SeveralCredentials)
        ));
        assert!(matches!(cleaned(&[("expect", "y 100-continue")]), Err(Refusal::ExpectationUnknown)));
    }

    proptest::proptest! {
        #[test]
        fn no_spelling_of_a_reserved_name_passes(
            name in proptest::sample::select(vec!["x-forwarded-for", "x-tenant", "forwarded", "x-real-ip", "x-client-id", "x-request-id"]),
            separators in proptest::collection::vec(proptest::sample::select(vec!['-', '_', '.']), 4),
            upper in proptest::collection::vec(proptest::bool::ANY, 24),
        ) {
            let mut separators = separators.into_iter();
            let spelled: String = name
                .chars()
                .zip(upper)
                .map(|(c, up)| match c {
                    '-' => separators.next().unwrap(),
                    c if up => c.to_ascii_uppercase(),
                    c => c,
                })
                .collect();
            let got = cleaned(&[(&spelled, "spoof"), ("accept", "x")]).unwrap();
            proptest::prop_assert_eq!(got.len(), 1);
        }
    }
}
