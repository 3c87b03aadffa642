//! The operator's side of a Vault or OpenBao server: what a test sets up and looks at.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::authority::Issued;
use crate::client::{Ask, Connection, Protocol, Reply, Trust};

/// Calls one server's API with one token. Blocking; also usable inside of an asynchronous test.
#[derive(Clone)]
pub struct VaultClient {
    pub(crate) address: SocketAddr,
    pub(crate) trust: Option<Trust>,
    pub(crate) token: String,
}

impl VaultClient {
    /// What a configuration names as address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.trust.is_some() { "https" } else { "http" }, self.address)
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token that calls are made with: a root token at first.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The same server with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// One call of the API (`path` without `/v1/`): status and answer; 0 when nothing answers.
    #[must_use]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.call_with(method, path, body, &[])
    }

    /// The same with further header fields (`x-vault-wrap-ttl`).
    #[must_use]
    pub fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        fields: &[(&str, &str)],
    ) -> (u16, Value) {
        let mut ask = Ask::new(method, &self.address.to_string(), &format!("/v1/{path}"))
            .header("x-vault-token", &self.token)
            .header("x-vault-request", "true");
        for (name, value) in fields {
            ask = ask.header(name, value);
        }
        if let Some(body) = body {
            ask = ask.body(body.to_string());
        }
        ask_once(self.address, self.trust.as_ref(), ask)
            .map_or((0, Value::Null), |reply| (reply.status, reply.json()))
    }

    /// Writes at a path and gives the answer.
    pub fn write(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call("POST", path, Some(body));
        assert!((200..300).contains(&status), "POST {path}: {status} {answer}");
        answer
    }

    /// Reads a path and gives the answer.
    #[must_use]
    pub fn read(&self, path: &str) -> Value {
        let (status, answer) = self.call("GET", path, None);
        assert_eq!(status, 200, "GET {path}: {answer}");
        answer
    }

    /// Deletes a path.
    pub fn delete(&self, path: &str) {
        let (status, answer) = self.call("DELETE", path, None);
        assert!((200..300).contains(&status), "DELETE {path}: {status} {answer}");
    }

    /// Stores fields as `vault kv put MOUNT/PATH` does, in a KV v2 mount.
    pub fn put(&self, path: &str, fields: &Value) {
        let (mount, path) = path.split_once('/').expect("mount/path");
        self.write(&format!("{mount}/data/{path}"), &json!({ "data": fields }));
    }

    /// Mounts a secrets engine (`kv-v2`, `pki`, `transit`, `database`, …) with generous lifetimes.
    pub fn enable(&self, engine: &str, mount: &str) {
        let (kind, options) =
            if engine == "kv-v2" { ("kv", json!({ "version": "2" })) } else { (engine, json!({})) };
        let body = json!({ "type": kind, "options": options, "config": { "max_lease_ttl": "87600h" } });
        self.write(&format!("sys/mounts/{mount}"), &body);
    }

    /// Mounts an auth method (`approle`, `kubernetes`, `jwt`, `cert`) under its own name.
    pub fn enable_auth(&self, method: &str) {
        self.write(&format!("sys/auth/{method}"), &json!({ "type": method }));
    }

    /// Writes a policy.
    pub fn policy(&self, name: &str, text: &str) {
        self.write(&format!("sys/policies/acl/{name}"), &json!({ "policy": text }));
    }

    /// Makes a token; `settings` as `auth/token/create-orphan` takes them (`policies`, `ttl`, `explicit_max_ttl`).
    #[must_use]
    pub fn make_token(&self, settings: &Value) -> String {
        text(&self.write("auth/token/create-orphan", settings)["auth"]["client_token"])
    }

    /// Mounts PKI with a new root and a role for any name under `example.com`, for `localhost`, any address and any
    /// SPIFFE id of `example.org`, P-256, at most `max_ttl`. Gives the root, PEM.
    pub fn set_up_pki(&self, mount: &str, role: &str, max_ttl: &str) -> String {
        self.enable("pki", mount);
        let root = json!({ "common_name": format!("{mount} root"), "key_type": "ec", "key_bits": 256, "ttl": "24h" });
        let root =
            text(&self.write(&format!("{mount}/root/generate/internal"), &root)["data"]["certificate"]);
        let settings = json!({
            "allowed_domains": "example.com,localhost", "allow_subdomains": true, "allow_bare_domains": true,
            "allow_ip_sans": true, "allowed_uri_sans": "spiffe://example.org/*", "require_cn": false,
            "key_type": "any", "max_ttl": max_ttl, "no_store": false,
        });
        self.write(&format!("{mount}/roles/{role}"), &settings);
        format!("{root}\n")
    }

    /// Has the mount make a key and a certificate for this SPIFFE id, as an operator without a gateway does.
    #[must_use]
    pub fn issue(&self, mount: &str, role: &str, spiffe_id: &str) -> Issued {
        let asked = json!({ "uri_sans": spiffe_id, "ttl": "30m", "private_key_format": "pkcs8" });
        let made = self.write(&format!("{mount}/issue/{role}"), &asked)["data"].take();
        Issued::elsewhere(
            &text(&made["certificate"]),
            &text(&made["private_key"]),
            &text(&made["serial_number"]),
        )
    }

    /// Enables AppRole (once) and makes a role with these policies and further settings (`token_ttl`, …); gives the role
    /// id and a secret id.
    #[must_use]
    pub fn set_up_app_role(&self, role: &str, policies: &[&str], settings: &Value) -> (String, String) {
        if !self.read("sys/auth")["data"].as_object().is_some_and(|methods| methods.contains_key("approle/"))
        {
            self.enable_auth("approle");
        }
        let mut body = json!({ "token_policies": policies });
        for (key, value) in settings.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.write(&format!("auth/approle/role/{role}"), &body);
        let role_id = text(&self.read(&format!("auth/approle/role/{role}/role-id"))["data"]["role_id"]);
        let secret = self.write(&format!("auth/approle/role/{role}/secret-id"), &json!({}));
        (role_id, text(&secret["data"]["secret_id"]))
    }

    /// A secret id of a role inside of a response-wrapping token.
    #[must_use]
    pub fn wrapped_secret_id(&self, role: &str) -> String {
        let path = format!("auth/approle/role/{role}/secret-id");
        let (status, answer) =
            self.call_with("POST", &path, Some(&json!({})), &[("x-vault-wrap-ttl", "300s")]);
        assert_eq!(status, 200, "{answer}");
        text(&answer["wrap_info"]["token"])
    }

    /// Allows one request in three seconds from one address below `path` (all paths if empty), counted by whoever asks first;
    /// with or without `Retry-After`.
    pub fn set_quota(&self, name: &str, path: &str, with_headers: bool) {
        let quota = json!({ "path": path, "rate": 1, "interval": "3s" });
        self.write("sys/quotas/config", &json!({ "enable_rate_limit_response_headers": with_headers }));
        self.write(&format!("sys/quotas/rate-limit/{name}"), &quota);
    }

    /// Takes a quota away.
    pub fn lift_quota(&self, name: &str) {
        self.delete(&format!("sys/quotas/rate-limit/{name}"));
    }

    /// The certificate of this serial number (colons or none) as the PKI mount has it, PEM; none if it knows none.
    #[must_use]
    pub fn certificate(&self, mount: &str, serial: &str) -> Option<String> {
        let (status, answer) = self.call("GET", &format!("{mount}/cert/{serial}"), None);
        (status == 200).then(|| text(&answer["data"]["certificate"]))
    }

    /// Whether a token lives, by its accessor or itself.
    #[must_use]
    pub fn token_lives(&self, token: &str) -> bool {
        self.call("POST", "auth/token/lookup", Some(&json!({ "token": token }))).0 == 200
    }
}

/// What Vault calls standard base64 (transit inputs).
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// One request on a connection of its own; none when nothing answers.
pub(crate) fn ask_once(address: SocketAddr, trust: Option<&Trust>, ask: Ask) -> Option<Reply> {
    let connect = || match trust {
        None => Connection::plain(address, Protocol::H1),
        Some(trust) => Connection::tls(address, trust, "127.0.0.1", Protocol::H1),
    };
    // A connection brings a runtime of its own, and a runtime must not be entered inside of another.
    std::thread::scope(|threads| {
        let call = threads.spawn(|| connect().and_then(|mut connection| connection.send(ask)).ok());
        call.join().unwrap()
    })
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("`{value}` is a text")).to_owned()
}
