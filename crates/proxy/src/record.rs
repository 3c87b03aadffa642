//! The one record of a request, written when its answer has ended, also when the client vanished.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::USER_AGENT;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use identity::PrincipalId;
use policy::{DecisionId, PolicyId, RouteIndex};
use telemetry::{TlsRecord, Traceparent};
use tokio::time::Instant;

use crate::addresses::Addresses;
use crate::authenticate::Caller;
use crate::body::Progress;
use crate::compress::Wanted;
use crate::connection::Connection;
use crate::core::{Core, Held};
use crate::grpc;
use crate::normalize::HostFacts;
use crate::snapshot::Listener;

/// Gathers what happened to a request; its drop writes the access log and the metrics.
#[derive(Debug)]
pub struct Record {
    pub(crate) core: Rc<Core>,
    pub(crate) snapshot: Held,
    pub(crate) connection: Rc<Connection>,
    pub(crate) now: SystemTime,
    pub(crate) began: Instant,
    pub(crate) trace: Traceparent,
    pub(crate) method: Method,
    /// A gRPC call: whoever calls reads no other status.
    pub(crate) is_grpc: bool,
    pub(crate) client: IpAddr,
    pub(crate) host: Option<Rc<HostFacts>>,
    pub(crate) target: Option<PathAndQuery>,
    pub(crate) route: Option<RouteIndex>,
    pub(crate) caller: Option<Caller>,
    pub(crate) decision: Option<(DecisionId, Arc<[PolicyId]>)>,
    pub(crate) upstream: Option<Arc<str>>,
    pub(crate) sent: Option<Rc<Progress>>,
    pub(crate) user_agent: Option<HeaderValue>,
    /// What the core rule set says against it: its score, and the rules.
    pub(crate) findings: Option<Box<(u32, Vec<u32>)>>,
    /// The page's origin, where the route asks for it.
    pub(crate) origin: Option<HeaderValue>,
    /// What is wanted of an answer that may be compressed, where the route says so.
    pub(crate) wanted: Option<Box<Wanted>>,
    pub(crate) status: u16,
    /// When a tunnel was opened: what it says afterwards is no part of the answer's time.
    pub(crate) answered_after: Option<Duration>,
    /// The route allows the upgrade that was asked for.
    pub(crate) may_switch: bool,
    pub(crate) code: Option<&'static str>,
    pub(crate) bytes_out: u64,
    /// The answer was handed over whole.
    pub(crate) complete: bool,
}

impl Record {
    /// Begins the record of a request, and counts it as in flight.
    pub(crate) fn begin(core: Rc<Core>, connection: Rc<Connection>, head: &http::request::Parts) -> Self {
        connection.began();
        core.metrics.request_began(core.id.index());
        let ids = &core.trace_ids;
        let trace = Traceparent { trace: ids.trace(), parent: ids.span(), sampled: false };
        Self {
            snapshot: core.snapshot(),
            now: core.now(),
            began: Instant::now(),
            trace,
            method: head.method.clone(),
            is_grpc: connection.is_http2() && grpc::is_call(head),
            client: connection.peer_address(),
            host: None,
            target: head.uri.path_and_query().cloned(),
            route: None,
            caller: None,
            decision: None,
            upstream: None,
            sent: None,
            user_agent: head.headers.get(USER_AGENT).cloned(),
            findings: None,
            origin: None,
            wanted: None,
            status: 0,
            answered_after: None,
            may_switch: false,
            code: None,
            bytes_out: 0,
            complete: false,
            core,
            connection,
        }
    }

    /// Goes on with the trace of a trusted peer; anybody else's would let a stranger write into our traces.
    pub(crate) fn follow(&mut self, listener: &Listener, headers: &HeaderMap) {
        if !listener.trusts(self.connection.peer_address()) {
            return;
        }
        let theirs =
            headers.get("traceparent").and_then(|value| Traceparent::parse(value.to_str().ok()?).ok());
        if let Some(theirs) = theirs {
            self.trace = Traceparent { parent: self.trace.parent, ..theirs };
        }
    }

    /// Both ends of the client's connection, by the client that is believed in.
    pub(crate) fn addresses(&self) -> Addresses {
        self.connection.addresses(self.client)
    }

    fn write(&self, duration: Duration) {
        let handshake = self.connection.handshake();
        let principal: Option<&PrincipalId> = self.caller.as_ref().map(|caller| &caller.principal.id);
        let peer = self.connection.peer_address().to_canonical();
        let (decision, policies) = match &self.decision {
            Some((id, policies)) => (Some(id), policies.as_ref()),
            None => (None, [].as_slice()),
        };
        self.core.log.borrow_mut().write(&telemetry::Record {
            time: self.now,
            trace_id: self.trace.trace,
            listener: self.connection.listener(),
            route: self.route.and_then(|index| self.snapshot.route(index)).map(|route| route.name.as_str()),
            client: self.client,
            peer: (peer != self.client).then_some(peer),
            protocol: if self.connection.is_http2() { "HTTP/2" } else { "HTTP/1.1" },
            method: self.method.as_str(),
            host: self.host.as_ref().map(|host| host.name.as_ref()),
            path: self.target.as_ref().map_or("", PathAndQuery::path),
            status: self.status,
            code: self.code,
            principal: principal.map(|id| id as &dyn std::fmt::Display),
            policies,
            decision_id: decision.map(|id| id as &dyn std::fmt::Display),
            upstream: self.upstream.as_deref(),
            findings: self.findings.as_deref().map(|(score, rules)| (*score, rules.as_slice())),
            bytes_in: self.sent.as_ref().map_or(0, |sent| sent.bytes()),
            bytes_out: self.bytes_out,
            duration,
            user_agent: self.user_agent.as_ref().and_then(|value| value.to_str().ok()),
            tls: handshake.map(|h| TlsRecord {
                version: h.version.as_str(),
                sni: h.sni.as_deref(),
                resumed: h.resumed,
            }),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let core = self.core.id.index();
        let duration = self.began.elapsed();
        if std::thread::panicking() {
            self.code = Some("PANIC");
        } else if !self.complete && self.code.is_none() {
            self.code = Some("CLIENT_GONE");
        }
        if let Some(code) = self.code {
            self.core.metrics.refused(core, code);
        }
        if let Some(route) = self.route.and_then(|index| self.snapshot.route(index)) {
            route.answers.record(core, self.status, self.answered_after.unwrap_or(duration));
        }
        self.core.metrics.request_ended(core);
        self.connection.ended(self.core.tick());
        self.write(duration);
    }
}
