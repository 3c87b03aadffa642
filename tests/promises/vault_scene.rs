//! The surroundings of tests with a real Vault: what an operator sets up there once, and a gateway that draws from it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Ask, Connection, Gateway, Protocol, Trust, VaultClient, eventually, patience};

use crate::scene::{API, Scene};

/// What the gateway shows the upstream `guarded`.
pub(crate) const BEARER: &str = "bearer-from-vault";
/// The life of the listener's certificate: renewed after some twelve seconds.
pub(crate) const TTL: &str = "18s";

pub(crate) struct VaultScene {
    pub(crate) scene: Scene,
    /// The root above the mount `pki`.
    pub(crate) root: String,
}

impl VaultScene {
    /// Sets up PKI (`pki`, role `edge`), the value `kv/gateway/app`, the policy `gateway` and the AppRole `gateway`, whose ids
    /// are files of the site. `settings` are further ones of the role (`token_ttl`, …).
    pub(crate) fn new(vault: &VaultClient, settings: &Value) -> Self {
        let scene = Scene::new();
        let root = vault.set_up_pki("pki", "edge", "1h");
        vault.enable("kv-v2", "kv");
        vault.put("kv/gateway/app", &json!({ "token": BEARER }));
        vault.policy("gateway", POLICY);
        let (role, secret) = vault.set_up_app_role("gateway", &["gateway"], settings);
        scene.site.write("role-id", role);
        scene.site.write("secret-id", secret);
        Self { scene, root }
    }

    /// A plain listener `edge`, a TLS listener `secure` on Vault PKI; `/guarded/**` carries a bearer token from KV.
    pub(crate) fn config(&self, addresses: &Value) -> Value {
        let mut config = self.scene.plain();
        config["secrets"] = json!({ "stores": { "main": { "vault": {
            "address": addresses, "timeout": "1s",
            "login": { "app_role": { "role_id": "file:role-id", "secret_id": "file:secret-id" } },
        } } } });
        config["certificates"] = json!({ "edge": { "vault_pki": {
            "store": "main", "mount": "pki", "role": "edge", "names": [API, "localhost"], "ttl": TTL,
        } } });
        config["listeners"]["secure"] = json!({ "bind": "127.0.0.1:0", "tls": { "certificates": ["edge"], "client": { "mode": "off" } } });
        config["upstreams"]["guarded"] = json!({
            "endpoints": [self.scene.upstream.url()],
            "credentials": { "bearer": "vault:main/kv/gateway/app#token" },
        });
        config["routes"][0]["on"] = json!(["edge", "secure"]);
        config["routes"].as_array_mut().unwrap().push(json!({
            "name": "guarded", "on": ["edge", "secure"], "path": "/guarded/**", "authenticate": "none",
            "upstream": "guarded",
        }));
        config
    }

    /// The certificate that a new handshake gets; none when it fails or the certificate is not valid.
    pub(crate) fn served(&self, gateway: &Gateway) -> Option<String> {
        self.handshake(gateway)?.server_certificate().map(str::to_owned)
    }

    pub(crate) fn handshake(&self, gateway: &Gateway) -> Option<Connection> {
        // A client of its own each time: a resumed session checks no certificate.
        let client = Trust::new(&self.root, None);
        Connection::tls(gateway.address("secure"), &client, API, Protocol::H1).ok()
    }

    /// What `portcullis status` says.
    pub(crate) fn status(&self) -> Value {
        let socket = self.scene.site.path("control.sock");
        let said =
            self.scene.site.portcullis(&["status", "--format", "json", "--socket", socket.to_str().unwrap()]);
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }

    /// Breaks Vault, waits until a renewal fails, sees that traffic goes on and that `status` and metrics say why (`word`);
    /// mends it, and sees a new certificate within five seconds, after at most `logins` new logins.
    pub(crate) fn survives(
        &self,
        gateway: &Gateway,
        (word, logins): (&str, f64),
        break_it: impl FnOnce(),
        mend: impl FnOnce(),
    ) {
        let (failures, logged_in) = (renewal_failures(gateway), gateway.metric(LOGINS));
        let began = self.served(gateway).expect("a certificate before the outage");
        break_it();
        eventually("a renewal fails", || (renewal_failures(gateway) > failures).then_some(()));
        for _ in 0..5 {
            let mut connection = self.handshake(gateway).expect("handshakes go on");
            assert_eq!(connection.send(Ask::get(API, "/")).unwrap().status, 200, "{word}");
        }
        self.guarded_is_served(gateway);
        assert_eq!(gateway.probe("/readyz"), 200, "{word}: what serves is ready");
        let said = self.status()["degraded"].to_string();
        assert!(said.contains(word) && said.contains("edge"), "`{word}` is told: {said}");
        let held = self.served(gateway).expect("handshakes go on");
        mend();
        let mended = Instant::now();
        eventually("a new certificate", || self.served(gateway).filter(|now| *now != held && *now != began));
        assert!(mended.elapsed() <= soon(), "{word}: recovery took {:?}", mended.elapsed());
        eventually("nothing is degraded", || self.status()["degraded"].as_object()?.is_empty().then_some(()));
        let more = gateway.metric(LOGINS) - logged_in;
        assert!(more <= logins, "{word}: {more} logins");
    }

    /// A request whose upstream needs a credential from Vault succeeds, with it.
    pub(crate) fn guarded_is_served(&self, gateway: &Gateway) {
        let reply = gateway.ask(Ask::get(API, "/guarded/x"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.upstream_saw("authorization"), [format!("Bearer {BEARER}")]);
    }
}

/// Recovery: five seconds, on a machine that is as slow as `PORTCULLIS_TEST_PATIENCE` says.
pub(crate) fn soon() -> Duration {
    patience() / 6
}

pub(crate) fn renewal_failures(gateway: &Gateway) -> f64 {
    gateway.metric(r#"portcullis_material_failures_total{kind="certificate",name="edge""#)
}

/// Logins to all stores.
pub(crate) const LOGINS: &str = "portcullis_secret_store_logins_total";

/// What this gateway needs, and nothing else.
pub(crate) const POLICY: &str = r#"
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/leases/renew"       { capabilities = ["update"] }
path "sys/leases/revoke"      { capabilities = ["update"] }
path "pki/sign/edge"          { capabilities = ["update"] }
path "kv/data/gateway/*"      { capabilities = ["read"] }
path "database/creds/app"     { capabilities = ["read"] }
"#;
