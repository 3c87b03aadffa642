//! What minted tokens say and where their keys are.

use proxy::route::PathPattern;

use super::pattern::RoutePath;
use super::{Misread, Word, words};

/// A scope.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct Scope(pub(in crate::config) String);

impl Word for Scope {
    const EXPECTED: &'static str =
        "a scope such as `orders.read`: printable ASCII without spaces, `\"` and `\\`";

    fn parse(text: &str) -> Result<Self, Misread> {
        // RFC 6749 section 3.3.
        let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if !text.is_empty() && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Misread::Other)
        }
    }
}

/// A path without `/**`.
#[derive(Clone, Debug)]
pub(in crate::config) struct ExactPath(pub(in crate::config) String);

impl Word for ExactPath {
    const EXPECTED: &'static str = "a canonical path such as `/.well-known/jwks.json`";

    fn parse(text: &str) -> Result<Self, Misread> {
        match RoutePath::parse(text)?.0 {
            PathPattern::Exact(path) => Ok(Self(path)),
            PathPattern::Prefix(_) => Err("one path; `/**` has no place here".into()),
        }
    }
}

words! {
    Scope: r"^[\x21\x23-\x5b\x5d-\x7e]+$",
    ExactPath: "^/[^*]*$",
}
