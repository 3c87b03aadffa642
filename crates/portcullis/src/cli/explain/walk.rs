//! The way of a request, in the order of [`proxy::handle`]; what it meets is written down.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::SystemTime;

use ::policy::{Facts, Subject, TlsFacts};
use http::Method;
use identity::Principal;
use proxy::inspect::Mode;
use proxy::normalize::authority::authority;
use proxy::normalize::canonical_target;
use proxy::normalize::client::client_address;
use proxy::normalize::fields::clean_request;
use proxy::refusal::Refusal;
use proxy::snapshot::{Listener, Snapshot};
use serde::Serialize;
use waf::Strictness;

use super::prove::{Peer, Proven, Shown};
use super::question::Question;
use crate::cli::decision::Decision;
use crate::cli::principal::{PrincipalNote, claim};
use crate::cli::time;
use crate::config::material::Material;
use crate::config::model::{Action, Config, LimitKey, Name, Route};

/// A configuration that requests are taken through.
pub(super) struct Site<'a> {
    pub(super) config: &'a Config,
    pub(super) material: &'a Material,
    pub(super) snapshot: &'a Snapshot,
}

/// What happens to a request, and on which way.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    #[serde(flatten)]
    pub(super) way: Way,
    pub(super) outcome: Outcome,
}

/// What is known about a request, as far as it came.
#[derive(Debug, Default, Serialize)]
pub(super) struct Way {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) listener: String,
    pub(super) client: Option<IpAddr>,
    pub(super) host: Option<String>,
    /// The canonical path with the query.
    pub(super) target: Option<String>,
    pub(super) route: Option<String>,
    pub(super) principal: Option<PrincipalNote>,
    /// The proofs that count, in words.
    pub(super) proofs: Vec<String>,
    #[serde(skip)]
    pub(super) until: Option<SystemTime>,
    pub(super) proven_until: Option<String>,
    pub(super) limits: Vec<LimitNote>,
    pub(super) concurrency: Option<u32>,
    pub(super) decision: Option<Decision>,
    /// What the core rule set is asked of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inspection: Option<String>,
}

/// A limit that the request would be charged to.
#[derive(Debug, Serialize)]
pub(super) struct LimitNote {
    pub(super) name: String,
    /// Which bucket.
    pub(super) counts: String,
    pub(super) quota: String,
    pub(super) charged: &'static str,
}

/// What the client, or the upstream, would get.
#[derive(Debug, Serialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub(super) enum Outcome {
    Answered { status: u16 },
    Disconnected { reason: String },
    Forwarded { upstream: String, endpoints: Vec<String>, target: String },
    Redirected,
    Refused { status: u16, code: &'static str, reason: String },
    Unknown { reason: String },
}

/// Why a request goes no further.
pub(super) enum Stop {
    /// The handshake fails.
    Handshake(String),
    Refused(Refusal),
    /// It depends on something that is not asked here.
    Unknown(String),
}

impl<E: Into<Refusal>> From<E> for Stop {
    fn from(refusal: E) -> Self {
        Self::Refused(refusal.into())
    }
}

impl Site<'_> {
    pub(super) fn explain(&self, question: &Question, now: SystemTime) -> Explained {
        let mut way = Way {
            method: question.method.to_string(),
            url: question.url.clone(),
            listener: question.listener.to_string(),
            ..Way::default()
        };
        let outcome = self.walk(question, now, &mut way).unwrap_or_else(|stop| match stop {
            Stop::Handshake(reason) => Outcome::Disconnected { reason },
            Stop::Unknown(reason) => Outcome::Unknown { reason },
            Stop::Refused(refusal) => {
                let (status, code, _) = refusal.row();
                Outcome::Refused { status: status.as_u16(), code, reason: refusal.to_string() }
            }
        });
        way.proven_until = way.until.map(time::timestamp);
        Explained { way, outcome }
    }

    fn walk(&self, question: &Question, now: SystemTime, way: &mut Way) -> Result<Outcome, Stop> {
        let listener = self.snapshot.listeners.get(question.listener.as_str()).ok_or(Refusal::Draining)?;
        let peer = self.shake_hands(question, now)?;
        let client = client_address(question.address, listener, &question.headers);
        way.client = Some(client);
        if matches!(question.method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::MethodUnsupported.into());
        }
        let host = authority(&question.target, &question.headers)?.host.into_owned();
        way.host = Some(host.clone());
        let (target, oddities) = canonical_target(&question.target, &listener.bounds)?;
        way.target = Some(target.to_string());
        clean_request(&mut question.headers.clone(), &self.snapshot.reserved)?;
        if listener.redirect.is_some() {
            return Ok(Outcome::Redirected);
        }
        let index = listener.router.find(&host, target.path(), &question.method)?;
        let compiled = self.snapshot.route(index).ok_or(Refusal::NoRoute)?;
        let route = self.config.routes.iter().find(|route| route.name.as_str() == &*compiled.name);
        let route = route.ok_or(Refusal::NoRoute)?;
        way.route = Some(route.name.to_string());
        route.paths.judge(oddities)?;
        check_sni(question, listener, &host)?;

        let proven = self.authenticate(question, route, peer.as_ref(), now);
        let who = proven.as_ref().ok().map(|proven| &*proven.principal);
        self.note_limits(&question.listener, route, client, who, way);
        let Proven { principal, proofs, until } = proven?;
        way.principal = Some(PrincipalNote::new(&principal));
        way.proofs = proofs;
        way.until = until;

        let certificate = peer.as_ref().map(Peer::shown);
        let facts = Facts {
            method: question.method.as_str(),
            path: target.path(),
            query: target.query(),
            host: &host,
            address: client,
            tls: TlsFacts {
                version: listener.tls.as_ref().map(|_| ASSUMED_VERSION),
                sni: listener.tls.as_ref().map(|_| question.sni.as_str()),
                client_certificate: certificate.as_ref().map(Shown::facts),
            },
            now,
            ends: way.until,
        };
        let explanation = self.snapshot.engine.explain(&Subject::new(&principal), index, &facts);
        way.decision = Some(Decision::new(&explanation));
        explanation.decision.map_err(Refusal::Denied)?;
        way.inspection = route.inspection.map(|inspection| {
            let what = match inspection.mode {
                Mode::Block => "refused",
                Mode::Detect => "logged",
            };
            let Strictness { paranoia, threshold } = inspection.strictness;
            format!("at paranoia level {paranoia}, {what} from a score of {threshold} on")
        });
        self.act(route, target.path(), target.query())
    }

    fn act(&self, route: &Route, path: &str, query: Option<&str>) -> Result<Outcome, Stop> {
        let rewrite = match &route.action {
            Action::Respond { status, .. } | Action::Redirect { status, .. } => {
                return Ok(Outcome::Answered { status: status.as_u16() });
            }
            Action::Forward { rewrite, .. } => rewrite,
        };
        let path = match rewrite {
            Some(rewrite) => rewrite.apply(path)?,
            None => path.to_owned(),
        };
        let names: BTreeSet<&Name> = route.action.upstreams().collect();
        let upstreams = names.iter().filter_map(|name| self.config.upstreams.get(name.as_str()));
        let endpoints = upstreams.flat_map(|upstream| &upstream.endpoints).map(ToString::to_string).collect();
        Ok(Outcome::Forwarded {
            upstream: names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" or "),
            endpoints,
            target: query.map_or(path.clone(), |query| format!("{path}?{query}")),
        })
    }

    /// Limits in the order in which they are charged; without a principal those after authentication are not.
    fn note_limits(
        &self,
        listener: &Name,
        route: &Route,
        client: IpAddr,
        who: Option<&Principal>,
        way: &mut Way,
    ) {
        let of_connection =
            self.config.listeners.get(listener).into_iter().flat_map(|listener| &listener.rate);
        let named = |names: &mut dyn Iterator<Item = &Name>, charged: fn(bool) -> Option<&'static str>| {
            let limits = names.filter_map(|name| Some((name, self.config.limits.get(name)?)));
            let charged = limits.filter_map(|(name, limit)| Some((name, limit, charged(limit.at_edge)?)));
            charged
                .map(|(name, limit, charged)| LimitNote {
                    name: name.to_string(),
                    counts: bucket(&limit.key, client, route, who),
                    quota: limit.quota.to_string(),
                    charged,
                })
                .collect::<Vec<_>>()
        };
        way.limits.extend(named(&mut of_connection.into_iter(), |_| Some("for a new connection")));
        way.limits.extend(named(&mut route.limits.iter(), |edge| edge.then_some("before authentication")));
        if who.is_some() {
            way.limits
                .extend(named(&mut route.limits.iter(), |edge| (!edge).then_some("after authentication")));
        }
        way.concurrency = route.concurrency.map(std::num::NonZero::get);
    }
}

/// Which bucket a request falls into.
fn bucket(key: &LimitKey, client: IpAddr, route: &Route, who: Option<&Principal>) -> String {
    match key {
        LimitKey::Address => format!("address {client}"),
        LimitKey::Route => format!("route {}", route.name),
        LimitKey::Principal => {
            who.map_or_else(|| "principal".to_owned(), |who| format!("principal {}", who.id))
        }
        LimitKey::Claim(name) => match who.and_then(|who| who.claims.get(name.as_str())) {
            Some(value) => format!("claim {name} = {}", claim(value)),
            None => format!("claim {name}, which the caller lacks"),
        },
    }
}

/// A host that asks for other client certificates than the connection's own needs a connection of its own.
fn check_sni(question: &Question, listener: &Listener, host: &str) -> Result<(), Refusal> {
    let Some(tls) = &listener.tls else { return Ok(()) };
    let sni = tls.policy_for_host(&question.sni);
    if tls.same_policy(sni, tls.policy_for_host(host)) { Ok(()) } else { Err(Refusal::MisdirectedRequest) }
}

/// What clients of today agree on; policies may ask for it.
const ASSUMED_VERSION: &str = "1.3";
