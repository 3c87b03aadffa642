//! Looks a permitted request through before its upstream is chosen, by the rules of the core rule set.
//!
//! What passes: what the rules find nothing in; on a route that only detects, everything. What is refused on a route that blocks: what looks
//! like an attack (403), a body that is larger than what is looked at (413), and what could not be judged in time (503). It is another
//! thread that looks: a core only reads the body ahead and waits.
//!
//! Bodies are looked at where they are forms, JSON or XML; of others, of gRPC calls and of upgrades only the head is.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use hyper::body::{Body as _, Incoming};
use telemetry::InspectionSeries;
use waf::{Form, Inspectors, Judged, Request, Rules, Strictness, Verdict, WorkerError};

use crate::body::{Pace, RequestBody};
use crate::handle::Asked;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::route::Route;

/// How a route's requests are looked through.
#[derive(Debug)]
pub struct Inspection {
    /// What becomes of findings.
    pub mode: Mode,
    /// How strictly the rules are read.
    pub strictness: Strictness,
    /// Bytes of a body that are looked at.
    pub body_bytes: usize,
    /// The rules.
    pub rules: Arc<Rules>,
    /// Who looks.
    pub inspectors: Arc<Inspectors>,
    /// Its metrics.
    pub series: Arc<InspectionSeries>,
}

/// What becomes of what was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// It is counted and written to the access log, and passes.
    Detect,
    /// It is refused, and so is what cannot be judged.
    Block,
}

impl Inspection {
    /// Looks a request through. Gives the body back if any of it was read.
    ///
    /// # Errors
    /// On a route that blocks, see the module; on any, when the body breaks off or is too slow.
    pub(crate) async fn look(
        &self,
        route: &Route,
        asked: &Asked<'_>,
        head: &Parts,
        (body, is_upgrade): (&mut Option<Incoming>, bool),
        record: &mut Record,
    ) -> Result<Option<RequestBody>, Refusal> {
        let core = record.core.id.index();
        let announced = body.as_ref().map(|body| body.size_hint());
        let mut taken = None;
        let mut text = Bytes::new();
        let mut length = announced.as_ref().and_then(|length| length.exact());
        let looks = !is_upgrade && !record.is_grpc && Form::of(&head.headers).is_some();
        if let Some(announced) = announced.as_ref().filter(|_| looks) {
            let mut whole = None;
            if announced.lower() <= self.body_bytes as u64 {
                let (bounds, reserved) = (&asked.listener.bounds, &asked.snapshot.reserved);
                let mut read = RequestBody::new(body, bounds, Pace::Uploads, reserved)?;
                record.sent = read.progress();
                whole = read.ahead(self.body_bytes).await?;
                taken = Some(read);
            }
            match whole {
                Some(whole) => (length, text) = (Some(whole.len() as u64), whole),
                None => {
                    self.series.counted(core, "too_large");
                    if self.mode == Mode::Block {
                        return Err(Refusal::BodyTooLarge(self.body_bytes as u64));
                    }
                }
            }
        }
        let request = shown(route, asked, head, (announced.is_some(), length, text), record);
        let judged = self.inspectors.judge(self.rules.clone(), request, self.strictness).await;
        self.conclude(judged, core, record)?;
        Ok(taken)
    }

    fn conclude(
        &self,
        judged: Result<Judged, WorkerError>,
        core: usize,
        record: &mut Record,
    ) -> Result<(), Refusal> {
        let blocks = self.mode == Mode::Block;
        let (result, refusal) = match judged {
            Ok(Judged::Verdict(Verdict { is_attack: false, .. })) => ("passed", None),
            Ok(Judged::Verdict(Verdict { score, rules, .. })) => {
                record.findings = Some(Box::new((score, rules)));
                (if blocks { "blocked" } else { "detected" }, Some(Refusal::Attack))
            }
            Ok(Judged::TimeUp) => ("timeout", Some(Refusal::Uninspected)),
            Ok(Judged::Failed(cause)) => {
                if record.core.may_tell() {
                    tracing::error!(cause, trace_id = %record.trace.trace, "a request could not be inspected");
                }
                ("failed", Some(Refusal::Uninspected))
            }
            Err(WorkerError::Busy) => ("busy", Some(Refusal::Uninspected)),
        };
        self.series.counted(core, result);
        match refusal.filter(|_| blocks) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }
}

/// The request as its upstream would get it, so far as rules look at that.
fn shown(
    route: &Route,
    asked: &Asked<'_>,
    head: &Parts,
    (has_body, length, body): (bool, Option<u64>, Bytes),
    record: &Record,
) -> Request {
    let mut fields = head.headers.clone();
    for framing in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING] {
        fields.remove(framing);
    }
    if !route.forward_credentials {
        fields.remove(AUTHORIZATION);
    }
    if record.is_grpc {
        // The rules know no such type; what a call is, is known here.
        fields.remove(CONTENT_TYPE);
    }
    if has_body && length.is_none() {
        fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Request {
        method: head.method.clone(),
        target: asked.canonical.target.to_string(),
        version: if record.connection.is_http2() { "HTTP/2.0" } else { "HTTP/1.1" },
        client: record.client,
        host: Some(String::from_utf8_lossy(asked.canonical.host.value.as_bytes()).into_owned()),
        fields,
        length: length.filter(|_| has_body),
        body,
    }
}
