//! Which pages of other origins may read a route's answers, and send it what forms cannot (Fetch standard, section 3.2).
//!
//! **A preflight** is answered here, before authentication: browsers send no credentials with it. It grants nothing: the
//! request that follows is authenticated, limited and decided like any other. **Refused:** a preflight from an origin, for a
//! method or with fields that the route does not name. **Every answer** of the route, refusals included, has its CORS fields
//! from here; those of the upstream are taken away. A request that comes from another origin without a preflight is not
//! refused for that: CORS protects answers, it is no protection against forged requests.

use std::time::Duration;

use http::Method;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, VARY,
};

use crate::refusal::Refusal;

/// What a route says of CORS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CorsRules {
    /// Serialized origins, compared byte by byte; `None` is any.
    pub origins: Option<Vec<HeaderValue>>,
    /// Methods beside GET, HEAD and POST, which pages may use anyway.
    pub methods: Vec<Method>,
    /// Request fields that pages may set.
    pub fields: Vec<HeaderName>,
    /// Response fields that pages may read, beside the few that they always may.
    pub expose: Vec<HeaderName>,
    /// Pages may read answers to requests with cookies or client certificates. INVARIANT: never with any origin.
    pub credentials: bool,
    /// For how long a browser may remember a preflight.
    pub max_age: Duration,
}

/// The same, as field values.
#[derive(Debug)]
pub struct Cors {
    rules: CorsRules,
    methods: HeaderValue,
    fields: Option<HeaderValue>,
    expose: Option<HeaderValue>,
}

/// The method that a preflight asks for; `None` if the request is none.
pub(crate) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    Method::from_bytes(headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

impl Cors {
    /// By these rules.
    #[must_use]
    pub fn new(rules: CorsRules) -> Self {
        let names = |names: &[HeaderName]| list(names.iter().map(HeaderName::as_str));
        Self {
            methods: list(rules.methods.iter().map(Method::as_str)).unwrap_or(HeaderValue::from_static("")),
            fields: names(&rules.fields),
            expose: names(&rules.expose),
            rules,
        }
    }

    /// The fields of the answer to a preflight that asks for `method`.
    ///
    /// # Errors
    /// When the origin, the method or a field is not named by the route.
    pub(crate) fn grant(&self, method: &Method, asked: &HeaderMap) -> Result<HeaderMap, Refusal> {
        let refused = |what| Err(Refusal::CrossOrigin(what));
        let Some(origin) = self.allowed(one(asked, &ORIGIN)) else { return refused("origin") };
        let is_simple = matches!(*method, Method::GET | Method::HEAD | Method::POST);
        if !is_simple && !self.rules.methods.contains(method) {
            return refused("method");
        }
        let fields = asked.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
        let mut fields =
            fields.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        let is_named = |field: &[u8]| {
            self.rules.fields.iter().any(|name| name.as_str().as_bytes().eq_ignore_ascii_case(field))
        };
        if !fields.all(|field| field.is_empty() || is_named(field)) {
            return refused("header field");
        }
        let mut granted = HeaderMap::new();
        self.show(origin, &mut granted);
        granted.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        if let Some(fields) = &self.fields {
            granted.insert(ACCESS_CONTROL_ALLOW_HEADERS, fields.clone());
        }
        granted.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.rules.max_age.as_secs()));
        let vary = "origin, access-control-request-method, access-control-request-headers";
        granted.insert(VARY, HeaderValue::from_static(vary));
        Ok(granted)
    }

    /// Puts the route's fields on an answer to a request from `origin`, in the place of the upstream's.
    pub(crate) fn answer(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in [
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ] {
            headers.remove(name);
        }
        // Also without an origin: a cache must not give this answer to a page.
        if self.rules.origins.is_some() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(allowed) = self.allowed(origin) else { return };
        self.show(allowed, headers);
        if let Some(expose) = &self.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// What the answer says of this origin, if it is one of the route's.
    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        let origin = origin?;
        match &self.rules.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => origins.contains(origin).then(|| origin.clone()),
        }
    }

    fn show(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.rules.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// The value of a field that stands there once.
pub(crate) fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let words: Vec<&str> = words.collect();
    if words.is_empty() { None } else { HeaderValue::try_from(words.join(", ")).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: HeaderValue = HeaderValue::from_static("https://app.example.com");

    fn rules() -> CorsRules {
        CorsRules {
            origins: Some(vec![PAGE, HeaderValue::from_static("http://localhost:3000")]),
            methods: vec![Method::PUT],
            fields: vec![http::header::AUTHORIZATION, http::header::CONTENT_TYPE],
            expose: vec![HeaderName::from_static("x-total")],
            credentials: true,
            max_age: Duration::from_secs(600),
        }
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    fn grant(method: &Method, fields: &[(&'static str, &'static str)]) -> Result<HeaderMap, &'static str> {
        Cors::new(rules()).grant(method, &map(fields)).map_err(|refusal| match refusal {
            Refusal::CrossOrigin(what) => what,
            other => panic!("{other}"),
        })
    }

    #[test]
    fn a_preflight_is_granted_to_a_named_origin_for_a_named_method_with_named_fields_only() {
        let from = ("origin", "https://app.example.com");
        let granted =
            grant(&Method::PUT, &[from, ("access-control-request-headers", "Authorization,content-type")])
                .unwrap();
        assert_eq!(granted[ACCESS_CONTROL_ALLOW_ORIGIN], PAGE);
        assert_eq!(granted[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        assert_eq!(granted[ACCESS_CONTROL_ALLOW_HEADERS], "authorization, content-type");
        assert_eq!(granted[ACCESS_CONTROL_MAX_AGE], "600");
        assert_eq!(granted[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert!(grant(&Method::POST, &[from]).is_ok(), "a page may POST anyway");
        assert_eq!(grant(&Method::DELETE, &[from]), Err("method"));
        assert_eq!(
            grant(&Method::PUT, &[from, ("access-control-request-headers", "x-other")]),
            Err("header field")
        );
        for origin in [
            "https://app.example.com.evil.example",
            "https://APP.example.com",
            "https://app.example.com/",
            "http://app.example.com",
            "null",
            "*",
            "",
        ] {
            assert_eq!(grant(&Method::PUT, &[("origin", origin)]), Err("origin"), "{origin}");
        }
        assert_eq!(grant(&Method::PUT, &[]), Err("origin"));
        assert_eq!(
            grant(&Method::PUT, &[from, ("origin", "http://localhost:3000")]),
            Err("origin"),
            "two of them"
        );
    }

    #[test]
    fn only_options_with_an_origin_and_a_method_is_a_preflight() {
        let both = map(&[("origin", "https://a"), ("access-control-request-method", "PUT")]);
        assert_eq!(preflight(&Method::OPTIONS, &both), Some(Method::PUT));
        assert_eq!(preflight(&Method::GET, &both), None);
        assert_eq!(preflight(&Method::OPTIONS, &map(&[("origin", "https://a")])), None);
        assert_eq!(preflight(&Method::OPTIONS, &map(&[("access-control-request-method", "PUT")])), None);
    }

    #[test]
    fn an_answer_has_the_routes_fields_and_none_of_the_upstreams() {
        let upstream = [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("vary", "accept"),
        ];
        let answered = |origin: Option<&HeaderValue>| {
            let mut headers = map(&upstream);
            Cors::new(rules()).answer(origin, &mut headers);
            headers
        };
        let named = answered(Some(&PAGE));
        assert_eq!(
            (&named[ACCESS_CONTROL_ALLOW_ORIGIN], &named[ACCESS_CONTROL_EXPOSE_HEADERS]),
            (&PAGE, &HeaderValue::from_static("x-total"))
        );
        for headers in [answered(None), answered(Some(&HeaderValue::from_static("https://evil.example")))] {
            assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{headers:?}");
            assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), ["accept", "origin"]);
        }
    }

    #[test]
    fn any_origin_is_said_as_any_and_nothing_varies() {
        let any = Cors::new(CorsRules { origins: None, credentials: false, ..rules() });
        let mut headers = HeaderMap::new();
        any.answer(Some(&PAGE), &mut headers);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(VARY) && !headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
