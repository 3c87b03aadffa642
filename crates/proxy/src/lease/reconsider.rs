//! Would the request of a live lease be let through now?
//!
//! **Asked again**, of the generation that serves now and at the time that it is now: the route (by host, path and method; it
//! must still be the one of that name), its TLS policy for the host, the proofs that the route asks for, that the deny list names none of them, that an issuer of
//! the route still asks the same of tokens and still has the key, and the policies, on the same method, path, query, host,
//! address and TLS facts. **Not asked again:** signatures, limits, the concurrency cap, path oddities, and where the route
//! leads. What cannot be judged now (the issuer's keys are unavailable) ends nothing.

use std::time::SystemTime;

use policy::Facts;

use super::LeaseEnd;
use crate::authenticate::authenticate_again;
use crate::core::Core;
use crate::record::Record;
use crate::route::Route;
use crate::snapshot::Snapshot;

/// Judges the request of a lease anew.
///
/// # Errors
/// Why it would not be let through.
pub(super) fn reconsider(
    core: &Core,
    snapshot: &Snapshot,
    record: &Record,
    now: SystemTime,
) -> Result<(), LeaseEnd> {
    let route = route(snapshot, record).ok_or(LeaseEnd::Route)?;
    let (Some(host), Some(target), Some(was)) = (&record.host, &record.target, &record.caller) else {
        return Err(LeaseEnd::Proof);
    };
    let connection = &record.connection;
    let denied = |_| LeaseEnd::Denied;
    if let Some((peer, _)) = connection.peer() {
        core.deny.judge_peer(peer, now).map_err(denied)?;
    }
    core.deny.judge_caller(was, now).map_err(denied)?;
    let caller =
        authenticate_again(core, connection, &route.authenticate, was, now).map_err(|_| LeaseEnd::Proof)?;
    core.deny.judge_caller(&caller, now).map_err(denied)?;
    let facts = Facts {
        method: record.method.as_str(),
        path: target.path(),
        query: target.query(),
        host: &host.name,
        address: record.client,
        tls: connection.tls_facts(),
        now,
        ends: caller.ends,
    };
    let decided = core.decider.borrow_mut().decide(&snapshot.engine, &caller.subject, route.index, &facts);
    decided.map(drop).map_err(|_| LeaseEnd::Policy)
}

/// The route that the request would take, if it is the one that it took.
fn route<'a>(snapshot: &'a Snapshot, record: &Record) -> Option<&'a Route> {
    let took = &record.snapshot.route(record.route?)?.name;
    let (host, target) = (record.host.as_ref()?, record.target.as_ref()?);
    let Some(listener) = snapshot.listeners.get(record.connection.listener()) else {
        // A listener that is gone ends its connections in its own time; whether they are permitted is as before.
        return snapshot.routes.iter().find(|route| route.name == *took);
    };
    if let (Some(tls), Some(handshake)) = (&listener.tls, record.connection.handshake())
        && !tls.serves(handshake, &host.name)
    {
        return None;
    }
    let index = listener.router.find(&host.name, target.path(), &record.method).ok()?;
    snapshot.route(index).filter(|route| route.name == *took)
}
