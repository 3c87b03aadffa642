//! A second copy of a request that may be sent twice.

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use hyper::body::Body as _;

use crate::body::RequestBody;

/// A request without a body, its fields in one piece of memory: each request makes one and hardly any needs it, and
/// a second map with as many shared values would cost several times that.
pub(super) struct Spare {
    method: Method,
    uri: Uri,
    /// `name:value`, each in a line; neither a name nor a value holds a line feed, and no name a colon.
    fields: Vec<u8>,
}

impl Spare {
    /// The copy of a request that is safe (RFC 9110 section 9.2.1) and has no body.
    pub(super) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if !is_safe || !request.body().is_end_stream() {
            return None;
        }
        let mut fields = Vec::with_capacity(ORDINARY);
        for (name, value) in request.headers() {
            fields.extend_from_slice(name.as_str().as_bytes());
            fields.push(b':');
            fields.extend_from_slice(value.as_bytes());
            fields.push(b'\n');
        }
        Some(Self { method: request.method().clone(), uri: request.uri().clone(), fields })
    }

    /// The request.
    pub(super) fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        for line in self.fields.split(|byte| *byte == b'\n') {
            let mut parts = line.splitn(2, |byte| *byte == b':');
            let name = parts.next().and_then(|name| HeaderName::from_bytes(name).ok());
            let value = parts.next().and_then(|value| HeaderValue::from_bytes(value).ok());
            if let (Some(name), Some(value)) = (name, value) {
                request.headers_mut().append(name, value);
            }
        }
        request
    }
}

/// Room for the fields of most requests, those with a token included.
const ORDINARY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_is_the_request_again() {
        let mut request = Request::new(RequestBody::empty());
        *request.uri_mut() = "/a?b=c:d".parse().unwrap();
        for (name, value) in [("x-a", "1: 2:"), ("cookie", "a"), ("x-a", ""), ("accept", "\u{e9}\t*/*")] {
            request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let again = Spare::of(&request).unwrap().into_request();
        assert_eq!((again.method(), again.uri()), (request.method(), request.uri()));
        assert_eq!(again.headers(), request.headers());
    }

    #[test]
    fn a_request_that_is_not_safe_has_no_spare() {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = Method::POST;
        assert!(Spare::of(&request).is_none());
    }
}
