//! Jobs against the fake Vault on a paused clock and, where time does not matter, the real one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod fresh;
mod outage;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rotation::{Clock, Keeper, KeyKind, Life, PkiCertificate, PkiTrust, Progress, Sink, Source, SourceError};
use rotation::{Values, ValuesSpec};
use secrets::vault::{Login, Settings, Vault};
use secrets::{ExposeSecret as _, Reference, SecretString, Store, Stores};
use serde_json::{Value, json};
use testkit::{VaultClient, VaultFake};
use tls::{StaleCrl, TrustOptions};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A gateway's part that keeps material fresh: one cluster, its login, its jobs.
struct Site {
    vault: Arc<Vault>,
    wake: watch::Sender<u64>,
    clock: Clock,
    jobs: (CancellationToken, TaskTracker),
    login: (CancellationToken, TaskTracker),
    _files: tempfile::TempDir,
}

impl Site {
    /// Logs in by AppRole with these settings of the role.
    fn start(server: &VaultClient, url: &str, role: &Value) -> Self {
        server.policy("gateway", POLICY);
        let (role_id, secret_id) = server.set_up_app_role("gateway", &["gateway"], role);
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, content).unwrap();
            Reference::File { path }
        };
        let vault = Vault::new(Settings {
            name: "main".to_owned(),
            addresses: vec![url.parse().unwrap()],
            namespace: None,
            trust: None,
            login: Login::AppRole {
                mount: "approle".to_owned(),
                role_id: file("role", &role_id),
                secret_id: Some(file("secret", &secret_id)),
                wrapped: None,
            },
            certificate: None,
            timeout: Duration::from_secs(5),
            overlap: Duration::from_secs(30),
            embedded: None,
        })
        .unwrap();
        let (began, today, wake) = (Instant::now(), SystemTime::now(), watch::Sender::new(0));
        let login = (CancellationToken::new(), TaskTracker::new());
        login.1.spawn(Arc::clone(&vault).run(login.0.clone()));
        login.1.spawn(rotation::follow(Arc::clone(&vault), wake.clone(), login.0.clone()));
        let clock: Clock = Arc::new(move || today + began.elapsed());
        let jobs = (CancellationToken::new(), TaskTracker::new());
        Self { vault, wake, clock, jobs, login, _files: files }
    }

    fn store(&self) -> Store {
        Store::Vault(Arc::clone(&self.vault))
    }

    fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// Runs a job until the end.
    fn keep<S: Source<Material: Clone + 'static> + 'static>(&self, source: S) -> Kept<S::Material> {
        let keeper = Keeper::new(source, Arc::clone(&self.clock), self.wake.subscribe());
        let (progress, shown) = (keeper.progress(), Shown(Arc::default()));
        self.jobs.1.spawn(keeper.run(shown.clone(), self.jobs.0.clone()));
        Kept { progress, shown }
    }

    fn certificate(&self, ttl: u64) -> PkiCertificate {
        PkiCertificate {
            store: self.store(),
            mount: "pki".to_owned(),
            role: "edge".to_owned(),
            common_name: Some("edge.example.com".to_owned()),
            dns_names: vec!["edge.example.com".to_owned()],
            addresses: vec!["10.0.0.1".parse().unwrap()],
            uris: vec!["spiffe://example.org/edge".to_owned()],
            ttl: Duration::from_secs(ttl),
            key: KeyKind::P256,
        }
    }

    fn trust(&self, refresh: u64) -> PkiTrust {
        let options =
            TrustOptions { names: identity::certificate::NameForm::Dns, when_stale: StaleCrl::Reject };
        let refresh = Duration::from_secs(refresh);
        PkiTrust::new(self.store(), "pki".to_owned(), true, "mesh".into(), options, refresh)
    }

    fn values(&self, references: &[&str]) -> Values {
        let stores = Stores(BTreeMap::from([("main".to_owned(), self.store())]));
        let parse = |text: &&str| Reference::parse(text, Path::new("/")).unwrap();
        let references = references.iter().map(parse).collect();
        Values::new(
            Arc::new(stores),
            ValuesSpec { references, refresh: Duration::from_secs(60), mints_per_hour: 3 },
        )
    }

    /// Stops the jobs, then the login.
    async fn stop(self) {
        for (stop, tasks) in [self.jobs, self.login] {
            stop.cancel();
            tasks.close();
            tasks.wait().await;
        }
    }
}

/// What a job has published.
struct Kept<M> {
    progress: watch::Receiver<Progress>,
    shown: Shown<M>,
}

impl<M: Clone> Kept<M> {
    fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Whether there is something that has not ended.
    fn serves(&self, now: SystemTime) -> bool {
        let held = self.progress().held;
        self.shown.last().is_some() && held.is_some_and(|held| held.ends.is_none_or(|ends| now < ends))
    }

    /// Waits until it has published so often.
    async fn published(&mut self, times: u64) {
        self.progress.wait_for(|progress| progress.renewals >= times).await.unwrap();
    }
}

/// Holds what was published last.
struct Shown<M>(Arc<Mutex<Option<M>>>);

impl<M> Clone for Shown<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Clone> Shown<M> {
    fn last(&self) -> Option<M> {
        self.0.lock().unwrap().clone()
    }
}

impl<M: Send> Sink<M> for Shown<M> {
    fn publish(&mut self, material: M, _life: &Life) {
        *self.0.lock().unwrap() = Some(material);
    }

    fn confirmed(&mut self, _life: &Life) {}

    fn failed(&mut self, _error: &SourceError, _next: SystemTime) {}
}

fn texts(values: &[SecretString]) -> Vec<String> {
    values.iter().map(|value| value.expose_secret().to_owned()).collect()
}

/// PKI with a root that lives for a year, a database and a value.
fn set_up(server: &VaultFake) {
    server.enable("pki", "pki");
    let root = json!({ "common_name": "root", "key_type": "ec", "key_bits": 256, "ttl": "8760h" });
    server.write("pki/root/generate/internal", &root);
    let role = json!({
        "allowed_domains": "example.com", "allow_subdomains": true, "allow_ip_sans": true,
        "allowed_uri_sans": "spiffe://example.org/*", "key_type": "any", "max_ttl": "24h",
    });
    server.write("pki/roles/edge", &role);
    server.enable("database", "db");
    server.write("db/config/orders", &json!({ "plugin_name": "postgresql-database-plugin" }));
    server.write("db/roles/app", &json!({ "db_name": "orders", "default_ttl": "20m", "max_ttl": "3h" }));
    server.put("secret/app", &json!({ "password": "first" }));
}

const POLICY: &str = r#"
    path "secret/data/app" { capabilities = ["read"] }
    path "db/creds/app" { capabilities = ["read"] }
    path "pki/sign/edge" { capabilities = ["update"] }
    path "sys/leases/renew" { capabilities = ["update"] }
    path "sys/leases/revoke" { capabilities = ["update"] }
    path "sys/internal/ui/mounts/*" { capabilities = ["read"] }
    path "auth/token/lookup-self" { capabilities = ["read"] }
    path "auth/token/renew-self" { capabilities = ["update"] }
    path "auth/token/revoke-self" { capabilities = ["update"] }
"#;
const DATABASE: [&str; 2] = ["vault:main/db/creds/app#username", "vault:main/db/creds/app#password"];
