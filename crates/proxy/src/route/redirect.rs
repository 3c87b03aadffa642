//! Where a route sends its clients: a template whose places take the canonical host, path and query of the request.
//!
//! What is put in cannot leave its place: the configuration's check gives the location a scheme and a host of its own (or the
//! route's, where the route names it), and behind a `?` of the template everything that is put in is percent-encoded.

use http::header::HeaderValue;
use http::uri::PathAndQuery;

use crate::refusal::Refusal;

/// A URL, or a path, with places.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Location(pub Vec<LocationPart>);

/// A piece of a [`Location`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LocationPart {
    /// It stands there.
    Text(String),
    /// It is put in as it came.
    Plain(Place),
    /// It is put in as a value of the query.
    Encoded(Place),
}

/// What of the request is put in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The host, without port.
    Host,
    /// The path.
    Path,
    /// The query with its `?`, or nothing.
    Query,
}

impl Location {
    /// True when the request's host stands somewhere in it.
    #[must_use]
    pub fn names_host(&self) -> bool {
        let is_host = |part: &LocationPart| {
            matches!(part, LocationPart::Plain(Place::Host) | LocationPart::Encoded(Place::Host))
        };
        self.0.iter().any(is_host)
    }

    /// The `Location` of the answer to a request for `target` at `host`.
    ///
    /// # Errors
    /// When it would be none; no canonical request makes such a one.
    pub fn fill(&self, host: &str, target: &PathAndQuery) -> Result<HeaderValue, Refusal> {
        let mut location = String::new();
        for part in &self.0 {
            match part {
                LocationPart::Text(text) => location.push_str(text),
                LocationPart::Plain(place) => {
                    place.of(host, target).for_each(|piece| location.push_str(piece));
                }
                LocationPart::Encoded(place) => {
                    place.of(host, target).for_each(|piece| encode(piece, &mut location));
                }
            }
        }
        HeaderValue::try_from(location).map_err(|_| Refusal::Rewrite)
    }
}

impl Place {
    fn of<'a>(self, host: &'a str, target: &'a PathAndQuery) -> impl Iterator<Item = &'a str> {
        let (first, second) = match self {
            Self::Host => (Some(host), None),
            Self::Path => (Some(target.path()), None),
            Self::Query => (target.query().map(|_| "?"), target.query()),
        };
        first.into_iter().chain(second)
    }
}

/// As a value of a query (RFC 3986 section 3.4): all but unreserved characters and `/`.
fn encode(piece: &str, location: &mut String) {
    for byte in piece.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            location.push(char::from(byte));
        } else {
            location.push('%');
            location
                .extend([byte >> 4, byte & 0xf].map(|digit| {
                    char::from(HEX.as_bytes().get(usize::from(digit)).copied().unwrap_or(b'0'))
                }));
        }
    }
}

const HEX: &str = "0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(parts: &[LocationPart], target: &str) -> String {
        let location = Location(parts.to_vec()).fill("api.example.com", &target.parse().unwrap()).unwrap();
        location.to_str().unwrap().to_owned()
    }

    #[test]
    fn host_path_and_query_stand_where_the_template_says() {
        use LocationPart::{Encoded, Plain, Text};
        let whole = [Text("https://".into()), Plain(Place::Host), Plain(Place::Path), Plain(Place::Query)];
        assert_eq!(filled(&whole, "/a/b?c=d"), "https://api.example.com/a/b?c=d");
        assert_eq!(filled(&whole, "/"), "https://api.example.com/");
        let back = [Text("/login?to=".into()), Encoded(Place::Path), Encoded(Place::Query)];
        assert_eq!(filled(&back, "/a&x=1;?y=%41&z"), "/login?to=/a%26x%3D1%3B%3Fy%3D%2541%26z");
    }
}
