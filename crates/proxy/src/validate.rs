//! Requests that other proxies ask about before they let them pass: HTTP forward-auth, and Envoy's `ext_authz` over gRPC.
//!
//! **Judged** as if the described request had come to the listener whose routes count: the same normalisation, limits (they
//! are charged), authentication, policies and caps, by the same [`judge`]. **Believed** is only who connects from the asking
//! listener's trusted proxies, or proved himself by the certificate that it demands. **Answered:** 200 with the fields that the
//! route would set and the token that it would mint; or the refusal as the client would get it. Nothing else happens, and one
//! record is written.
//!
//! **Stricter than the pipeline**, because another proxy forwards: a path that would be forwarded otherwise than it came
//! (`//`, dot segments) is refused, also where a route would merge it; so is a route that forwards nothing. No client
//! certificate is believed: it was not shown here. **Weaker:** the body is not looked at, no credential of an upstream is
//! handed out, and nothing ends later what was let through.

mod description;
mod ext_authz;
mod messages;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{HeaderName, Response};
use hyper::body::Incoming;

use self::description::Described;
pub use self::description::DescriptionError;
pub(crate) use self::ext_authz::Checked;
use crate::addresses::Addresses;
use crate::connection::Connection;
use crate::core::{Core, Held};
use crate::handle::{Asked, Permitted, Verdict, judge, minted};
use crate::normalize::client::client_address;
use crate::normalize::normalize;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::respond::{Outcome, envelope};
use crate::route::{Action, PathRules, filled, remove_spelled};
use crate::snapshot::Listener;
use crate::token::Bearer;

/// What a listener answers other proxies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Validate {
    /// The listener by whose routes the described requests are judged.
    pub routes_of: Arc<str>,
    /// How they ask.
    pub protocol: Protocol,
}

/// How other proxies ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// By Envoy's `envoy.service.auth.v3.Authorization/Check`, over HTTP/2.
    ExtAuthz,
    /// By an HTTP request whose fields describe another one.
    ForwardAuth,
}

/// Answers one question of another proxy.
///
/// # Errors
/// Who asks may not, or the listener whose routes count is gone. What is refused to the described request is an answer.
pub(crate) async fn answer(
    asking: &Validate,
    listener: &Listener,
    head: Parts,
    body: &mut Option<Incoming>,
    record: &mut Record,
) -> Result<Outcome, Refusal> {
    let (core, connection, snapshot) =
        (record.core.clone(), record.connection.clone(), record.snapshot.clone());
    connection.rejudge(&core, listener, record.now)?;
    let is_believed = match listener.trusted_proxies.as_slice() {
        [] => connection.peer().is_some(),
        _ => listener.trusts(connection.peer_address()),
    };
    if !is_believed {
        return Err(Refusal::ProxyUntrusted);
    }
    if asking.protocol == Protocol::ExtAuthz && head.uri.path() != ext_authz::METHOD {
        return Err(Refusal::NoRoute);
    }
    let judged = snapshot.listeners.get(&asking.routes_of).ok_or(Refusal::Draining)?;
    let described = match asking.protocol {
        Protocol::ForwardAuth => Described::by_fields(head).map_err(Refusal::from),
        Protocol::ExtAuthz => match ext_authz::message(body, listener, &snapshot.reserved).await {
            Ok(message) => Described::by_message(&message).map_err(Refusal::from),
            Err(refusal) => Err(refusal),
        },
    };
    let verdict = match described {
        Ok(described) => grant(described, &core, &snapshot, judged, record).await,
        Err(refusal) => Err(refusal),
    };
    listener.series.validated(core.id.index(), if verdict.is_ok() { "permitted" } else { "refused" });
    Ok(match (asking.protocol, verdict) {
        (Protocol::ForwardAuth, Ok(granted)) => Outcome::Told(Box::new(granted.response())),
        (Protocol::ForwardAuth, Err(refusal)) => Outcome::Told(Box::new(envelope(&refusal, record))),
        (Protocol::ExtAuthz, Ok(granted)) => Outcome::Checked(ext_authz::ok(granted)),
        (Protocol::ExtAuthz, Err(refusal)) => Outcome::Checked(ext_authz::denied(envelope(&refusal, record))),
    })
}

/// What goes on with a request that another proxy may let pass.
struct Granted {
    /// Fields that the route sets, whatever the request has under these names.
    set: HeaderMap,
    /// Names of fields that the request has and its upstream must not see.
    remove: Vec<HeaderName>,
}

impl Granted {
    fn response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.headers_mut() = self.set;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// What the pipeline would merge or resolve on the way, the other proxy sends as it came. The rest is the route's to say.
const AS_IT_CAME: PathRules = PathRules {
    refuse_double_slash: true,
    refuse_dot_segments: true,
    allow_semicolon: true,
    allow_encoded_slash: true,
};

/// What a described request's client connected to: no upstream is told.
const UNKNOWN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// Judges a described request by the routes of a listener.
async fn grant(
    described: Described,
    core: &Rc<Core>,
    snapshot: &Held,
    listener: &Arc<Listener>,
    record: &mut Record,
) -> Result<Granted, Refusal> {
    let Described { mut head, peer, is_tls } = described;
    record.method = head.method.clone();
    record.client = client_address(peer, listener, &head.headers);
    if listener.tls.is_some() && !is_tls {
        return Err(DescriptionError::Plain.into());
    }
    let connection = Connection::new(core, Addresses::new(SocketAddr::new(peer, 0), UNKNOWN), listener, None);
    let reserved: Vec<HeaderName> =
        head.headers.keys().filter(|name| snapshot.reserved.contains(name.as_str())).cloned().collect();
    let canonical = normalize(&mut head, &connection, &listener.bounds, &snapshot.reserved)?;
    record.host = Some(canonical.host.clone());
    record.target = Some(canonical.target.clone());
    AS_IT_CAME.judge(canonical.oddities)?;
    let asked = Asked { core, connection: &connection, snapshot, listener, canonical: &canonical };
    let Verdict::Permitted(Permitted { route, caller, .. }) = judge(&asked, &head, record).await? else {
        return Err(Refusal::NotForwarded);
    };
    let Action::Forward { to, .. } = &route.action else { return Err(Refusal::NotForwarded) };
    let mut set = HeaderMap::new();
    for (name, template) in &route.set_fields {
        set.insert(name.clone(), filled(template, &caller.principal, record.client));
    }
    if let Some(token) = &route.token {
        let chance = || core.trace_ids.chance();
        let upstream = to.choose(&head.headers, &caller.principal.id, record.client, chance);
        let token = match minted(token, &upstream.name, &asked, &head, &caller, record)? {
            Bearer::Held(token) => token,
            Bearer::Awaited(token) => token.await?,
        };
        set.insert(AUTHORIZATION, token);
    }
    let mut remove = reserved;
    if !route.remove_fields.is_empty() {
        let before: Vec<HeaderName> = head.headers.keys().cloned().collect();
        remove_spelled(&mut head.headers, &route.remove_fields);
        remove.extend(before.into_iter().filter(|name| !head.headers.contains_key(name)));
    }
    if !route.forward_credentials {
        remove.push(AUTHORIZATION);
    }
    remove.retain(|name| !set.contains_key(name));
    Ok(Granted { set, remove })
}
