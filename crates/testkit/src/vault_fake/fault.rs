//! What can go wrong on the product's way, by script.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use tokio::sync::watch;

use super::call::Reply;
use crate::server::{Body, full};

/// What happens to a request instead of, or besides, its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status with an error of the server's kind; the request is not done.
    Status(u16),
    /// 429, with `Retry-After` in seconds if given; the request is not done.
    Throttle(Option<u64>),
    /// 307 to this address with the same path; the request is not done.
    Redirect(String),
    /// The request is done and answered this much later.
    Slow(Duration),
    /// No answer until [`super::VaultFake::heal`]; then as if nothing had been.
    Hang,
    /// The connection is closed; the request is not done.
    Drop,
    /// The request is done; of the answer, the first half comes as if it were whole.
    Truncated,
    /// The request is done; the answer claims to have this many bytes more than come.
    LyingLength(usize),
    /// This body with this status; the request is not done.
    Body(u16, String),
    /// 200 and JSON of this many bytes; the request is not done.
    Huge(usize),
}

pub(super) struct Faults {
    rules: Mutex<Vec<Rule>>,
    healed: watch::Sender<u64>,
}

struct Rule {
    path: String,
    left: Option<usize>,
    fault: Fault,
}

impl Default for Faults {
    fn default() -> Self {
        Self { rules: Mutex::default(), healed: watch::channel(0).0 }
    }
}

impl Faults {
    pub(super) fn add(&self, path: &str, left: Option<usize>, fault: Fault) {
        self.rules.lock().unwrap().push(Rule { path: path.to_owned(), left, fault });
    }

    pub(super) fn heal(&self) {
        self.rules.lock().unwrap().clear();
        self.healed.send_modify(|times| *times += 1);
    }

    /// Waits where a fault says so; gives the fault for the answer to come, or the answer instead of it.
    pub(super) async fn before(&self, path: &str) -> (Option<Fault>, Option<Reply>) {
        let mut healed = self.healed.subscribe();
        let Some(fault) = self.next(path) else { return (None, None) };
        match fault {
            Fault::Hang => {
                healed.changed().await.ok();
                (None, None)
            }
            Fault::Slow(by) => {
                tokio::time::sleep(by).await;
                (None, None)
            }
            fault => {
                let reply = fault.reply(path);
                (Some(fault), reply)
            }
        }
    }

    fn next(&self, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| path.starts_with(&rule.path) && rule.left != Some(0))?;
        rule.left = rule.left.map(|left| left - 1);
        Some(rule.fault.clone())
    }
}

impl Fault {
    /// The answer of a request that is not done.
    fn reply(&self, path: &str) -> Option<Reply> {
        match self {
            Self::Status(status) => Some(Reply::errors(*status, "as the test wants it")),
            Self::Throttle(after) => {
                let mut reply = Reply::errors(429, "request path: rate limit quota exceeded");
                reply.fields.extend(after.map(|after| ("retry-after", after.to_string())));
                Some(reply)
            }
            Self::Redirect(to) => {
                let mut reply = Reply::empty(307);
                reply.fields.push(("location", format!("{to}/v1/{path}")));
                Some(reply)
            }
            Self::Body(status, body) => {
                let fields = vec![("content-type", "application/json".to_owned())];
                Some(Reply { status: *status, fields, body: body.clone().into_bytes() })
            }
            Self::Huge(size) => {
                let filler = "x".repeat(size.saturating_sub(24));
                Some(Reply::json(200, &serde_json::json!({ "data": { "value": filler } })))
            }
            Self::Slow(_) | Self::Hang | Self::Drop | Self::Truncated | Self::LyingLength(_) => None,
        }
    }

    /// What becomes of the answer of a request that is done; `Drop` drops it.
    pub(super) fn spoil(&self, mut reply: Reply) -> Option<Response<Body>> {
        match self {
            Self::Drop => None,
            Self::Truncated => {
                reply.body.truncate(reply.body.len() / 2);
                Some(reply.response())
            }
            Self::LyingLength(more) => {
                reply.fields.push(("content-length", (reply.body.len() + more).to_string()));
                let body = Bytes::from(std::mem::take(&mut reply.body));
                // A body whose length hyper cannot know, or it would not lie.
                Some(reply.response().map(|_| full(body).map_frame(|frame| frame).boxed_unsync()))
            }
            _ => Some(reply.response()),
        }
    }
}
