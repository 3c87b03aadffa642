//! `sys/…`: health, mounts, policies, wrapping.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::auth::Method;
use super::call::{Call, Given, Outcome};
use super::kv::{Kv1, Kv2};
use super::policy::Policy;
use super::state::{Engine, State, given, refuse};

/// An answer inside of a token.
pub(super) struct Wrapped {
    given: Given,
    path: String,
    ttl: Duration,
    made: Duration,
    pub(super) ends: Duration,
}

impl State {
    /// What is answered sealed, on standby, and to everybody.
    pub(super) fn health(&self, call: &Call) -> Option<Outcome> {
        let (sealed, standby) = (self.sealed && !self.operator, self.standby && !self.operator);
        let body = match call.path.as_str() {
            "sys/health" => json!({ "initialized": true, "sealed": sealed, "standby": standby,
                "performance_standby": false, "server_time_utc": self.unix(), "version": "1.21.0",
                "enterprise": false, "cluster_name": "fake", "cluster_id": "fake" }),
            "sys/seal-status" => {
                json!({ "type": "shamir", "initialized": true, "sealed": sealed, "t": 1, "n": 1,
                "progress": 0, "version": "1.21.0", "cluster_name": "fake" })
            }
            "sys/leader" => json!({ "ha_enabled": true, "is_self": !standby, "leader_address": "" }),
            _ => return None,
        };
        let status = match (call.path.as_str(), sealed, standby) {
            ("sys/health", true, _) => 503,
            ("sys/health", false, true) => 429,
            _ => 200,
        };
        Some(Ok(Given { bare: Some((status, body)), ..Given::default() }))
    }

    pub(super) fn sys(&mut self, call: &Call, below: &str) -> Outcome {
        let (part, rest) = below.split_once('/').unwrap_or((below, ""));
        match (call.method.as_str(), part, rest) {
            ("GET", "mounts", "") => given(self.mounts()),
            ("DELETE", "mounts", mount) => {
                self.engines.remove(mount);
                Given::nothing()
            }
            (_, "mounts", mount) => self.mount(call, mount),
            ("GET", "auth", "") => {
                let methods = self.methods.iter();
                given(
                    methods
                        .map(|(mount, method)| (format!("{mount}/"), json!({ "type": method.kind() })))
                        .collect(),
                )
            }
            (_, "auth", mount) => {
                self.methods.insert(mount.to_owned(), Method::new(&call.text("type")));
                Given::nothing()
            }
            (_, "policies", name) => {
                let name = name.trim_start_matches("acl/").to_owned();
                self.policies.insert(name, Policy::parse(&call.text("policy")));
                Given::nothing()
            }
            (_, "leases", below) => self.leases(call, below),
            ("GET", "internal", path) => self.told_of_mount(call, path),
            (_, "wrapping", "wrap") => given(call.body.clone()),
            ("PUT" | "POST", "seal", "") => {
                self.sealed = true;
                Given::nothing()
            }
            _ => refuse(404, &format!("no handler for route \"sys/{below}\". route entry not found.")),
        }
    }

    /// Puts an answer into a token if the request wants it.
    pub(super) fn wrap(&mut self, call: &Call, given: Given) -> Given {
        let Some(ttl) = call.wrap else { return given };
        let number = self.count();
        let token = format!("hvs.fake-wrapping-{number}");
        let info = json!({ "token": token, "accessor": format!("accessor-{number}"), "ttl": ttl.as_secs(),
            "creation_time": self.date(self.now), "creation_path": call.path });
        let wrapped = Wrapped { given, path: call.path.clone(), ttl, made: self.now, ends: self.now + ttl };
        self.wrapped.insert(token, wrapped);
        let body = json!({ "request_id": "", "lease_id": "", "renewable": false, "lease_duration": 0,
            "data": null, "wrap_info": info, "warnings": null, "auth": null });
        Given { bare: Some((200, body)), ..Given::default() }
    }

    pub(super) fn wrapping_lookup(&self, call: &Call) -> Outcome {
        let Some(wrapped) = self.wrapped.get(&call.text("token")) else { return refuse(400, NOT_WRAPPED) };
        given(json!({ "creation_path": wrapped.path, "creation_time": self.date(wrapped.made),
            "creation_ttl": wrapped.ttl.as_secs() }))
    }

    pub(super) fn unwrap(&mut self, call: &Call) -> Outcome {
        let named = call.text("token");
        let token = if named.is_empty() { call.token.clone().unwrap_or_default() } else { named };
        match self.wrapped.remove(&token) {
            Some(wrapped) => Ok(wrapped.given),
            None => refuse(400, NOT_WRAPPED),
        }
    }

    fn mount(&mut self, call: &Call, mount: &str) -> Outcome {
        let engine = match (call.text("type").as_str(), &call.body["options"]["version"]) {
            ("kv", version) if version == "2" => Engine::Kv2(Kv2::default()),
            ("kv-v2", _) => Engine::Kv2(Kv2::default()),
            ("kv", _) => Engine::Kv1(Kv1::default()),
            ("pki", _) => Engine::Pki(Box::default()),
            ("transit", _) => Engine::Transit(super::transit::Transit::default()),
            ("database", _) => Engine::Database(super::database::Database::default()),
            (other, _) => return refuse(400, &format!("unknown engine {other}")),
        };
        self.engines.insert(mount.to_owned(), engine);
        Given::nothing()
    }

    fn mounts(&self) -> Value {
        let told = |(mount, engine): (&String, &Engine)| {
            let (kind, options) = kind(engine);
            (format!("{mount}/"), json!({ "type": kind, "options": options }))
        };
        Value::Object(self.engines.iter().map(told).collect::<Map<_, _>>())
    }

    /// `sys/internal/ui/mounts/<path>`: for every token that may do anything below the mount.
    fn told_of_mount(&self, call: &Call, path: &str) -> Outcome {
        let path = path.trim_start_matches("ui/mounts/");
        let denied = format!(
            "preflight capability check returned 403, please ensure client's policies grant access to path \"{path}/\""
        );
        let token = self.tokens.get(call.token.as_deref().unwrap_or_default());
        let Some(token) = token else { return refuse(403, "permission denied") };
        let Some((mount, _)) = self.mounted(path) else { return refuse(403, &denied) };
        let touches = token.policies.iter().any(|name| {
            name == "root" || self.policies.get(name).is_some_and(|policy| policy.touches(&mount))
        });
        match self.engines.get(&mount).filter(|_| touches) {
            None => refuse(403, &denied),
            Some(engine) => {
                let (kind, options) = kind(engine);
                given(
                    json!({ "path": format!("{mount}/"), "type": kind, "options": options, "accessor": "fake",
                    "description": "", "config": {}, "local": false, "uuid": "fake" }),
                )
            }
        }
    }
}

fn kind(engine: &Engine) -> (&'static str, Value) {
    match engine {
        Engine::Kv1(_) => ("kv", json!({ "version": "1" })),
        Engine::Kv2(_) => ("kv", json!({ "version": "2" })),
        Engine::Pki(_) => ("pki", Value::Null),
        Engine::Transit(_) => ("transit", Value::Null),
        Engine::Database(_) => ("database", Value::Null),
    }
}

const NOT_WRAPPED: &str = "wrapping token is not valid or does not exist";
