//! A second copy of a request that may be sent twice.

use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::body::RequestBody;

/// A request without a body, its fields in one piece of memory: each request makes one and hardly any needs it, and
/// a second map with as many shared values would cost several times that.
pub(super) struct Spare {
    method: Method,
    uri: Uri,
    version: Version,
    /// `name:value`, each in a line; neither a name nor a value holds a line feed, and no name a colon.
    fields: Vec<u8>,
}

impl Spare {
    /// The copy of a request, without its body.
    pub(super) fn of(request: &Request<RequestBody>) -> Self {
        let mut fields = Vec::with_capacity(ORDINARY);
        for (name, value) in request.headers() {
            fields.extend_from_slice(name.as_str().as_bytes());
            fields.push(b':');
            fields.extend_from_slice(value.as_bytes());
            fields.push(b'\n');
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self { method, uri, version: request.version(), fields }
    }

    /// True if the request may arrive twice.
    pub(super) fn is_safe(&self) -> bool {
        is_safe(&self.method)
    }

    /// The request.
    pub(super) fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
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

/// RFC 9110 section 9.2.1.
pub(super) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
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
        let again = Spare::of(&request).into_request();
        assert_eq!((again.method(), again.uri()), (request.method(), request.uri()));
        assert_eq!(again.headers(), request.headers());
    }
}
