//! Leases: renewed up to a last end, revoked, looked up.

use std::time::Duration;

use serde_json::{Value, json};

use super::call::{Call, Given, Outcome, seconds};
use super::state::{State, given, refuse};

#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// It dies with it.
    pub(super) token: String,
    pub(super) ends: Duration,
    last_end: Duration,
    made: Duration,
    ttl: u64,
}

impl State {
    /// A lease with this time and at most that, below `path`.
    pub(super) fn lease(&mut self, path: &str, token: &str, ttl: u64, most: u64) -> (String, u64, bool) {
        let id = format!("{path}/fake{}", self.count());
        let (now, ttl) = (self.now, ttl.min(most));
        let lease = Lease {
            token: token.to_owned(),
            ends: now + Duration::from_secs(ttl),
            last_end: now + Duration::from_secs(most),
            made: now,
            ttl,
        };
        self.leases.insert(id.clone(), lease);
        (id, ttl, true)
    }

    /// `sys/leases/…`.
    pub(super) fn leases(&mut self, call: &Call, below: &str) -> Outcome {
        if let Some(path) = below.strip_prefix("revoke-prefix/") {
            self.leases.retain(|id, _| !id.starts_with(path));
            self.revoke_tokens_of(path);
            return Given::nothing();
        }
        let id = call.text("lease_id");
        let known = !self.operator && self.lost_leases > 0;
        if known {
            self.lost_leases -= 1;
        }
        let lease = self.leases.get_mut(&id).filter(|_| !known);
        match (below, lease) {
            ("renew", None) => refuse(400, "lease not found"),
            ("lookup", None) => refuse(400, "invalid lease"),
            ("renew", Some(lease)) => {
                let wanted = match seconds(&call.body["increment"]) {
                    0 => lease.ttl,
                    increment => increment,
                };
                lease.ends = (self.now + Duration::from_secs(wanted)).min(lease.last_end);
                let left = (lease.ends - self.now).as_secs();
                Ok(Given { lease: Some((id, left, true)), ..Given::default() })
            }
            ("lookup", Some(lease)) => {
                let (made, ends) = (lease.made, lease.ends);
                given(json!({ "id": id, "issue_time": self.date(made), "expire_time": self.date(ends),
                    "last_renewal": null, "renewable": true, "ttl": (ends - self.now).as_secs() }))
            }
            ("revoke", _) => {
                self.leases.remove(&id);
                Given::nothing()
            }
            _ => refuse(404, ""),
        }
    }

    /// How many leases live.
    pub(super) fn living_leases(&mut self, now: Duration) -> usize {
        self.now = now;
        self.expire();
        self.leases.len()
    }

    /// What of [`Value`] a role says about times: how long, and at most.
    pub(super) fn times(role: &Value) -> (u64, u64) {
        let most = Some(seconds(&role["max_ttl"])).filter(|most| *most > 0).unwrap_or(768 * 3600);
        (Some(seconds(&role["default_ttl"])).filter(|ttl| *ttl > 0).unwrap_or(most), most)
    }
}
