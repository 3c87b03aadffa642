//! The one order in which routes are tried: exact host over wildcard over any, then the longest literal path (exact over
//! prefix of the same length), then the method. Ties are configuration errors.

// Its hash is fast: the keys are the configuration's, so nobody outside can make them meet.
use hashbrown::HashMap;
use http::Method;
use http::header::HeaderValue;
use policy::RouteIndex;
use smol_str::SmolStr;

use super::{HostPattern, PathPattern, Route};
use crate::refusal::Refusal;

/// Two routes that match the same requests.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("routes `{first}` and `{second}` match the same requests")]
pub struct RouteTie {
    /// The route that stands first.
    pub first: SmolStr,
    /// The route that repeats it.
    pub second: SmolStr,
}

/// The routes of one listener, by their place in the snapshot.
#[derive(Debug, Default)]
pub struct Router {
    /// Of the gateway itself, whatever the host.
    own: HashMap<SmolStr, Candidates>,
    exact: HashMap<String, Paths>,
    /// Longest suffix first.
    wildcard: Vec<(String, Paths)>,
    any: Paths,
    has_upgrades: bool,
}

#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<SmolStr, Candidates>,
    prefix: HashMap<SmolStr, Candidates>,
}

/// The routes of one path.
#[derive(Debug, Default)]
struct Candidates {
    /// The only one, if it takes every method: nothing else needs to be looked at.
    only: Option<RouteIndex>,
    all: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    index: RouteIndex,
    name: SmolStr,
    methods: Box<[Method]>,
}

impl Router {
    /// Adds a route.
    ///
    /// # Errors
    /// When it ties with one that is there: same host, same path, a method in common.
    pub fn add(&mut self, host: &HostPattern, path: &PathPattern, route: &Route) -> Result<(), RouteTie> {
        self.has_upgrades |= !route.upgrades.is_empty();
        let paths = match host {
            HostPattern::Any => &mut self.any,
            HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
            HostPattern::Wildcard(suffix) => self.wildcard(suffix),
        };
        let candidates = match path {
            PathPattern::Exact(path) => paths.exact.entry(path.into()),
            PathPattern::Prefix(path) => paths.prefix.entry(path.into()),
        };
        candidates.or_default().add(Candidate::new(route))
    }

    /// Adds a route of the gateway itself at exactly this path of every host; add it after the others.
    ///
    /// # Errors
    /// When another route has the same path for itself.
    pub fn add_own(&mut self, path: &str, route: &Route) -> Result<(), RouteTie> {
        let own = Candidate::new(route);
        let hosts =
            self.exact.values().chain(self.wildcard.iter().map(|(_, paths)| paths)).chain([&self.any]);
        let mut taken =
            hosts.filter_map(|paths| paths.exact.get(path)).flat_map(|candidates| &candidates.all);
        if let Some(tied) = taken.find(|known| known.shares_a_method(&own)) {
            return Err(RouteTie { first: tied.name.clone(), second: own.name });
        }
        self.own.entry(path.into()).or_default().add(own)
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

    /// True when one of its routes allows an upgrade.
    #[must_use]
    pub const fn has_upgrades(&self) -> bool {
        self.has_upgrades
    }

    /// The route for a canonical host (without port) and path.
    ///
    /// # Errors
    /// No route, or none that takes the method.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<RouteIndex, Refusal> {
        let own = self.own.get(path);
        let Candidates { only, all } = own.or_else(|| self.of_host(host, path)).ok_or(Refusal::NoRoute)?;
        if let Some(index) = only {
            return Ok(*index);
        }
        all.iter().find(|c| c.takes(method)).map(|c| c.index).ok_or_else(|| {
            let methods: Vec<&str> = all.iter().flat_map(|c| &c.methods).map(Method::as_str).collect();
            let allow = HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static(""));
            Refusal::MethodNotAllowed { allow }
        })
    }

    fn of_host(&self, host: &str, path: &str) -> Option<&Candidates> {
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

impl Candidates {
    fn add(&mut self, candidate: Candidate) -> Result<(), RouteTie> {
        if let Some(tied) = self.all.iter().find(|known| known.shares_a_method(&candidate)) {
            return Err(RouteTie { first: tied.name.clone(), second: candidate.name });
        }
        self.only = (self.all.is_empty() && candidate.methods.is_empty()).then_some(candidate.index);
        self.all.push(candidate);
        Ok(())
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
    fn find(&self, path: &str) -> Option<&Candidates> {
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
