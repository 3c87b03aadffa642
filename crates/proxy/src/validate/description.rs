//! A request as another proxy describes it.
//!
//! **Over HTTP** five fields describe it, each of them once: method, target and host by `X-Forwarded-Method`, `-Uri` and `-Host`
//! (Traefik, Caddy) or by `X-Original-Method`, `-URI` and `-Host` (nginx), scheme and client by `X-Forwarded-Proto` and `-For`. All
//! other fields of the question are the request's own. **Refused:** fields of both families, since the proxy overwrites one and
//! lets its client write the other; a missing field, one that stands twice, and a target with a fragment.
//!
//! **In Envoy's message** the same is said by attributes; its `source.certificate` and `source.principal` are not believed.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri};

use super::messages::{CheckRequest, HttpRequest};
use crate::normalize::client::last_hop;

/// Why a question describes no request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DescriptionError {
    /// Fields of two families.
    #[error("both `X-Original-` and `X-Forwarded-` fields describe the request")]
    Ambiguous,
    /// A field that is missing, stands twice, or cannot be read.
    #[error("`{0}` is missing, stands twice or cannot be read")]
    Field(&'static str),
    /// No check request, or one without what must be there.
    #[error("no check request with {0}")]
    Message(&'static str),
    /// It came without TLS to a listener that has it.
    #[error("the request came without TLS, and the listener speaks TLS only")]
    Plain,
}

/// A request that was described, with its fields as they came.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) head: Parts,
    /// The other end of the other proxy's connection.
    pub(super) peer: IpAddr,
    pub(super) is_tls: bool,
}

/// Method, target and host, as one family of proxies calls them.
type Family = [HeaderName; 3];

const FORWARDED: Family = [
    HeaderName::from_static("x-forwarded-method"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-forwarded-host"),
];
const ORIGINAL: Family = [
    HeaderName::from_static("x-original-method"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-host"),
];

impl Described {
    /// The request that the fields of this one describe.
    ///
    /// # Errors
    /// They describe none, or more than one.
    pub(super) fn by_fields(question: Parts) -> Result<Self, DescriptionError> {
        use DescriptionError::{Ambiguous, Field};
        let fields = &question.headers;
        let says = |family: &Family| family.iter().any(|name| fields.contains_key(name));
        let [method, target, host] = match (says(&ORIGINAL), says(&FORWARDED)) {
            (true, true) => return Err(Ambiguous),
            (true, false) => ["x-original-method", "x-original-uri", "x-original-host"],
            (false, _) => ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host"],
        };
        let method = method_of(once(fields, method)?.as_bytes()).ok_or(Field(method))?;
        let target = target_of(once(fields, target)?.as_bytes()).ok_or(Field(target))?;
        let host = once(fields, host)?.clone();
        let is_tls = match once(fields, "x-forwarded-proto")?.as_bytes() {
            b"https" => true,
            b"http" => false,
            _ => return Err(Field("x-forwarded-proto")),
        };
        let peer = last_hop(fields).ok_or(Field("x-forwarded-for"))?;
        let mut head = question;
        head.method = method;
        head.uri = target;
        head.headers.insert(HOST, host);
        head.extensions.clear();
        Ok(Self { head, peer, is_tls })
    }

    /// The request that Envoy's message describes.
    ///
    /// # Errors
    /// Method, target or the client's address is missing, or a field is none.
    pub(super) fn by_message(message: &CheckRequest) -> Result<Self, DescriptionError> {
        use DescriptionError::Message;
        let attributes = message.attributes.as_ref().ok_or(Message("attributes"))?;
        let http = attributes.request.as_ref().and_then(|request| request.http.as_ref());
        let http = http.ok_or(Message("an HTTP request"))?;
        let address = attributes.source.as_ref().and_then(|source| {
            source.address.as_ref()?.socket_address.as_ref()?.address.parse::<IpAddr>().ok()
        });
        let mut head = Request::new(()).into_parts().0;
        head.method = method_of(http.method.as_bytes()).ok_or(Message("a method"))?;
        head.uri = target_of(http.path.as_bytes()).ok_or(Message("a path"))?;
        head.headers = fields(http).ok_or(Message("fields that can be read"))?;
        head.headers.insert(HOST, HeaderValue::from_str(&http.host).map_err(|_| Message("a host"))?);
        Ok(Self {
            head,
            peer: address.ok_or(Message("the client's address"))?.to_canonical(),
            is_tls: http.scheme == "https",
        })
    }
}

fn once<'a>(fields: &'a HeaderMap, name: &'static str) -> Result<&'a HeaderValue, DescriptionError> {
    let mut values = fields.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(DescriptionError::Field(name)),
    }
}

fn method_of(name: &[u8]) -> Option<Method> {
    Method::from_bytes(name).ok()
}

/// A target as a request line has it. What follows a `#` would be lost in reading, and is sent on by the other proxy.
fn target_of(text: &[u8]) -> Option<Uri> {
    if text.contains(&b'#') {
        return None;
    }
    Uri::try_from(text).ok()
}

/// The fields of a request in Envoy's message; none if one of them is no field.
fn fields(http: &HttpRequest) -> Option<HeaderMap> {
    let mut fields = HeaderMap::with_capacity(http.headers.len() + 1);
    let plain = http.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let raw = http.header_map.iter().flat_map(|map| &map.headers).map(|field| {
        (
            field.key.as_str(),
            if field.raw_value.is_empty() { field.value.as_bytes() } else { &*field.raw_value },
        )
    });
    for (name, value) in plain.chain(raw).filter(|(name, _)| !name.starts_with(':')) {
        fields.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::messages::{
        Address, Attributes, HeaderMap as RawFields, HeaderValue as RawField, Peer, SocketAddress,
    };

    const TRAEFIK: [(&str, &str); 5] = [
        ("x-forwarded-method", "POST"),
        ("x-forwarded-uri", "/orders?id=1"),
        ("x-forwarded-host", "api.example.com:8443"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "203.0.113.7, 198.51.100.1"),
    ];
    const NGINX: [(&str, &str); 5] = [
        ("x-original-method", "POST"),
        ("x-original-uri", "/orders?id=1"),
        ("x-original-host", "api.example.com:8443"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "198.51.100.1"),
    ];

    fn described(fields: &[(&str, &str)]) -> Result<Described, DescriptionError> {
        let mut request = Request::get("http://127.0.0.1:9191/ask").header(HOST, "127.0.0.1:9191");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        Described::by_fields(request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn either_family_describes_a_request_and_its_own_fields_stay() {
        for family in [TRAEFIK, NGINX] {
            let fields = [family.as_slice(), &[("authorization", "Bearer x")]].concat();
            let Described { head, peer, is_tls } = described(&fields).unwrap();
            assert_eq!((head.method, head.uri), (Method::POST, Uri::from_static("/orders?id=1")));
            assert_eq!(head.headers.get_all(HOST).iter().collect::<Vec<_>>(), ["api.example.com:8443"]);
            assert_eq!(head.headers["authorization"], "Bearer x");
            assert_eq!((peer.to_string().as_str(), is_tls), ("198.51.100.1", true));
        }
    }

    #[test]
    fn a_field_that_is_missing_or_stands_twice_describes_nothing() {
        for family in [TRAEFIK, NGINX] {
            for at in 0..family.len() {
                let mut without = family.to_vec();
                let (name, _) = without.remove(at);
                assert_eq!(described(&without).unwrap_err().to_string().split('`').nth(1), Some(name));
                if name != "x-forwarded-for" {
                    let twice = [family.as_slice(), &[family[at]]].concat();
                    assert!(matches!(described(&twice), Err(DescriptionError::Field(_))), "{name}");
                }
            }
        }
        assert!(matches!(described(&[]), Err(DescriptionError::Field("x-forwarded-method"))));
    }

    /// nginx overwrites one family and passes on what its client writes of the other.
    #[test]
    fn a_client_cannot_add_a_second_description() {
        for (family, other) in [(TRAEFIK, NGINX), (NGINX, TRAEFIK)] {
            for field in &other[..3] {
                let fields = [family.as_slice(), &[*field]].concat();
                assert!(matches!(described(&fields), Err(DescriptionError::Ambiguous)), "{field:?}");
            }
        }
    }

    #[test]
    fn values_that_can_be_read_in_two_ways_describe_nothing() {
        for (at, value) in [
            (0, "GE T"),
            (0, ""),
            (1, "/orders#/../admin"),
            (1, "/a b"),
            (1, ""),
            (3, "https, http"),
            (3, "HTTPS"),
            (3, "ws"),
            (4, "203.0.113.7, unknown"),
            (4, ""),
        ] {
            let mut fields = TRAEFIK;
            fields[at].1 = value;
            assert!(matches!(described(&fields), Err(DescriptionError::Field(_))), "{value:?}");
        }
    }

    fn message() -> CheckRequest {
        let socket_address = Some(SocketAddress { address: "::ffff:203.0.113.7".into() });
        let fields = [(":method", "GET"), (":path", "/forged"), ("accept", "*/*")];
        let http = HttpRequest {
            method: "POST".into(),
            headers: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            path: "/orders?id=1".into(),
            host: "api.example.com".into(),
            scheme: "https".into(),
            header_map: Some(RawFields {
                headers: vec![RawField {
                    key: "x-name".into(),
                    raw_value: b"\xe9".to_vec().into(),
                    ..RawField::default()
                }],
            }),
        };
        CheckRequest {
            attributes: Some(Attributes {
                source: Some(Peer { address: Some(Address { socket_address }) }),
                request: Some(super::super::messages::Request { http: Some(http) }),
            }),
        }
    }

    #[test]
    fn a_message_describes_a_request_by_its_attributes_alone() {
        let Described { head, peer, is_tls } = Described::by_message(&message()).unwrap();
        assert_eq!((head.method, head.uri), (Method::POST, Uri::from_static("/orders?id=1")));
        assert_eq!((head.headers[HOST].to_str().unwrap(), head.headers.len()), ("api.example.com", 3));
        assert_eq!(head.headers["x-name"].as_bytes(), b"\xe9");
        assert_eq!((peer.to_string().as_str(), is_tls), ("203.0.113.7", true));
    }

    #[test]
    fn a_message_without_what_must_be_there_describes_nothing() {
        let broken = |change: fn(&mut CheckRequest)| {
            let mut message = message();
            change(&mut message);
            Described::by_message(&message).unwrap_err()
        };
        fn http(message: &mut CheckRequest) -> &mut HttpRequest {
            message.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap()
        }
        for change in [
            (|message| message.attributes = None) as fn(&mut CheckRequest),
            |message| message.attributes.as_mut().unwrap().source = None,
            |message| message.attributes.as_mut().unwrap().request = None,
            |message| http(message).method.clear(),
            |message| http(message).path = "/a#b".into(),
            |message| http(message).host = "a\nb".into(),
            |message| drop(http(message).headers.insert("a b".into(), String::new())),
            |message| drop(http(message).headers.insert("a".into(), "b\r\nc".into())),
        ] {
            assert!(matches!(broken(change), DescriptionError::Message(_)));
        }
    }
}
