//! Logins: AppRole, and roles that take a token or a certificate that the test named.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::call::{Call, Given, Outcome};
use super::state::{State, given, refuse};

/// An auth method at its mount.
#[derive(Debug, Default)]
pub(super) struct Method {
    kind: String,
    roles: BTreeMap<String, Role>,
}

#[derive(Debug, Default)]
struct Role {
    settings: Value,
    id: String,
    /// How many logins each is good for; none is any number.
    secret_ids: BTreeMap<String, Option<u64>>,
    /// Tokens or certificates' fingerprints.
    accepted: BTreeSet<String>,
}

impl Method {
    pub(super) fn new(kind: &str) -> Self {
        Self { kind: kind.to_owned(), roles: BTreeMap::new() }
    }

    pub(super) fn kind(&self) -> &str {
        &self.kind
    }
}

impl State {
    /// From now on a role takes this.
    pub(super) fn accept(&mut self, mount: &str, role: &str, proof: &str) {
        let method = self.methods.entry(mount.to_owned()).or_default();
        method.roles.entry(role.to_owned()).or_default().accepted.insert(proof.to_owned());
    }

    /// `auth/<mount>/login`.
    pub(super) fn login(&mut self, call: &Call, mount: &str) -> Outcome {
        let Some(method) = self.methods.get_mut(mount) else {
            return refuse(403, "permission denied");
        };
        let path = format!("auth/{mount}/login");
        if method.kind == "approle" {
            let role_id = call.text("role_id");
            let Some(role) = method.roles.values_mut().find(|role| role.id == role_id) else {
                return refuse(400, "invalid role or secret ID");
            };
            if role.settings["bind_secret_id"] != json!(false)
                && !role.takes_secret_id(&call.text("secret_id"))
            {
                return refuse(400, "invalid role or secret ID");
            }
            let settings = role.settings.clone();
            return Ok(self.make_token(&settings, &path));
        }
        let proof = call.certificate.clone().unwrap_or_else(|| call.text("jwt"));
        let named = if call.text("role").is_empty() { call.text("name") } else { call.text("role") };
        let accepting = method
            .roles
            .iter()
            .find(|(name, role)| (named.is_empty() || **name == named) && role.accepted.contains(&proof));
        let Some((_, role)) = accepting else { return refuse(403, "permission denied") };
        let settings = role.settings.clone();
        Ok(self.make_token(&settings, &path))
    }

    /// `auth/…` but logins.
    pub(super) fn auth(&mut self, call: &Call, below: &str) -> Outcome {
        if let Some(below) = below.strip_prefix("token/") {
            return self.token(call, below);
        }
        let number = self.count();
        let parts: Vec<&str> = below.split('/').collect();
        let (mount, role, rest) = match parts.as_slice() {
            [mount, "role" | "certs", role, rest @ ..] => (*mount, *role, rest.join("/")),
            _ => return refuse(404, ""),
        };
        let Some(method) = self.methods.get_mut(mount) else { return refuse(404, "") };
        if call.method != "GET" && rest.is_empty() {
            let role = method.roles.entry(role.to_owned()).or_default();
            if role.id.is_empty() {
                role.id = format!("role-{number}");
            }
            role.settings = call.body.clone();
            return Given::nothing();
        }
        let Some(role) = method.roles.get_mut(role) else { return refuse(404, "") };
        match (call.method.as_str(), rest.as_str()) {
            ("GET", "") => given(role.settings.clone()),
            ("GET", "role-id") => given(json!({ "role_id": role.id })),
            (_, "secret-id") => {
                let uses = role.settings["secret_id_num_uses"].as_u64().filter(|uses| *uses > 0);
                let secret_id = format!("secret-{number}");
                role.secret_ids.insert(secret_id.clone(), uses);
                given(json!({ "secret_id": secret_id, "secret_id_accessor": format!("accessor-{number}"),
                    "secret_id_num_uses": uses.unwrap_or(0), "secret_id_ttl": 0 }))
            }
            (_, "secret-id/destroy") => {
                role.secret_ids.remove(&call.text("secret_id"));
                Given::nothing()
            }
            _ => refuse(404, ""),
        }
    }
}

impl Role {
    fn takes_secret_id(&mut self, secret_id: &str) -> bool {
        let Some(uses) = self.secret_ids.get_mut(secret_id) else { return false };
        match uses {
            None => {}
            Some(1) => {
                self.secret_ids.remove(secret_id);
            }
            Some(left) => *left -= 1,
        }
        true
    }
}
