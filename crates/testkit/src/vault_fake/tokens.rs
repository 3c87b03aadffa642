//! Tokens: made, looked up, renewed, revoked, and ended by time; their leases end with them.

use std::time::Duration;

use serde_json::{Value, json};

use super::call::{Call, Given, Outcome, Refused, seconds};
use super::state::{State, given, refuse};

#[derive(Clone, Debug)]
pub(super) struct Token {
    id: String,
    accessor: String,
    pub(super) policies: Vec<String>,
    /// None lives for ever.
    ends: Option<Duration>,
    /// What renewals cannot pass.
    last_end: Option<Duration>,
    made: Duration,
    ttl: u64,
    period: u64,
    explicit_max_ttl: u64,
    renewable: bool,
    /// How many requests more it is good for; 0 is any number.
    uses: u64,
    path: String,
}

impl Token {
    pub(super) fn root(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            accessor: "fake-root-accessor".to_owned(),
            policies: vec!["root".to_owned()],
            ends: None,
            last_end: None,
            made: Duration::ZERO,
            ttl: 0,
            period: 0,
            explicit_max_ttl: 0,
            renewable: false,
            uses: 0,
            path: "auth/token/root".to_owned(),
        }
    }

    fn remaining(&self, now: Duration) -> u64 {
        self.ends.map_or(0, |ends| ends.saturating_sub(now).as_secs_f64().round() as u64)
    }

    fn auth(&self, now: Duration) -> Value {
        json!({
            "client_token": self.id, "accessor": self.accessor, "policies": self.policies,
            "token_policies": self.policies, "metadata": null, "lease_duration": self.remaining(now),
            "renewable": self.renewable, "entity_id": "", "token_type": "service", "orphan": true,
            "mfa_requirement": null, "num_uses": self.uses,
        })
    }
}

impl State {
    /// Ends what has had its time.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        self.tokens.retain(|_, token| token.ends.is_none_or(|ends| ends > now));
        let tokens = &self.tokens;
        self.leases.retain(|_, lease| lease.ends > now && tokens.contains_key(&lease.token));
        self.wrapped.retain(|_, wrapped| wrapped.ends > now);
    }

    /// Whether the token of a request lives and may do this.
    pub(super) fn authorise(&mut self, call: &Call) -> Result<(), Refused> {
        let id = call.token.as_deref().unwrap_or_default();
        let dead = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";
        let error = if id.is_empty() { "permission denied" } else { dead };
        let token = self.tokens.get_mut(id).ok_or_else(|| Refused(403, error.to_owned()))?;
        let policies = token.policies.clone();
        if token.uses == 1 {
            self.tokens.remove(id);
        } else {
            token.uses = token.uses.saturating_sub(1);
        }
        let allowed = policies.iter().any(|name| {
            name == "root"
                || self.policies.get(name).is_some_and(|policy| policy.allows(&call.method, &call.path))
                || call.path.starts_with("sys/internal/ui/mounts/")
        });
        if allowed { Ok(()) } else { Err(Refused(403, DENIED.to_owned())) }
    }

    /// Makes a token as a login or the operator does: `settings` has `token_ttl` and its like, or the same without `token_`.
    pub(super) fn make_token(&mut self, settings: &Value, path: &str) -> Given {
        let setting = |name: &str| match &settings[format!("token_{name}")] {
            Value::Null => settings[name].clone(),
            value => value.clone(),
        };
        let number = self.count();
        let mut policies: Vec<String> = match setting("policies") {
            Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::String(names) => names.split(',').map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        if !policies.contains(&"root".to_owned()) {
            policies.insert(0, "default".to_owned());
        }
        let period = seconds(&setting("period"));
        let explicit_max_ttl = seconds(&setting("explicit_max_ttl"));
        let limits =
            [seconds(&setting("max_ttl")), explicit_max_ttl, if period > 0 { 0 } else { SYSTEM_TTL }];
        let most = limits.into_iter().filter(|limit| *limit > 0).min();
        let wanted = [period, seconds(&setting("ttl")), SYSTEM_TTL].into_iter().find(|ttl| *ttl > 0);
        let ttl = wanted.unwrap_or(SYSTEM_TTL).min(most.unwrap_or(u64::MAX));
        let last_end = most.map(|most| self.now + Duration::from_secs(most));
        let token = Token {
            id: format!("hvs.fake-{number:024}"),
            accessor: format!("accessor-{number}"),
            policies,
            ends: Some(self.now + Duration::from_secs(ttl)),
            last_end,
            made: self.now,
            ttl,
            period,
            explicit_max_ttl,
            renewable: setting("renewable").as_bool().unwrap_or(true),
            uses: setting("num_uses").as_u64().unwrap_or(0),
            path: path.to_owned(),
        };
        let auth = token.auth(self.now);
        self.tokens.insert(token.id.clone(), token);
        Given { auth, ..Given::default() }
    }

    /// `auth/token/…`.
    pub(super) fn token(&mut self, call: &Call, below: &str) -> Outcome {
        let own = call.token.clone().unwrap_or_default();
        let id = if below.ends_with("-self") { own } else { call.text("token") };
        match below {
            "create" | "create-orphan" => Ok(self.make_token(&call.body, &format!("auth/token/{below}"))),
            "lookup-self" | "lookup" => self.look_up(&id),
            "renew-self" | "renew" => self.renew_token(&id, seconds(&call.body["increment"])),
            "revoke-self" | "revoke" => {
                self.tokens.remove(&id);
                self.expire();
                Given::nothing()
            }
            "revoke-accessor" => {
                self.tokens.retain(|_, token| token.accessor != call.text("accessor"));
                self.expire();
                Given::nothing()
            }
            _ => refuse(404, ""),
        }
    }

    /// Ends all tokens that were made below this path.
    pub(super) fn revoke_tokens_of(&mut self, path: &str) {
        self.tokens.retain(|_, token| !token.path.starts_with(path));
        self.expire();
    }

    /// How many tokens of logins live.
    pub(super) fn tokens_of_logins(&mut self, now: Duration) -> usize {
        self.now = now;
        self.expire();
        self.tokens.values().filter(|token| token.path.ends_with("/login")).count()
    }

    fn look_up(&self, id: &str) -> Outcome {
        let Some(token) = self.tokens.get(id) else { return refuse(403, "bad token") };
        let expires = token.ends.map_or(Value::Null, |ends| json!(self.date(ends)));
        let creation = self.unix() - (self.now - token.made).as_secs();
        let mut data = json!({
            "accessor": token.accessor, "creation_time": creation, "creation_ttl": token.ttl,
            "display_name": "fake", "entity_id": "", "expire_time": expires,
            "explicit_max_ttl": token.explicit_max_ttl, "id": token.id, "issue_time": self.date(token.made),
            "meta": null, "num_uses": token.uses, "orphan": true, "path": token.path,
            "policies": token.policies, "renewable": token.renewable, "ttl": token.remaining(self.now),
            "type": "service",
        });
        if token.period > 0 {
            data["period"] = json!(token.period);
        }
        given(data)
    }

    fn renew_token(&mut self, id: &str, increment: u64) -> Outcome {
        let now = self.now;
        let Some(token) = self.tokens.get_mut(id) else { return refuse(403, "bad token") };
        if !token.renewable {
            return refuse(400, "lease is not renewable");
        }
        let wanted =
            [token.period, increment, token.ttl].into_iter().find(|ttl| *ttl > 0).unwrap_or(token.ttl);
        let end = now + Duration::from_secs(wanted);
        let capped = token.last_end.filter(|last| *last < end);
        token.ends = Some(capped.unwrap_or(end));
        let warning = capped.map(|_| {
            format!("TTL of \"{wanted}s\" exceeded the effective max_ttl; TTL value is capped accordingly")
        });
        Ok(Given { auth: token.auth(now), warnings: warning.into_iter().collect(), ..Given::default() })
    }
}

const DENIED: &str = "1 error occurred:\n\t* permission denied\n\n";
/// Vault's default: 768 hours.
const SYSTEM_TTL: u64 = 768 * 3600;
