//! The way of a request, on one screen: normalise, route, limit, authenticate, limit, decide, send, record.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use policy::{Facts, Permit, TlsFacts};

use crate::authenticate::{Caller, authenticate};
use crate::body::{Lease, RequestBody, ResponseBody, discard};
use crate::challenge;
use crate::connection::Connection;
use crate::core::Core;
use crate::forward::{About, Shown, forwarded};
use crate::normalize::client::client_address;
use crate::normalize::{Canonical, normalize};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::respond::{Outcome, refuse, respond, to_tls};
use crate::route::{Action, PathRules, Route};
use crate::snapshot::{Listener, Snapshot};
use crate::token::Bearer;
use crate::upstream::send;

/// Answers one request. Every failure is a [`Refusal`]; nothing is forwarded without a [`Permit`].
///
/// # Errors
/// None: what goes wrong is answered.
pub async fn handle(
    core: Rc<Core>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (head, body) = request.into_parts();
    let mut record = Record::begin(core, connection, &head);
    // An empty body is none: nothing of it can stay unread.
    let mut body = (!body.is_end_stream()).then_some(body);
    let result = pipeline(head, &mut body, &mut record).await;
    if let Some(unread) = body
        && record.connection.is_http2()
    {
        discard(unread).await;
    }
    Ok(match result {
        Ok(outcome) => respond(outcome, record),
        Err(refusal) => refuse(&refusal, record),
    })
}

/// Takes the body when the request is forwarded.
async fn pipeline(
    mut head: Parts,
    body: &mut Option<Incoming>,
    record: &mut Record,
) -> Result<Outcome, Refusal> {
    let (core, connection, snapshot) =
        (record.core.clone(), record.connection.clone(), record.snapshot.clone());
    let listener = snapshot.listeners.get(connection.listener()).ok_or(Refusal::Draining)?;

    let client = client_address(connection.peer_address(), listener, &head.headers);
    record.client = client;
    record.follow(listener, &head.headers);
    let canonical = normalize(&mut head, &connection, &listener.bounds, &snapshot.reserved)?;
    record.host = Some(canonical.host.clone());
    record.target = Some(canonical.target.clone());
    connection.rejudge(listener, record.now)?;
    if let Some(proof) = challenge::proof(&connection, &head.method, &canonical) {
        return Ok(Outcome::Own(StatusCode::OK, proof));
    }
    if let Some(port) = listener.redirect {
        return Ok(Outcome::Redirect(to_tls(&canonical, port)?));
    }

    let route = find_route(&snapshot, listener, &canonical, &head.method)?;
    record.route = Some(route.index);
    route.paths.judge(canonical.oddities)?;
    check_tls_policy(listener, &connection, &canonical)?;

    for limit in &route.edge_limits {
        limit.charge(core.id, client, &core.anonymous.principal, &route.name)?;
    }
    if let Action::Keys(keys) = &route.action {
        let missing = || Refusal::TokenUnavailable { token: route.name.to_string() };
        return keys.load().map(|keys| Outcome::Keys(Bytes::clone(&keys))).ok_or_else(missing);
    }
    let caller = authenticate(&core, &connection, &route.authenticate, &head.headers, record.now).await?;
    record.caller = Some(caller.clone());
    for limit in &route.limits {
        limit.charge(core.id, client, &caller.principal, &route.name)?;
    }
    let facts = facts(&head, &canonical, &caller, &connection, record);
    let permit = decide(&facts, route, &caller, record)?;
    let slot = match &route.concurrency {
        Some(concurrency) => Some(concurrency.try_acquire().ok_or(Refusal::ConcurrencyReached)?),
        None => None,
    };

    match &route.action {
        // Answered above, before anybody was asked.
        Action::Keys(_) => Err(Refusal::NoRoute),
        Action::Respond { status, body } => Ok(Outcome::Own(*status, body.clone())),
        Action::Forward { upstream, rewrite } => {
            let credential = upstream.shown()?;
            let token = match &route.token {
                None => None,
                Some(token) => {
                    match token.bearer(&core, &snapshot.engine, &upstream.name, &caller, &facts)? {
                        Bearer::Held(token) => Some(token),
                        Bearer::Awaited(token) => Some(token.await?),
                    }
                }
            };
            let body = RequestBody::new(body, &listener.bounds, &snapshot.reserved)?;
            record.sent = body.progress();
            record.upstream = Some(upstream.name.clone());
            let about = About {
                caller: &caller,
                client,
                connection: &connection,
                trace: record.trace,
                request_id: &record.request_id,
            };
            let shown = Shown { token, credential: credential.as_deref() };
            let request = forwarded(head, body, &canonical, route, rewrite.as_ref(), &about, shown)?;
            let lease = Lease::new(permit, record.now, record.began, upstream.timeouts.whole);
            let answer = Box::new(send(lease, &core, upstream, request, credential).await?);
            Ok(Outcome::Answered { answer, security_fields: route.security_fields, slot })
        }
    }
}

fn find_route<'a>(
    snapshot: &'a Snapshot,
    listener: &Listener,
    canonical: &Canonical,
    method: &Method,
) -> Result<&'a Route, Refusal> {
    let found = listener.router.find(&canonical.host.name, canonical.target.path(), method);
    // Where no route could allow an oddity, it is refused as everywhere, not taken for a path that nobody has.
    let index = found.or_else(|none| PathRules::default().judge(canonical.oddities).and(Err(none)))?;
    snapshot.route(index).ok_or(Refusal::NoRoute)
}

/// A host that asks for other client certificates than the connection's own needs a connection of its own
/// (RFC 9110 section 15.5.20).
fn check_tls_policy(
    listener: &Listener,
    connection: &Connection,
    canonical: &Canonical,
) -> Result<(), Refusal> {
    match (&listener.tls, connection.handshake()) {
        (Some(tls), Some(handshake)) if !tls.serves(handshake, &canonical.host.name) => {
            Err(Refusal::MisdirectedRequest)
        }
        _ => Ok(()),
    }
}

fn facts<'a>(
    head: &'a Parts,
    canonical: &'a Canonical,
    caller: &Caller,
    connection: &'a Connection,
    record: &Record,
) -> Facts<'a> {
    let handshake = connection.handshake();
    Facts {
        method: head.method.as_str(),
        path: canonical.target.path(),
        query: canonical.target.query(),
        host: &canonical.host.name,
        address: record.client,
        tls: TlsFacts {
            version: handshake.map(|h| h.version.as_str()),
            sni: handshake.and_then(|h| h.sni.as_deref()),
            client_certificate: connection.certificate_facts(),
        },
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
