//! Routes in the checked configuration ([`model`](super::model)).

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use http::header::HeaderName;
use http::{Method, StatusCode};
use proxy::route::{HostPattern, PathPattern, PathRules, Rewrite, Template};

use super::model::Name;

/// Which request goes where.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: Name,
    /// Listeners, never empty.
    pub on: Vec<Name>,
    /// Which hosts.
    pub host: HostPattern,
    /// Which paths.
    pub path: PathPattern,
    /// Which methods; empty is all.
    pub methods: Vec<Method>,
    /// Which proofs.
    pub authenticate: Authenticate,
    /// Its limits.
    pub limits: Vec<Name>,
    /// Requests in flight.
    pub concurrency: Option<NonZeroU32>,
    /// What happens to a permitted request.
    pub action: Action,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What unusual paths mean.
    pub paths: PathRules,
    /// Fields set on the request.
    pub set_fields: Vec<(HeaderName, Template)>,
    /// Whether responses get security fields.
    pub security_fields: bool,
    /// Whether the upstream gets the caller's `Authorization` field.
    pub forward_credentials: bool,
    /// The minted token that takes the place of the caller's credential: a name of `tokens`.
    pub token: Option<Name>,
}

/// Which proofs a caller must bring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Authenticate {
    /// None.
    None,
    /// At least one.
    Any(Vec<Proof>),
    /// Each.
    All(Vec<Proof>),
}

/// A proof that a route can ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Proof {
    /// A token of this issuer.
    Jwt(Name),
    /// A certificate under this trust entry.
    Certificate(Name),
}

/// What happens to a permitted request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// It goes to an upstream.
    Forward {
        /// Which.
        upstream: Name,
        /// How its path changes.
        rewrite: Option<Rewrite>,
    },
    /// It is answered here.
    Respond {
        /// The status.
        status: StatusCode,
        /// The body.
        body: String,
    },
}
