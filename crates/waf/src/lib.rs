//! *Looks like an attack*: the OWASP core rule set (CRS 4) over a request's head and body.
//!
//! What passes: a request whose inbound anomaly score stays below the threshold and whose body can be read as what it says it
//! is. What is refused: the rest. What cannot be judged in time is said to be so; whoever asks decides what that means. Answers are
//! not looked at.
//!
//! It is a second line behind authentication and policy, never one of them, and it is slow: around a millisecond for a small request,
//! hundreds for a large form (`cargo bench -p waf`). It therefore runs on threads of its own ([`Inspectors`]), bounded in number,
//! queue and time.
//!
//! The only crate that names the engine, `zentinel-modsec` (Rust, no `unsafe`), behind the feature `engine`. Without that there are no
//! [`Rules`], and [`Rules::load`] says so.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests"))]

#[cfg(not(feature = "engine"))]
mod absent;
#[cfg(feature = "engine")]
mod engine;
mod form;
mod workers;

use std::net::IpAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http::HeaderMap;

#[cfg(not(feature = "engine"))]
pub use absent::Rules;
#[cfg(feature = "engine")]
pub use engine::Rules;
pub use form::Form;
pub use workers::{Inspectors, WorkerError};

/// Whether this build has the engine.
pub const IS_BUILT: bool = cfg!(feature = "engine");

/// How strictly the rules are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Strictness {
    /// CRS paranoia level, 1 (few false alarms) to 4.
    pub paranoia: u8,
    /// The inbound anomaly score from which a request is an attack; a critical rule scores 5.
    pub threshold: u32,
}

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The program was built without the engine.
    #[error("this program was built without the feature `waf`")]
    NotBuilt,
    /// The directory is not laid out as the rule set is.
    #[error("`{}` is missing: expected a directory of the OWASP core rule set, with `crs-setup.conf` (or `.example`) and `rules/*.conf`", .0.display())]
    Missing(PathBuf),
    /// A rule cannot be kept as it is written.
    #[error("{place}: {reason}")]
    Rule {
        /// File and line.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A request as it will be forwarded.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: http::Method,
    /// Path and query.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: &'static str,
    /// Who sent it.
    pub client: IpAddr,
    /// The host it is for, if no field says so.
    pub host: Option<String>,
    /// Its fields without those of framing.
    pub fields: HeaderMap,
    /// Bytes of its body, where that is known and no field says so.
    pub length: Option<u64>,
    /// Its body, if it is one that is looked at.
    pub body: Bytes,
}

/// What became of a look at a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Judged {
    /// The rules say this.
    Verdict(Verdict),
    /// The time was up before they had.
    TimeUp,
    /// The engine failed; in words, which hold nothing of the request.
    Failed(String),
}

/// What the rules say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// True if the request is an attack by these rules.
    pub is_attack: bool,
    /// The inbound anomaly score.
    pub score: u32,
    /// Rules that added to it, or decided without it, by number.
    pub rules: Vec<u32>,
}

/// Its body is not what it says it is; numbered as in ModSecurity's recommended configuration.
pub const UNREADABLE_BODY: u32 = 200_002;
/// The same of a multipart body.
pub const UNREADABLE_MULTIPART: u32 = 200_003;
/// It has more than [`MOST_ARGUMENTS`].
pub const TOO_MANY_ARGUMENTS: u32 = 200_007;
/// Arguments of query and body that are looked at: each is tested by some two hundred patterns. As in ModSecurity's recommended
/// configuration.
pub const MOST_ARGUMENTS: usize = 1_000;
