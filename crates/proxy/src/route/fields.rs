//! What a route changes in header fields, on the way to its upstream and on the way back. Which names it may not touch
//! (framing, hop-by-hop, identity) the configuration's check says.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use identity::{ClaimValue, Principal};

/// What a route changes in the fields of its answers: those of its upstream, and its own; refusals are the same everywhere.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AnswerFields {
    /// Taken away.
    pub remove: Vec<HeaderName>,
    /// Set, in the place of what the upstream says.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

impl AnswerFields {
    /// Makes the changes.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Takes fields away however they are spelled: some servers read `x_internal` as `x-internal`.
pub(crate) fn remove_spelled(headers: &mut HeaderMap, names: &[HeaderName]) {
    let dashed = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte };
    let is_same =
        |a: &HeaderName, b: &HeaderName| a.as_str().bytes().map(dashed).eq(b.as_str().bytes().map(dashed));
    let is_unwanted = |name: &&HeaderName| names.iter().any(|unwanted| is_same(name, unwanted));
    let unwanted: Vec<HeaderName> = headers.keys().filter(is_unwanted).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// A field value with places for facts about the caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Template {
    /// The same for everybody.
    Fixed(HeaderValue),
    /// Text and places, in order.
    Parts(Vec<Part>),
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// The client's address.
    Address,
    /// A mapped claim; empty where the token lacks it.
    Claim(String),
    /// The principal's id.
    Principal,
    /// The principal's subject.
    Subject,
    /// Literal text.
    Text(String),
}

pub(crate) fn filled(template: &Template, principal: &Principal, client: IpAddr) -> HeaderValue {
    let parts = match template {
        Template::Fixed(value) => return value.clone(),
        Template::Parts(parts) => parts,
    };
    let mut text = String::new();
    for part in parts {
        // Writing to a string does not fail.
        let _ = match part {
            Part::Address => write!(text, "{client}"),
            Part::Claim(name) => write!(text, "{}", ClaimText(principal.claims.get(name))),
            Part::Principal => write!(text, "{}", principal.id),
            Part::Subject => write!(text, "{}", principal.id.subject()),
            Part::Text(literal) => write!(text, "{literal}"),
        };
    }
    // What no field can carry is left out whole: half of an identity would be another one. White space at either end is
    // none of a field's value (RFC 9110 section 5.5): whoever reads `alice ` takes it for `alice`.
    if text.trim_ascii().len() != text.len() {
        return HeaderValue::from_static("");
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

struct ClaimText<'a>(Option<&'a ClaimValue>);

impl std::fmt::Display for ClaimText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(ClaimValue::Bool(value)) => write!(f, "{value}"),
            Some(ClaimValue::Long(value)) => write!(f, "{value}"),
            Some(ClaimValue::String(value)) => f.write_str(value),
            Some(ClaimValue::Strings(values)) => f.write_str(&values.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(named: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value))
        };
        named.iter().map(field).collect()
    }

    #[test]
    fn a_removed_field_has_no_spelling_left_and_no_neighbour_goes_with_it() {
        let mut headers = fields(&[
            ("x-internal", "1"),
            ("x_internal", "2"),
            ("x.internal", "3"),
            ("x-internal-id", "4"),
            ("xinternal", "5"),
        ]);
        remove_spelled(&mut headers, &[HeaderName::from_static("x-internal")]);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-internal-id", "xinternal"]);
    }

    #[test]
    fn an_answer_has_what_is_set_once_and_nothing_of_what_is_removed() {
        let mut headers = fields(&[("server", "a"), ("cache-control", "public"), ("etag", "x")]);
        headers.append("server", HeaderValue::from_static("b"));
        headers.append("cache-control", HeaderValue::from_static("max-age=9"));
        let rules = AnswerFields {
            remove: vec![http::header::SERVER],
            set: vec![(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        };
        rules.apply(&mut headers);
        assert_eq!(headers.get_all("cache-control").iter().collect::<Vec<_>>(), ["no-store"]);
        assert!(!headers.contains_key("server") && headers.contains_key("etag"));
    }
}
