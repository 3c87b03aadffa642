//! Routes and the one order in which they are tried: exact host over wildcard over any, then the longest literal
//! path (exact over prefix of the same length), then the method. Ties are configuration errors.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use limit::Concurrency;
use policy::RouteIndex;
use telemetry::RouteSeries;
use tls::Slot;

use crate::authenticate::Authenticate;
use crate::limits::RouteLimit;
use crate::normalize::path::{CanonicalPath, Oddities, canonical_path};
use crate::refusal::Refusal;
use crate::token::RouteToken;
use crate::upstream::Upstream;

/// One route: what it matches is its place in the [`Router`], what it does stands here.
#[derive(Debug)]
pub struct Route {
    /// The name from the configuration; the resource of its policies.
    pub name: Arc<str>,
    /// Its place in the snapshot and in the policy engine.
    pub index: RouteIndex,
    /// Methods it takes; empty means all.
    pub methods: Vec<Method>,
    /// Which proofs a caller must bring.
    pub authenticate: Authenticate,
    /// Limits by address, charged before authentication.
    pub edge_limits: Vec<RouteLimit>,
    /// Limits charged after authentication.
    pub limits: Vec<RouteLimit>,
    /// How many requests may be in flight.
    pub concurrency: Option<Arc<Concurrency>>,
    /// What happens to a permitted request.
    pub action: Action,
    /// Which unusual paths it refuses.
    pub paths: PathRules,
    /// Fields it sets on the request to the upstream.
    pub set_fields: Vec<(HeaderName, Template)>,
    /// Adds HSTS, nosniff, frame and referrer fields to responses that lack them.
    pub security_fields: bool,
    /// Lets the caller's `Authorization` field pass to the upstream.
    pub forward_credentials: bool,
    /// A token that takes its place.
    pub token: Option<RouteToken>,
    /// Its metrics.
    pub series: Arc<RouteSeries>,
}

/// What happens to a permitted request.
#[derive(Debug)]
pub enum Action {
    /// It goes to an upstream.
    Forward {
        /// Where to.
        upstream: Arc<Upstream>,
        /// How the path changes on the way.
        rewrite: Option<Rewrite>,
    },
    /// It is answered with the public keys of minted tokens (a JWK Set): for everybody, no policy is asked.
    Keys(Slot<Bytes>),
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

/// Two routes that match the same requests.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("routes `{first}` and `{second}` match the same requests")]
pub struct RouteTie {
    /// The route that stands first.
    pub first: Arc<str>,
    /// The route that repeats it.
    pub second: Arc<str>,
}

/// The routes of one listener, by their place in the snapshot.
#[derive(Debug, Default)]
pub struct Router {
    /// Of the gateway itself, whatever the host.
    own: HashMap<String, Candidate>,
    exact: HashMap<String, Paths>,
    /// Longest suffix first.
    wildcard: Vec<(String, Paths)>,
    any: Paths,
}

#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, Vec<Candidate>>,
    prefix: HashMap<String, Vec<Candidate>>,
}

#[derive(Debug)]
struct Candidate {
    index: RouteIndex,
    name: Arc<str>,
    methods: Vec<Method>,
}

impl Router {
    /// Adds a route.
    ///
    /// # Errors
    /// When it ties with one that is there: same host, same path, a method in common.
    pub fn add(&mut self, host: &HostPattern, path: &PathPattern, route: &Route) -> Result<(), RouteTie> {
        let paths = match host {
            HostPattern::Any => &mut self.any,
            HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
            HostPattern::Wildcard(suffix) => self.wildcard(suffix),
        };
        let slot = match path {
            PathPattern::Exact(path) => paths.exact.entry(path.clone()),
            PathPattern::Prefix(path) => paths.prefix.entry(path.clone()),
        };
        let candidate = Candidate::new(route);
        match slot {
            Entry::Vacant(slot) => {
                slot.insert(vec![candidate]);
            }
            Entry::Occupied(mut slot) => {
                if let Some(tied) = slot.get().iter().find(|known| known.shares_a_method(&candidate)) {
                    return Err(RouteTie { first: tied.name.clone(), second: candidate.name });
                }
                slot.get_mut().push(candidate);
            }
        }
        Ok(())
    }

    /// Adds a route of the gateway itself at exactly this path of every host; add it after the others.
    ///
    /// # Errors
    /// When another route has the same path for itself.
    pub fn add_own(&mut self, path: &str, route: &Route) -> Result<(), RouteTie> {
        let own = Candidate::new(route);
        let hosts =
            self.exact.values().chain(self.wildcard.iter().map(|(_, paths)| paths)).chain([&self.any]);
        let taken = hosts.filter_map(|paths| paths.exact.get(path)).flatten();
        if let Some(tied) = taken.chain(self.own.get(path)).find(|known| known.shares_a_method(&own)) {
            return Err(RouteTie { first: tied.name.clone(), second: own.name });
        }
        self.own.insert(path.to_owned(), own);
        Ok(())
    }

    fn wildcard(&mut self, suffix: &str) -> &mut Paths {
        let at = self
            .wildcard
            .partition_point(|(known, _)| (known.len(), known.as_str()) > (suffix.len(), suffix));
        if self.wildcard.get(at).is_none_or(|(known, _)| known != suffix) {
            self.wildcard.insert(at, (suffix.to_owned(), Paths::default()));
        }
        #[expect(clippy::indexing_slicing, reason = "found or inserted at this place just now")]
        &mut self.wildcard[at].1
    }

    /// The route for a canonical host (without port) and path.
    ///
    /// # Errors
    /// No route, or none that takes the method.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<RouteIndex, Refusal> {
        let candidates = match self.own.get(path) {
            Some(own) => std::slice::from_ref(own),
            None => self.of_host(host, path).ok_or(Refusal::NoRoute)?,
        };
        candidates.iter().find(|c| c.takes(method)).map(|c| c.index).ok_or_else(|| {
            let methods: Vec<&str> = candidates.iter().flat_map(|c| &c.methods).map(Method::as_str).collect();
            let allow = HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static(""));
            Refusal::MethodNotAllowed { allow }
        })
    }

    fn of_host(&self, host: &str, path: &str) -> Option<&[Candidate]> {
        let wildcard =
            self.wildcard.iter().filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix));
        self.exact
            .get(host)
            .into_iter()
            .chain(wildcard.map(|(_, paths)| paths))
            .chain([&self.any])
            .find_map(|paths| paths.find(path))
    }
}

impl Candidate {
    fn new(route: &Route) -> Self {
        Self { index: route.index, name: route.name.clone(), methods: route.methods.clone() }
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    fn shares_a_method(&self, other: &Self) -> bool {
        self.methods.is_empty() || other.methods.is_empty() || self.methods.iter().any(|m| other.takes(m))
    }
}

impl Paths {
    fn find(&self, path: &str) -> Option<&[Candidate]> {
        if let Some(candidates) = self.exact.get(path) {
            return Some(candidates);
        }
        if self.prefix.is_empty() {
            return None;
        }
        let mut prefix = path.strip_suffix('/').unwrap_or(path);
        loop {
            if let Some(candidates) = self.prefix.get(prefix) {
                return Some(candidates);
            }
            (prefix, _) = prefix.rsplit_once('/')?;
        }
    }
}

#[cfg(test)]
mod tests;
