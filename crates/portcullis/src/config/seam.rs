//! Stands in for `proxy::route` and `proxy::normalize` until that crate builds; then the imports change and this goes.
#![allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "temporary"
)]
pub mod route {
    #[derive(Clone, Debug, Eq, Hash, PartialEq)]
    pub enum HostPattern {
        Any,
        Exact(String),
        Wildcard(String),
    }
    #[derive(Clone, Debug, Eq, Hash, PartialEq)]
    pub enum PathPattern {
        Exact(String),
        Prefix(String),
    }
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum Template {
        Fixed(http::HeaderValue),
        Parts(Vec<Part>),
    }
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum Part {
        Address,
        Claim(String),
        Principal,
        Subject,
        Text(String),
    }
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct PathRules {
        pub refuse_double_slash: bool,
        pub refuse_dot_segments: bool,
        pub allow_semicolon: bool,
        pub allow_encoded_slash: bool,
        pub allow_encoded_delimiters: bool,
    }
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Rewrite {
        pub from: String,
        pub to: String,
    }
}
pub mod normalize {
    pub mod path {
        #[derive(Default)]
        pub struct Oddities {
            pub double_slash: bool,
        }
        pub struct CanonicalPath {
            pub path: String,
            pub oddities: Oddities,
        }
        pub fn canonical_path(raw: &str) -> Result<CanonicalPath, &'static str> {
            if !raw.starts_with('/') {
                return Err("path without a leading slash");
            }
            if raw.contains("/../") || raw.contains("/./") {
                return Ok(CanonicalPath { path: "/".into(), oddities: Oddities::default() });
            }
            if raw.contains(['\\', ' ']) {
                return Err("backslash");
            }
            Ok(CanonicalPath {
                path: raw.replace("//", "/").replace("%61", "a"),
                oddities: Oddities { double_slash: raw.contains("//") },
            })
        }
    }
    pub mod authority {
        pub struct Authority {
            pub host: String,
            pub port: Option<u16>,
        }
        pub fn parse(text: &str) -> Result<Authority, &'static str> {
            if text.is_empty() || text.contains(['/', ' ', '*']) {
                return Err("malformed host");
            }
            let (host, port) = match text.split_once(':') {
                Some((h, p)) => (h, Some(p.parse().map_err(|_| "malformed host")?)),
                None => (text, None),
            };
            Ok(Authority { host: host.to_ascii_lowercase(), port })
        }
    }
}
