//! What a route makes of requests and answers: fields that it removes and sets, and where it sends its callers.

use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, SET_COOKIE};
use http::uri::PathAndQuery;
use proxy::compress::{MediaRange, is_live};
use proxy::route::{Location, LocationPart, Place};
use url::Url;

use super::field::{GATEWAY, UNSETTABLE};
use super::{Misread, Word, words};

/// A field that a route may take from the request to its upstream.
#[derive(Clone, Debug)]
pub(in crate::config) struct RemovedField(pub(in crate::config) HeaderName);

impl Word for RemovedField {
    const EXPECTED: &'static str = "the name of a header field such as `x-debug`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let name = changeable(text)?;
        if name == AUTHORIZATION {
            return Err("`credentials` says what becomes of `authorization`; it is removed by default".into());
        }
        if GATEWAY.iter().any(|family| name.as_str().starts_with(family)) {
            return Err(format!("`{name}` is written by the gateway on every request").into());
        }
        Ok(Self(name))
    }
}

/// A field that a route may set on its answers.
#[derive(Clone, Debug)]
pub(in crate::config) struct AnswerField(pub(in crate::config) HeaderName);

impl Word for AnswerField {
    const EXPECTED: &'static str = "the name of a header field such as `cache-control`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let RemovedAnswerField(name) = RemovedAnswerField::parse(text)?;
        if name == SET_COOKIE {
            return Err("one cookie for everybody; a service gives each caller his own".into());
        }
        Ok(Self(name))
    }
}

/// A field that a route may take from its answers.
#[derive(Clone, Debug)]
pub(in crate::config) struct RemovedAnswerField(pub(in crate::config) HeaderName);

impl Word for RemovedAnswerField {
    const EXPECTED: &'static str = "the name of a header field such as `server`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let name = changeable(text)?;
        if name == "x-request-id" || name == "proxy-authenticate" {
            return Err(format!("`{name}` is the gateway's own").into());
        }
        Ok(Self(name))
    }
}

/// The value of a field, the same for everybody.
#[derive(Clone, Debug)]
pub(in crate::config) struct AnswerValue(pub(in crate::config) HeaderValue);

impl Word for AnswerValue {
    const EXPECTED: &'static str = "the value of a header field, as it stands";

    fn parse(text: &str) -> Result<Self, Misread> {
        if text.trim_ascii().len() != text.len() {
            return Err("white space at an end, which is no part of a field's value".into());
        }
        let value = HeaderValue::from_str(text).map_err(|_| "a character that no header field may hold")?;
        Ok(Self(value))
    }
}

/// The name of any field.
#[derive(Clone, Debug)]
pub(in crate::config) struct FieldName(pub(in crate::config) HeaderName);

impl Word for FieldName {
    const EXPECTED: &'static str = "the name of a header field such as `content-type`";

    fn parse(text: &str) -> Result<Self, Misread> {
        if text == "*" {
            return Err("`*`; name the fields, so that a new one is not open by chance".into());
        }
        HeaderName::from_bytes(text.as_bytes()).map(Self).map_err(|_| Misread::Other)
    }
}

/// Media types whose answers may be compressed.
#[derive(Clone, Debug)]
pub(in crate::config) struct CompressibleType(pub(in crate::config) MediaRange);

impl Word for CompressibleType {
    const EXPECTED: &'static str = "a media type such as `application/json`, or `text/*`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let lower = text.to_ascii_lowercase();
        let (kind, subtype) = lower.split_once('/').ok_or(Misread::Other)?;
        // RFC 9110 section 5.6.2, as far as registered names go (RFC 6838 section 4.2).
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        if is_live(&lower) {
            return Err("what is read piece by piece as it is written; it is never compressed".into());
        }
        match subtype {
            "*" if is_name(kind) => Ok(Self(MediaRange::Kind(format!("{kind}/").into()))),
            _ if is_name(kind) && is_name(subtype) => Ok(Self(MediaRange::One(lower.into()))),
            _ => Err(Misread::Other),
        }
    }
}

/// An origin as browsers write it; `None` is any.
#[derive(Clone, Debug)]
pub(in crate::config) struct CorsOrigin(pub(in crate::config) Option<HeaderValue>);

impl Word for CorsOrigin {
    const EXPECTED: &'static str = "an origin such as `https://app.example.com`, or `*`";

    fn parse(text: &str) -> Result<Self, Misread> {
        if text == "*" {
            return Ok(Self(None));
        }
        if text == "null" {
            return Err("`null`, which every sandboxed page and local file is".into());
        }
        if text.contains('*') {
            return Err("a pattern; origins are compared as they are, so that none is open by chance".into());
        }
        let url = Url::parse(text).map_err(|_| Misread::Other)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Misread::Other);
        }
        let origin = url.origin().ascii_serialization();
        if origin != text {
            return Err(format!("not as browsers write it: `{origin}`").into());
        }
        HeaderValue::from_str(text).map(Some).map(Self).map_err(|_| Misread::Other)
    }
}

/// The status of a redirect.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct RedirectStatus(pub(in crate::config) StatusCode);

impl Word for RedirectStatus {
    const EXPECTED: &'static str = "one of 301, 302, 303, 307 and 308";

    fn parse(text: &str) -> Result<Self, Misread> {
        let status = StatusCode::from_bytes(text.as_bytes()).map_err(|_| Misread::Other)?;
        if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            Ok(Self(status))
        } else {
            Err(Misread::Other)
        }
    }
}

/// Where a redirect goes.
#[derive(Clone, Debug)]
pub(in crate::config) struct LocationTemplate(pub(in crate::config) Location);

impl Word for LocationTemplate {
    const EXPECTED: &'static str = "a URL such as `https://{host}{path}{query}`, or a path such as `/new{path}`; known are {host}, {path} and {query}";

    fn parse(text: &str) -> Result<Self, Misread> {
        if !["https://", "http://", "/", "{path}"].iter().any(|start| text.starts_with(start)) {
            return Err(Misread::Other);
        }
        let location = Location(location_parts(text)?);
        if !leads_where_it_says(&location) {
            return Err("a URL whose host is neither written out nor `{host}` alone: a caller could say where it leads".into());
        }
        Ok(Self(location))
    }
}

fn location_parts(text: &str) -> Result<Vec<LocationPart>, Misread> {
    let is_plain = |byte: u8| matches!(byte, 0x21..=0x7e) && !b"\"<>\\^`|".contains(&byte);
    if !text.bytes().all(is_plain) {
        return Err("a character that no URL may hold".into());
    }
    let (mut parts, mut rest, mut in_query) = (Vec::new(), text, false);
    while let Some((before, tail)) = rest.split_once('{') {
        in_query |= literal(before, &mut parts)?;
        let (name, tail) = tail.split_once('}').ok_or("a brace without its partner")?;
        let place = match name {
            "host" => Place::Host,
            "path" => Place::Path,
            "query" => Place::Query,
            _ => {
                return Err(format!(
                    "unknown placeholder `{{{name}}}`; known are {{host}}, {{path}} and {{query}}"
                )
                .into());
            }
        };
        parts.push(if in_query { LocationPart::Encoded(place) } else { LocationPart::Plain(place) });
        in_query |= place == Place::Query;
        rest = tail;
    }
    literal(rest, &mut parts)?;
    if parts.is_empty() { Err(Misread::Other) } else { Ok(parts) }
}

/// Whether a query or a fragment begins in it.
fn literal(text: &str, parts: &mut Vec<LocationPart>) -> Result<bool, Misread> {
    if text.contains('}') {
        return Err("a brace without its partner".into());
    }
    if !text.is_empty() {
        parts.push(LocationPart::Text(text.to_owned()));
    }
    Ok(text.contains(['?', '#']))
}

/// True when no request leads it to another host than it names, or than its own: tried with hostile ones.
fn leads_where_it_says(location: &Location) -> bool {
    const HOSTS: [&str; 2] = ["asked.example", "other.example"];
    // On a page over the other scheme `https:/a` is another host, on this one it is a path.
    let bases = ["https://base.example/", "http://base.example/"].map(Url::parse);
    let targets = ["/", "/evil.example:80/@evil.example?@evil.example/"].map(PathAndQuery::from_static);
    let hosts: Option<Vec<Vec<String>>> = HOSTS
        .iter()
        .map(|host| {
            let led = bases.iter().flat_map(|base| {
                targets.each_ref().map(|target| led_to(location, base.as_ref().ok()?, (host, target)))
            });
            led.collect()
        })
        .collect();
    let Some(hosts) = hosts else { return false };
    let mut all = hosts.iter().flatten();
    let first = all.next();
    all.all(|host| Some(host) == first)
        || hosts.iter().zip(HOSTS).all(|(led, host)| led.iter().all(|led| led == host))
}

/// The host that a browser on a page of `base` would go to.
fn led_to(location: &Location, base: &Url, (host, target): (&str, &PathAndQuery)) -> Option<String> {
    let url = base.join(location.fill(host, target).ok()?.to_str().ok()?).ok()?;
    let is_web =
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if is_web { url.host_str().map(str::to_owned) } else { None }
}

fn changeable(text: &str) -> Result<HeaderName, Misread> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| Misread::Other)?;
    if UNSETTABLE.contains(&name.as_str()) {
        return Err(format!("`{name}` frames or routes the message; the gateway alone writes it").into());
    }
    if DESCRIBING.contains(&name.as_str()) {
        return Err(format!("`{name}` says how the body is to be read, and the body stays as it is").into());
    }
    Ok(name)
}

/// Without them, or with others, a body would be read otherwise than it was written.
const DESCRIBING: [&str; 2] = ["content-encoding", "content-range"];

words! {
    RemovedField: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
    AnswerField: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
    RemovedAnswerField: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
    AnswerValue: "^[^\\x00-\\x08\\x0a-\\x1f\\x7f]*$",
    FieldName: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
    CompressibleType: "^[A-Za-z0-9!#$&^_.+-]+/([A-Za-z0-9!#$&^_.+-]+|\\*)$",
    CorsOrigin: "^(\\*|https?://[^/]+)$",
    RedirectStatus: { "enum": [301, 302, 303, 307, 308] },
    LocationTemplate: "^[!-~]+$",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_is_one_media_type_or_a_kind_of_them() {
        let parse = |text| CompressibleType::parse(text).map(|range| range.0);
        assert_eq!(parse("Application/JSON").unwrap(), MediaRange::One("application/json".into()));
        assert_eq!(parse("text/*").unwrap(), MediaRange::Kind("text/".into()));
        for bad in ["*/*", "text", "text/", "/json", "text/html; charset=utf-8", "te xt/html", "*", "a/b/c"] {
            assert!(matches!(parse(bad), Err(Misread::Other)), "{bad}");
        }
        for live in ["text/event-stream", "application/grpc", "application/grpc+proto"] {
            assert!(matches!(parse(live), Err(Misread::Because(_))), "{live}");
        }
    }

    #[test]
    fn a_redirect_leads_to_the_host_that_it_names_or_stays() {
        for text in [
            "https://{host}{path}",
            "https://{host}:8443{path}{query}",
            "https://new.example.com{path}",
            "http://new.example.com:8080/a{path}?from={host}{query}",
            "/new{path}",
            "{path}.html{query}",
            "/",
            "https://new.example.com?to={path}",
            "//new.example.com{path}",
        ] {
            assert!(LocationTemplate::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "https://{host}.evil.example{path}",
            "https://new.{host}{path}",
            "https://{path}",
            "https:/{path}",
            "https:{path}",
            "/{path}",
            "{path}/",
            "//{path}",
            "//{host}@evil.example{path}",
            "https://new.example.com@{host}{path}",
            "https://new.example.com{host}",
            "https://{query}",
            "javascript:alert(1)",
            "data:{path}",
            "{host}{path}",
            "https://{nobody}",
            "https://{host",
            "https://a}",
            "/a b",
            "/a\r\nset-cookie:x",
            "/\\evil.example",
            "https://ümlaut.example/",
        ] {
            assert!(LocationTemplate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for text in ["https://app.example.com", "http://localhost:3000", "https://[::1]:8443", "*"] {
            assert!(CorsOrigin::parse(text).is_ok(), "{text}");
        }
        for text in [
            "null",
            "https://app.example.com/",
            "https://app.example.com:443",
            "https://App.example.com",
            "https://*.example.com",
            "https://user@app.example.com",
            "file:///etc",
            "app.example.com",
            "",
        ] {
            assert!(CorsOrigin::parse(text).is_err(), "{text}");
        }
        assert!(FieldName::parse("*").is_err() && FieldName::parse("content-type").is_ok());
    }

    #[test]
    fn what_frames_a_message_or_is_the_gateways_own_is_neither_set_nor_removed() {
        for name in
            ["Content-Length", "transfer-encoding", "connection", "trailer", "content-encoding", "a b", ""]
        {
            assert!(RemovedField::parse(name).is_err(), "{name}");
            assert!(AnswerField::parse(name).is_err() && RemovedAnswerField::parse(name).is_err(), "{name}");
        }
        for name in ["authorization", "x-forwarded-for", "x-request-id", "Forwarded", "host"] {
            assert!(RemovedField::parse(name).is_err(), "{name}");
        }
        assert!(RemovedField::parse("cookie").is_ok() && AnswerField::parse("cache-control").is_ok());
        assert!(AnswerField::parse("set-cookie").is_err() && RemovedAnswerField::parse("set-cookie").is_ok());
        assert!(
            AnswerField::parse("x-request-id").is_err() && RemovedAnswerField::parse("X-Request-Id").is_err()
        );
        for value in ["a\r\nb", " a", "a\0"] {
            assert!(AnswerValue::parse(value).is_err(), "{value:?}");
        }
    }
}
