//! Database credentials without a database: users that nobody can log in as.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::call::{Call, Given, Outcome, seconds};
use super::state::{Engine, State, given, refuse};

#[derive(Debug, Default)]
pub(super) struct Database {
    roles: BTreeMap<String, Value>,
    static_roles: BTreeMap<String, StaticRole>,
}

#[derive(Debug)]
struct StaticRole {
    settings: Value,
    made: Duration,
    /// How often it was rotated by hand.
    rotations: u64,
}

impl State {
    pub(super) fn database(&mut self, call: &Call, mount: &str, below: &str) -> Outcome {
        let (now, number) = (self.now, self.count());
        let Some(Engine::Database(database)) = self.engines.get_mut(mount) else { return refuse(404, "") };
        let (part, name) = below.split_once('/').unwrap_or((below, ""));
        match (call.method.as_str(), part) {
            ("POST" | "PUT", "config") => Given::nothing(),
            ("POST" | "PUT", "roles") => {
                database.roles.insert(name.to_owned(), call.body.clone());
                Given::nothing()
            }
            ("POST" | "PUT", "static-roles") => {
                let role = StaticRole { settings: call.body.clone(), made: now, rotations: 0 };
                database.static_roles.insert(name.to_owned(), role);
                Given::nothing()
            }
            ("POST" | "PUT", "rotate-role") => {
                let Some(role) = database.static_roles.get_mut(name) else {
                    return refuse(400, "no static role");
                };
                (role.made, role.rotations) = (now, role.rotations + 1);
                Given::nothing()
            }
            ("GET", "creds") => {
                let Some(role) = database.roles.get(name).cloned() else {
                    return refuse(400, &format!("unknown role: {name}"));
                };
                let (ttl, most) = Self::times(&role);
                let token = call.token.clone().unwrap_or_default();
                let lease = self.lease(&format!("{mount}/creds/{name}"), &token, ttl, most);
                let data =
                    json!({ "username": format!("v-{name}-{number}"), "password": format!("pw-{number}") });
                Ok(Given { data, lease: Some(lease), ..Given::default() })
            }
            ("GET", "static-creds") => {
                let Some(role) = database.static_roles.get(name) else {
                    return refuse(400, &format!("unknown role: {name}"));
                };
                let period = seconds(&role.settings["rotation_period"]).max(1);
                let passed = (now - role.made).as_secs();
                let turn = role.rotations * 1_000_000 + passed / period;
                let last = role.made + Duration::from_secs(passed / period * period);
                let user = role.settings["username"].clone();
                let last = self.date(last);
                given(
                    json!({ "username": user, "password": format!("static-{turn}"), "last_vault_rotation": last,
                    "rotation_period": period, "ttl": period - passed % period }),
                )
            }
            _ => refuse(404, ""),
        }
    }
}
