//! Routes in the checked configuration ([`model`](super::model)).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use proxy::compress::{Coding, MediaRange};
use proxy::cors::CorsRules;
use proxy::idempotency::StoreBounds;
use proxy::route::{AnswerFields, HostPattern, Location, PathPattern, PathRules, Rewrite, Sticky, Template};
use proxy::upgrade::Protocol;

use super::model::{At, Name};

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
    /// What may be spoken instead of HTTP.
    pub upgrades: Vec<Protocol>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What unusual paths mean.
    pub paths: PathRules,
    /// Fields taken from the request.
    pub remove_fields: Vec<HeaderName>,
    /// Changes in the fields of answers.
    pub answer_fields: AnswerFields,
    /// Fields set on the request.
    pub set_fields: Vec<(HeaderName, Template)>,
    /// Whether responses get security fields.
    pub security_fields: bool,
    /// Which pages of other origins may read its answers.
    pub cors: Option<CorsRules>,
    /// Which of its upstreams' answers are compressed.
    pub compress: Option<Compress>,
    /// Where copies of its requests go.
    pub mirror: Option<Mirror>,
    /// What is remembered of its requests with a key; and whether each needs one.
    pub idempotency: Option<(StoreBounds, bool)>,
    /// What its requests are looked through for.
    pub inspection: Option<Inspection>,
    /// Whether the upstream gets the caller's `Authorization` field.
    pub forward_credentials: bool,
    /// The minted token that takes the place of the caller's credential: a name of `tokens`.
    pub token: Option<Name>,
}

/// Which proofs a caller must bring.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Authenticate {
    /// None.
    None,
    /// At least one.
    Any(Vec<Proof>),
    /// Each.
    All(Vec<Proof>),
}

/// A proof that a route can ask for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
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
        to: Target,
        /// How its path changes.
        rewrite: Option<Rewrite>,
    },
    /// The caller is sent elsewhere.
    Redirect {
        /// The status.
        status: StatusCode,
        /// Where to.
        to: Location,
    },
    /// It is answered here.
    Respond {
        /// The status.
        status: StatusCode,
        /// The body.
        body: String,
    },
}

/// Which answers are compressed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compress {
    /// What is offered, never empty.
    pub codings: Vec<Coding>,
    /// Which types.
    pub types: Vec<MediaRange>,
    /// From so many bytes on.
    pub min_bytes: u64,
}

/// Where copies of a route's requests go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// The other upstream.
    pub upstream: Name,
    /// Of how many percent.
    pub share: u8,
    /// How many at the same time.
    pub concurrency: NonZeroU32,
    /// Bytes of a body that are copied.
    pub body: usize,
    /// How long a copy may be on its way.
    pub timeout: Duration,
}

/// How a route's requests are looked through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Inspection {
    /// What becomes of findings.
    pub mode: proxy::inspect::Mode,
    /// How strictly the rules are read.
    pub strictness: waf::Strictness,
    /// Bytes of a body that are looked at.
    pub body: usize,
}

/// Where a route forwards to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// Always there.
    One(Name),
    /// To one of several.
    Split(Split),
}

/// Several upstreams for one route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Split {
    /// Each with its weight; never empty.
    pub weights: Vec<(Name, NonZeroU32)>,
    /// Requests that go to one of them, or to another, whatever the weights.
    pub when: Vec<When>,
    /// Whose requests all go to the same side.
    pub sticky: Option<Sticky>,
}

/// Which requests go to one upstream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct When {
    /// A field.
    pub name: HeaderName,
    /// Where it is named.
    pub at: At,
    /// Its whole value.
    pub value: HeaderValue,
    /// Where to.
    pub upstream: Name,
}

impl Action {
    /// The upstreams that it may forward to, each named once or more.
    pub fn upstreams(&self) -> impl Iterator<Item = &Name> {
        let (one, split) = match self {
            Self::Forward { to: Target::One(name), .. } => (Some(name), None),
            Self::Forward { to: Target::Split(split), .. } => (None, Some(split)),
            Self::Redirect { .. } | Self::Respond { .. } => (None, None),
        };
        let weighted = split.into_iter().flat_map(|split| split.weights.iter().map(|(name, _)| name));
        one.into_iter().chain(weighted).chain(self.when().iter().map(|when| &when.upstream))
    }

    /// The rules of its split.
    #[must_use]
    pub fn when(&self) -> &[When] {
        match self {
            Self::Forward { to: Target::Split(split), .. } => &split.when,
            Self::Forward { .. } | Self::Redirect { .. } | Self::Respond { .. } => &[],
        }
    }
}
