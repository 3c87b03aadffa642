//! Methods, header fields and what they are set to, statuses, peers' names, algorithms, files.

use std::path::PathBuf;

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use identity::SpiffeId;
use identity::jwt::Algorithm;

use proxy::route::{Part, Template};

use super::pattern::Name;
use super::{Misread, Word, words};

/// A method that a route may take.
#[derive(Clone, Debug)]
pub(in crate::config) struct RouteMethod(pub(in crate::config) Method);

impl Word for RouteMethod {
    const EXPECTED: &'static str = "a method such as `GET` or `POST`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let method = Method::from_bytes(text.as_bytes()).map_err(|_| Misread::Other)?;
        if method == Method::CONNECT || method == Method::TRACE {
            return Err(format!("`{method}` is refused on every route").into());
        }
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(format!("methods are case-sensitive; write `{}`", text.to_ascii_uppercase()).into());
        }
        Ok(Self(method))
    }
}

/// A field that a route may set on the request to its upstream.
#[derive(Clone, Debug)]
pub(in crate::config) struct SetField(pub(in crate::config) HeaderName);

impl Word for SetField {
    const EXPECTED: &'static str = "the name of a header field such as `x-client-id`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| Misread::Other)?;
        if UNSETTABLE.contains(&name.as_str()) {
            return Err(format!("`{name}` frames or routes the message; the gateway alone writes it").into());
        }
        if GATEWAY.iter().any(|family| name.as_str().starts_with(family)) {
            return Err(format!("`{name}` is written by the gateway on every request").into());
        }
        if CREDENTIALS.contains(&name.as_str()) {
            return Err(
                format!("`{name}` carries a credential; secrets do not stand in the configuration").into()
            );
        }
        Ok(Self(name))
    }
}

/// A field that carries a credential of the gateway's own to an upstream.
#[derive(Clone, Debug)]
pub(in crate::config) struct CredentialField(pub(in crate::config) HeaderName);

impl Word for CredentialField {
    const EXPECTED: &'static str = "the name of a header field such as `x-api-key`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| Misread::Other)?;
        if UNSETTABLE.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
            return Err(format!("`{name}` frames or routes the message, or ends at the next hop").into());
        }
        if GATEWAY.iter().any(|family| name.as_str().starts_with(family)) {
            return Err(format!("`{name}` is written by the gateway on every request").into());
        }
        Ok(Self(name))
    }
}

/// What a field is set to.
#[derive(Clone, Debug)]
pub(in crate::config) struct FieldTemplate(pub(in crate::config) Template);

impl Word for FieldTemplate {
    const EXPECTED: &'static str = "text with the placeholders `{principal}`, `{subject}`, `{address}` and `{claim.NAME}`; `{{` is a brace";

    fn parse(text: &str) -> Result<Self, Misread> {
        let parts = parts(text)?;
        let fixed: Option<String> = parts
            .iter()
            .map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None })
            .collect();
        for part in &parts {
            if let Part::Text(text) = part {
                HeaderValue::from_str(text).map_err(|_| "a character that no header field may hold")?;
            }
        }
        match fixed {
            Some(text) => {
                let value =
                    HeaderValue::from_str(&text).map_err(|_| "a character that no header field may hold")?;
                Ok(Self(Template::Fixed(value)))
            }
            None => Ok(Self(Template::Parts(parts))),
        }
    }
}

fn parts(text: &str) -> Result<Vec<Part>, Misread> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, tail) = rest.split_at(at);
        literal.push_str(before);
        if let Some(tail) = tail.strip_prefix("{{") {
            literal.push('{');
            rest = tail;
        } else if let Some(tail) = tail.strip_prefix("}}") {
            literal.push('}');
            rest = tail;
        } else {
            let placeholder = tail.strip_prefix('{').and_then(|tail| tail.split_once('}'));
            let (name, tail) =
                placeholder.ok_or("a brace without its partner; `{{` and `}}` are plain braces")?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(placeholder_part(name)?);
            rest = tail;
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() || parts.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

fn placeholder_part(name: &str) -> Result<Part, Misread> {
    match name {
        "principal" => Ok(Part::Principal),
        "subject" => Ok(Part::Subject),
        "address" => Ok(Part::Address),
        _ => match name.strip_prefix("claim.") {
            Some(claim) if Name::parse(claim).is_ok() => Ok(Part::Claim(claim.to_owned())),
            _ => Err(format!("unknown placeholder `{{{name}}}`; known are {{principal}}, {{subject}}, {{address}} and {{claim.NAME}}").into()),
        },
    }
}

/// The status of a response that the gateway makes itself.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct FinalStatus(pub(in crate::config) StatusCode);

impl Word for FinalStatus {
    const EXPECTED: &'static str = "a final status from 200 to 599";

    fn parse(text: &str) -> Result<Self, Misread> {
        let status = StatusCode::from_bytes(text.as_bytes()).map_err(|_| Misread::Other)?;
        if (200..600).contains(&status.as_u16()) { Ok(Self(status)) } else { Err(Misread::Other) }
    }
}

/// Whom an upstream must prove to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExpectedPeer {
    /// This SPIFFE id.
    Spiffe(SpiffeId),
    /// A certificate for this DNS name.
    Dns(String),
}

impl Word for ExpectedPeer {
    const EXPECTED: &'static str = "a SPIFFE id such as `spiffe://example.org/orders`, or a DNS name";

    fn parse(text: &str) -> Result<Self, Misread> {
        if text.starts_with("spiffe:") {
            return SpiffeId::parse(text).map(Self::Spiffe).map_err(|error| error.to_string().into());
        }
        let name = super::pattern::SniName::parse(text)?;
        if name.wildcard { Err(Misread::Other) } else { Ok(Self::Dns(name.text.to_string())) }
    }
}

/// A signature algorithm that tokens may carry.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct TokenAlgorithm(pub(in crate::config) Algorithm);

impl Word for TokenAlgorithm {
    const EXPECTED: &'static str =
        "one of `ES256`, `ES384`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `EdDSA`";

    fn parse(text: &str) -> Result<Self, Misread> {
        if text.to_ascii_uppercase().starts_with("HS") {
            return Err("an HMAC algorithm: whoever can verify such a token can forge it, and a public key could be used as the secret".into());
        }
        if text.eq_ignore_ascii_case("none") {
            return Err("`none` is no signature: anybody could write such a token".into());
        }
        text.parse().map(Self).map_err(|_| Misread::Other)
    }
}

/// The name of a file, relative to the configuration's directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct FilePath(pub(in crate::config) PathBuf);

impl Word for FilePath {
    const EXPECTED: &'static str = "the path of a file";

    fn parse(text: &str) -> Result<Self, Misread> {
        if text.contains("-----BEGIN") || text.contains('\n') {
            return Err(
                "the content of a file; write its path, secrets do not stand in the configuration".into()
            );
        }
        if text.is_empty() || text.contains('\0') {
            Err(Misread::Other)
        } else {
            Ok(Self(PathBuf::from(text)))
        }
    }
}

/// Who vouches for an issuer's server.
#[derive(Clone, Debug)]
pub(in crate::config) enum IssuerTrust {
    /// The machine's trust store.
    System,
    /// The CA certificates in this file.
    File(PathBuf),
}

impl Word for IssuerTrust {
    const EXPECTED: &'static str = "`system` or the path of a PEM file with CA certificates";

    fn parse(text: &str) -> Result<Self, Misread> {
        if text == "system" { Ok(Self::System) } else { FilePath::parse(text).map(|path| Self::File(path.0)) }
    }
}

words! {
    IssuerTrust: "^.+$",
    RouteMethod: "^[A-Z][A-Z0-9_-]*$",
    CredentialField: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
    SetField: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
    FieldTemplate: "^[^\\x00-\\x08\\x0a-\\x1f\\x7f]*$",
    ExpectedPeer: "^.+$",
    FilePath: "^.+$",
    FinalStatus: { "type": "integer", "minimum": 200, "maximum": 599 },
    TokenAlgorithm: { "enum": ["ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"] },
}

/// Fields that frame a message, belong to one connection, or decide where it goes (RFC 9110 section 7.6.1).
pub(super) const UNSETTABLE: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Fields, and beginnings of names, that the gateway sets itself.
pub(super) const GATEWAY: [&str; 6] =
    ["forwarded", "x-forwarded-", "x-real-ip", "x-request-id", "traceparent", "tracestate"];

/// Fields whose value would be a secret written into the file.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

#[cfg(test)]
mod tests {
    use super::*;

    fn because(misread: Misread) -> String {
        match misread {
            Misread::Other => "other".to_owned(),
            Misread::Because(reason) => reason.into_owned(),
        }
    }

    #[test]
    fn a_template_knows_its_placeholders() {
        let Template::Parts(parts) = FieldTemplate::parse("id={principal};{claim.dept}{{x}}").unwrap().0
        else {
            panic!()
        };
        assert_eq!(
            parts,
            [
                Part::Text("id=".into()),
                Part::Principal,
                Part::Text(";".into()),
                Part::Claim("dept".into()),
                Part::Text("{x}".into()),
            ]
        );
        assert!(matches!(FieldTemplate::parse("plain").unwrap().0, Template::Fixed(_)));
        for text in ["{nobody}", "{", "}", "{principal", "a\nb", "{principal}\r\n", "{claim.}"] {
            assert!(FieldTemplate::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn fields_that_frame_identify_or_carry_credentials_cannot_be_set() {
        for name in [
            "Transfer-Encoding",
            "host",
            "connection",
            "X-Forwarded-For",
            "X-Real-IP",
            "Forwarded",
            "authorization",
            "a b",
            "",
        ] {
            assert!(SetField::parse(name).is_err(), "{name}");
        }
        assert!(SetField::parse("X-Client-Id").is_ok());
        for name in ["te", "Host", "Proxy-Authorization", "proxy-connection", "X-Forwarded-For", "a b", ""] {
            assert!(CredentialField::parse(name).is_err(), "{name}");
        }
        assert!(CredentialField::parse("Authorization").is_ok() && CredentialField::parse("cookie").is_ok());
    }

    #[test]
    fn hmac_and_none_are_refused_with_the_reason() {
        assert!(because(TokenAlgorithm::parse("HS256").unwrap_err()).contains("forge"));
        assert!(because(TokenAlgorithm::parse("none").unwrap_err()).contains("no signature"));
        assert_eq!(because(TokenAlgorithm::parse("es256").unwrap_err()), "other");
    }

    #[test]
    fn a_key_pasted_in_place_of_a_path_is_not_repeated() {
        let reason =
            because(FilePath::parse(concat!("-----BEGIN ", "PRIVATE KEY-----\ncanary")).unwrap_err());
        assert!(!reason.contains("canary") && reason.contains("path"));
    }
}
