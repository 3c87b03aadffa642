//! What was found out, for people.

use std::time::SystemTime;

use super::walk::{Explained, LimitNote, Outcome};
use crate::cli::out::{self, Rows, paint, printable};
use crate::cli::principal::PrincipalNote;
use crate::cli::time;

impl Explained {
    pub(super) fn text(&self, now: SystemTime) -> String {
        let Self { way, outcome } = self;
        let mut rows = Rows::default();
        rows.add("request", printable(&format!("{} {}", way.method, way.url)));
        rows.add("listener", &way.listener);
        rows.list("client", way.client.map(|address| address.to_string()));
        rows.list("host", way.host.clone());
        rows.list("path", way.target.clone());
        rows.list("route", way.route.clone());
        rows.list("who", way.principal.as_ref().map(PrincipalNote::text));
        rows.list("proven by", way.proofs.iter().map(|proof| printable(proof)));
        rows.list("until", way.until.map(|until| time::moment(until, now)));
        rows.list("limits", way.limits.iter().map(LimitNote::text));
        rows.list("in flight", way.concurrency.map(|most| format!("at most {most}")));
        if let Some(decision) = &way.decision {
            decision.add_to(&mut rows);
        }
        rows.list("core rule set", way.inspection.clone());
        rows.add("outcome", outcome.text());
        if let Outcome::Forwarded { endpoints, target, .. } = outcome {
            rows.list("endpoints", endpoints.iter().cloned());
            rows.add("sent as", format!("{} {target}", way.method));
        }
        rows.to_string()
    }
}

impl LimitNote {
    fn text(&self) -> String {
        let Self { name, counts, quota, charged } = self;
        format!("{name}: {quota} for {}, charged {charged}", printable(counts))
    }
}

impl Outcome {
    fn text(&self) -> String {
        match self {
            Self::Answered { status } => paint(out::GOOD, format!("answered with {status}")),
            Self::Disconnected { reason } => format!("{}: {reason}", paint(out::ERROR, "no connection")),
            Self::Forwarded { upstream, .. } => paint(out::GOOD, format!("forwarded to {upstream}")),
            Self::Redirected => paint(out::GOOD, "redirected to TLS with 308"),
            Self::Refused { status, code, reason } => {
                format!(
                    "{}: {}",
                    paint(out::ERROR, format!("refused with {status} {code}")),
                    printable(reason)
                )
            }
            Self::Unknown { reason } => format!("{}: {reason}", paint(out::WARNING, "can't tell")),
        }
    }
}
