//! Which bodies are looked at.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// A body that can be taken apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// `application/x-www-form-urlencoded`, and a body that does not say what it is.
    UrlEncoded,
    /// `multipart/form-data`; files are not looked into.
    Multipart,
    /// `application/json`, `text/json` and `…+json`.
    Json,
    /// `application/xml`, `text/xml` and `…+xml`.
    Xml,
}

impl Form {
    /// What a request with these fields says of its body; `None` if that is not looked at.
    #[must_use]
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let Some(kind) = fields.get(CONTENT_TYPE) else { return Some(Self::UrlEncoded) };
        let kind = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
        match kind.split([';', ',']).next().unwrap_or_default().trim() {
            "" | "application/x-www-form-urlencoded" => Some(Self::UrlEncoded),
            "multipart/form-data" => Some(Self::Multipart),
            "application/json" | "text/json" => Some(Self::Json),
            "application/xml" | "text/xml" => Some(Self::Xml),
            other if other.ends_with("+json") => Some(Self::Json),
            other if other.ends_with("+xml") => Some(Self::Xml),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_body_is_what_its_type_says_and_a_form_if_that_says_nothing() {
        let form = |kind: &str| {
            Form::of(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]))
        };
        assert_eq!(Form::of(&HeaderMap::new()), Some(Form::UrlEncoded));
        assert_eq!(form("Application/JSON; charset=utf-8"), Some(Form::Json));
        assert_eq!(form("application/problem+json"), Some(Form::Json));
        assert_eq!(form("application/soap+xml"), Some(Form::Xml));
        assert_eq!(form("multipart/form-data; boundary=x"), Some(Form::Multipart));
        assert_eq!(form("application/octet-stream"), None);
        assert_eq!(form("application/grpc"), None);
    }
}
