//! The one order in which routes are tried: exact host over wildcard over any, then the longest literal path (exact over
//! prefix of the same length), then the method. Ties are configuration errors.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use http::Method;
use http::header::HeaderValue;
use policy::RouteIndex;

use super::{HostPattern, PathPattern, Route};
use crate::refusal::Refusal;

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
    has_upgrades: bool,
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
        self.has_upgrades |= !route.upgrades.is_empty();
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
