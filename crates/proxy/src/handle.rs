//! The way of a request, on one screen: normalise, route, limit, authenticate, limit, decide, send, record.

mod forward;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::ORIGIN;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use policy::{Facts, Permit};

use crate::authenticate::{Caller, authenticate};
use crate::body::{ResponseBody, discard};
use crate::challenge;
use crate::connection::Connection;
use crate::core::Core;
use crate::cors::{one, preflight};
use crate::normalize::client::client_address;
use crate::normalize::{Canonical, normalize};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::respond::{Outcome, refuse, respond, to_tls};
use crate::route::{Action, PathRules, Route};
use crate::snapshot::{Listener, Snapshot};
use crate::token::{Bearer, RouteToken};
use crate::upgrade::{Upgrade, allowed, close_unless_switched};
use crate::validate;
use forward::forward;

/// Answers one request. Every failure is a [`Refusal`]; nothing is forwarded without a [`Permit`].
///
/// # Errors
/// None: what goes wrong is answered.
pub fn handle(
    core: Rc<Core>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    // Before the future, which would have room for each of them twice.
    let (mut head, body) = request.into_parts();
    let mut record = Record::begin(core, connection, &head);
    // An empty body is none: nothing of it can stay unread.
    let mut body = (!body.is_end_stream()).then_some(body);
    async move {
        let result = pipeline(&mut head, &mut body, &mut record).await;
        let snapshot = record.snapshot.clone();
        let route = record.route.and_then(|index| snapshot.route(index));
        let connection = record.connection.clone();
        if let Some(unread) = body
            && connection.is_http2()
        {
            Box::pin(discard(unread)).await;
        }
        let may_switch = record.may_switch;
        let mut response = match result {
            Ok(outcome) => respond(outcome, route, record),
            Err(refusal) => refuse(&refusal, route, record),
        };
        if may_switch {
            close_unless_switched(&mut response);
        }
        connection.close_after(&mut response);
        Ok(response)
    }
}

/// Takes the body when the request is forwarded.
async fn pipeline(
    head: &mut Parts,
    body: &mut Option<Incoming>,
    record: &mut Record,
) -> Result<Outcome, Refusal> {
    let (core, connection, snapshot) =
        (record.core.clone(), record.connection.clone(), record.snapshot.clone());
    let listener = snapshot.listeners.get(connection.listener()).ok_or(Refusal::Draining)?;

    if let Some(asking) = &listener.validate {
        return Box::pin(validate::answer(asking, listener, head.clone(), body, record)).await;
    }
    record.client = client_address(connection.peer_address(), listener, &head.headers);
    record.follow(listener, &head.headers);
    let canonical = normalize(head, &connection, &listener.bounds, &snapshot.reserved)?;
    record.host = Some(canonical.host.clone());
    record.target = Some(canonical.target.clone());
    connection.rejudge(&core, listener, record.now)?;
    if let Some(proof) = challenge::proof(&connection, &head.method, &canonical) {
        return Ok(Outcome::Own(StatusCode::OK, proof));
    }
    if let Some(port) = listener.redirect {
        return Ok(Outcome::Redirect(StatusCode::PERMANENT_REDIRECT, to_tls(&canonical, port)?));
    }

    let asked =
        Asked { core: &core, connection: &connection, snapshot: &snapshot, listener, canonical: &canonical };
    let permitted = match judge(&asked, head, record).await? {
        Verdict::Answered(outcome) => return Ok(outcome),
        Verdict::Permitted(permitted) => permitted,
    };
    match &permitted.route.action {
        // Answered by the judge, before anybody was asked who he is.
        Action::Keys(_) => Err(Refusal::NoRoute),
        Action::Respond { status, body } => Ok(Outcome::Own(*status, body.clone())),
        Action::Redirect { status, to } => {
            Ok(Outcome::Redirect(*status, to.fill(&canonical.host.name, &canonical.target)?))
        }
        Action::Forward { to, rewrite } => {
            let compress = permitted.route.compress.as_ref();
            record.wanted = compress.map(|compress| Box::new(compress.wanted(&head.method, &head.headers)));
            forward(permitted, (to, rewrite.as_deref()), &asked, head, body, record).await
        }
    }
}

/// A request in canonical form, and where it is asked.
pub(crate) struct Asked<'a> {
    pub core: &'a Rc<Core>,
    /// What the caller proves, and what policies know of TLS.
    pub connection: &'a Connection,
    pub snapshot: &'a Snapshot,
    /// Whose routes count.
    pub listener: &'a Listener,
    pub canonical: &'a Canonical,
}

/// What becomes of a request that is not refused.
pub(crate) enum Verdict<'a> {
    /// It has its answer, whoever asks.
    Answered(Outcome),
    /// Its caller may do what the route does.
    Permitted(Permitted<'a>),
}

/// A request that may go on, with all that was found out about it.
pub(crate) struct Permitted<'a> {
    pub route: &'a Route,
    pub caller: Caller,
    pub permit: Permit,
    /// The route's place in flight.
    pub slot: Option<limit::Slot>,
    /// What the caller may speak instead of HTTP, and asked for.
    pub upgrade: Option<Box<Upgrade>>,
}

/// Route, limits, who, may: the one way to a [`Permit`].
pub(crate) async fn judge<'a>(
    asked: &Asked<'a>,
    head: &Parts,
    record: &mut Record,
) -> Result<Verdict<'a>, Refusal> {
    let Asked { core, connection, canonical, .. } = *asked;
    let (client, now) = (record.client, record.now);
    let preflight = preflight(&head.method, &head.headers);
    let route = find_route(asked, &head.method, preflight.as_ref())?;
    record.route = Some(route.index);
    route.paths.judge(canonical.oddities)?;
    let upgrade = allowed(&canonical.upgrade, &route.upgrades)?;
    if upgrade.is_some() {
        record.may_switch = true;
        // Of an extended CONNECT, what it is judged as, and judged again.
        record.method = head.method.clone();
    }
    check_tls_policy(asked)?;

    for limit in route.edge_limits.iter() {
        limit.charge(core.id, client, &core.anonymous.principal, &route.name)?;
    }
    if let Some(cors) = &route.cors {
        record.origin = one(&head.headers, &ORIGIN).cloned();
        if let Some(method) = &preflight {
            return Ok(Verdict::Answered(Outcome::Preflight(cors.grant(method, &head.headers)?)));
        }
    }
    if let Action::Keys(keys) = &route.action {
        let missing = || Refusal::TokenUnavailable { token: route.name.to_string() };
        let keys = keys.load().ok_or_else(missing)?;
        return Ok(Verdict::Answered(Outcome::Keys(Bytes::clone(&keys))));
    }
    let caller = authenticate(core, connection, &route.authenticate, &head.headers, now).await?;
    record.caller = Some(caller.clone());
    for limit in route.limits.iter() {
        limit.charge(core.id, client, &caller.principal, &route.name)?;
    }
    let permit = decide(&facts(asked, head, &caller, record), route, &caller, record)?;
    let slot = match &route.concurrency {
        Some(concurrency) => Some(concurrency.try_acquire().ok_or(Refusal::ConcurrencyReached)?),
        None => None,
    };
    Ok(Verdict::Permitted(Permitted { route, caller, permit, slot, upgrade: upgrade.map(Box::new) }))
}

/// A preflight is for the route of the request that it asks for, if that says anything of CORS.
fn find_route<'a>(
    asked: &Asked<'a>,
    method: &Method,
    preflight: Option<&Method>,
) -> Result<&'a Route, Refusal> {
    let Asked { canonical, listener, snapshot, .. } = *asked;
    if let Some(method) = preflight
        && let Ok(index) = listener.router.find(&canonical.host.name, canonical.target.path(), method)
        && let Some(route) = snapshot.route(index).filter(|route| route.cors.is_some())
    {
        return Ok(route);
    }
    let found = listener.router.find(&canonical.host.name, canonical.target.path(), method);
    // Where no route could allow an oddity, it is refused as everywhere, not taken for a path that nobody has.
    let index = found.or_else(|none| PathRules::default().judge(canonical.oddities).and(Err(none)))?;
    snapshot.route(index).ok_or(Refusal::NoRoute)
}

/// The token that takes the place of the caller's credential at the upstream called `audience`.
pub(crate) fn minted(
    token: &RouteToken,
    audience: &Arc<str>,
    asked: &Asked<'_>,
    head: &Parts,
    caller: &Caller,
    record: &Record,
) -> Result<Bearer, Refusal> {
    token.bearer(asked.core, &asked.snapshot.engine, audience, caller, &facts(asked, head, caller, record))
}

/// A host that asks for other client certificates than the connection's own needs a connection of its own
/// (RFC 9110 section 15.5.20).
fn check_tls_policy(asked: &Asked<'_>) -> Result<(), Refusal> {
    match (&asked.listener.tls, asked.connection.handshake()) {
        (Some(tls), Some(handshake)) if !tls.serves(handshake, &asked.canonical.host.name) => {
            Err(Refusal::MisdirectedRequest)
        }
        // Another proxy asks: what the client proved to that one is not known here.
        (Some(tls), None) if tls.demands_certificate(&asked.canonical.host.name) => {
            Err(Refusal::CertificateRequired { trusts: "the host's TLS policy".to_owned() })
        }
        _ => Ok(()),
    }
}

fn facts<'a>(asked: &Asked<'a>, head: &'a Parts, caller: &Caller, record: &Record) -> Facts<'a> {
    let Asked { connection, canonical, .. } = *asked;
    Facts {
        method: head.method.as_str(),
        path: canonical.target.path(),
        query: canonical.target.query(),
        host: &canonical.host.name,
        address: record.client,
        tls: connection.tls_facts(),
        now: record.now,
        ends: caller.ends,
    }
}

fn decide(facts: &Facts<'_>, route: &Route, caller: &Caller, record: &mut Record) -> Result<Permit, Refusal> {
    let decided =
        record.core.decider.borrow_mut().decide(&record.snapshot.engine, &caller.subject, route.index, facts);
    match decided {
        Ok(permit) => {
            record.decision = Some((permit.decision_id(), permit.shared_policies()));
            Ok(permit)
        }
        Err(denial) => {
            record.decision = Some((denial.decision_id, denial.policies));
            Err(Refusal::Denied(denial.reason))
        }
    }
}
