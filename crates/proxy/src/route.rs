//! Routes: what they match, what a request needs there, and what becomes of it. What a route does not use costs it one
//! check.
//!
//! [`router`] says which route a request takes, [`fields`] what a route changes in header fields, [`redirect`] where it
//! sends clients, [`split`] which of several upstreams it chooses.

mod fields;
mod redirect;
mod router;
mod split;

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderName;
use http::{Method, StatusCode};
use limit::Concurrency;
use policy::RouteIndex;
use smol_str::SmolStr;
use telemetry::{AnswerSeries, RouteSeries};
use tls::Slot;

use crate::authenticate::Authenticate;
use crate::compress::Compress;
use crate::cors::Cors;
use crate::idempotency::Idempotency;
use crate::inspect::Inspection;
use crate::limits::RouteLimit;
use crate::mirror::Mirror;
use crate::normalize::path::{CanonicalPath, Oddities, canonical_path};
use crate::refusal::Refusal;
use crate::token::RouteToken;
use crate::upgrade::Protocol;

pub use fields::{AnswerFields, Part, Template};
pub(crate) use fields::{filled, remove_spelled};
pub use redirect::{Location, LocationPart, Place};
pub use router::{RouteTie, Router};
pub use split::{Split, Sticky, Target, When};

/// One route: what it matches is its place in the [`Router`], what it does stands here. Small, and what many routes have alike is shared:
/// where there are thousands, a request meets one that nobody has used for long, and waits for each part of it (tests/bench/README.md).
#[derive(Debug)]
pub struct Route {
    /// The name from the configuration; the resource of its policies.
    pub name: SmolStr,
    /// Its place in the snapshot and in the policy engine.
    pub index: RouteIndex,
    /// Methods it takes; empty means all.
    pub methods: Box<[Method]>,
    /// Which proofs a caller must bring.
    pub authenticate: Arc<Authenticate>,
    /// Limits by address, charged before authentication.
    pub edge_limits: Arc<[RouteLimit]>,
    /// Limits charged after authentication.
    pub limits: Arc<[RouteLimit]>,
    /// How many requests may be in flight.
    pub concurrency: Option<Arc<Concurrency>>,
    /// What happens to a permitted request.
    pub action: Action,
    /// What may be spoken instead of HTTP.
    pub upgrades: Box<[Protocol]>,
    /// Which unusual paths it refuses.
    pub paths: PathRules,
    /// Fields that it takes from the request to the upstream, in every spelling.
    pub remove_fields: Box<[HeaderName]>,
    /// Fields it sets on the request to the upstream.
    pub set_fields: Box<[(HeaderName, Template)]>,
    /// Adds HSTS, nosniff, frame and referrer fields to responses that lack them.
    pub security_fields: bool,
    /// What it changes in the fields of answers.
    pub answer_fields: Option<Box<AnswerFields>>,
    /// Which pages of other origins may read its answers.
    pub cors: Option<Box<Cors>>,
    /// Which of its upstreams' answers are compressed.
    pub compress: Option<Box<Compress>>,
    /// Where copies of its requests go.
    pub mirror: Option<Arc<Mirror>>,
    /// Its requests are done once for each key.
    pub idempotency: Option<Box<Idempotency>>,
    /// What its requests are looked through for.
    pub inspection: Option<Box<Inspection>>,
    /// Lets the caller's `Authorization` field pass to the upstream.
    pub forward_credentials: bool,
    /// A token that takes its place.
    pub token: Option<Box<RouteToken>>,
    /// Its metrics.
    pub series: Arc<RouteSeries>,
    /// The part of them that every request writes.
    pub answers: AnswerSeries,
}

impl Route {
    /// A route for all methods and everybody, without limits, which changes nothing.
    #[must_use]
    pub fn new(name: SmolStr, index: RouteIndex, action: Action, series: Arc<RouteSeries>) -> Self {
        Self {
            name,
            index,
            methods: Box::default(),
            authenticate: Arc::new(Authenticate::Nobody),
            edge_limits: Arc::new([]),
            limits: Arc::new([]),
            concurrency: None,
            action,
            upgrades: Box::default(),
            paths: PathRules::default(),
            remove_fields: Box::default(),
            set_fields: Box::default(),
            security_fields: false,
            answer_fields: None,
            cors: None,
            compress: None,
            mirror: None,
            idempotency: None,
            inspection: None,
            forward_credentials: false,
            token: None,
            answers: series.answers().clone(),
            series,
        }
    }
}

/// What happens to a permitted request.
#[derive(Debug)]
pub enum Action {
    /// It goes to an upstream.
    Forward {
        /// Where to.
        to: Target,
        /// How the path changes on the way.
        rewrite: Option<Box<Rewrite>>,
    },
    /// It is answered with the public keys of minted tokens (a JWK Set): for everybody, no policy is asked.
    Keys(Slot<Bytes>),
    /// The client is sent elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
        /// Where to.
        to: Location,
    },
    /// It is answered here.
    Respond {
        /// The status.
        status: StatusCode,
        /// The body, `text/plain`.
        body: Bytes,
    },
}

/// What a route does with the path oddities that have one reading.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PathRules {
    /// Refuse `//` instead of merging it.
    pub refuse_double_slash: bool,
    /// Refuse plain dot segments instead of resolving them.
    pub refuse_dot_segments: bool,
    /// Let `;` pass.
    pub allow_semicolon: bool,
    /// Let `%2F` pass, undecoded.
    pub allow_encoded_slash: bool,
}

impl PathRules {
    /// # Errors
    /// When the path shows an oddity that this route refuses.
    pub fn judge(self, oddities: Oddities) -> Result<(), Refusal> {
        let refused = [
            (oddities.double_slash && self.refuse_double_slash, "`//`"),
            (oddities.dot_segment && self.refuse_dot_segments, "a dot segment"),
            (oddities.semicolon && !self.allow_semicolon, "`;`"),
            (oddities.encoded_slash && !self.allow_encoded_slash, "an encoded slash"),
            (oddities.encoded_delimiter, "an encoded `?` or `#`"),
        ];
        match refused.into_iter().find(|(is_refused, _)| *is_refused) {
            Some((_, what)) => Err(Refusal::PathOddity(what)),
            None => Ok(()),
        }
    }
}

/// A change of the path's prefix, made after the decision and checked again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rewrite {
    /// The canonical prefix, without a final slash.
    pub from: String,
    /// What stands in its place, without a final slash.
    pub to: String,
}

impl Rewrite {
    /// The path as the upstream gets it.
    ///
    /// # Errors
    /// When the result is not canonical: it would be read otherwise than it was decided.
    pub fn apply(&self, path: &str) -> Result<String, Refusal> {
        let rest = match path.strip_prefix(&self.from) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            _ => path,
        };
        let mut rewritten = format!("{}{rest}", self.to);
        if rewritten.is_empty() {
            rewritten.push('/');
        }
        match canonical_path(&rewritten) {
            Ok(CanonicalPath { path, oddities }) if path == rewritten && !oddities.double_slash => {
                Ok(rewritten)
            }
            Ok(_) | Err(_) => Err(Refusal::Rewrite),
        }
    }
}

/// Which host a route is for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum HostPattern {
    /// Any host.
    Any,
    /// This canonical host.
    Exact(String),
    /// One or more labels below this suffix; `*.example.com` is kept as `.example.com`.
    Wildcard(String),
}

/// Which canonical path a route is for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum PathPattern {
    /// This path only.
    Exact(String),
    /// This path and everything below it, on a segment boundary; kept without a final slash.
    Prefix(String),
}

#[cfg(test)]
mod tests;
