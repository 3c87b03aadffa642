//! A cluster's connection and login against the fake Vault and, where it can be made to do it, the real one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod causes;
mod outage;
mod real;
mod refused_logins;
mod session;
mod transport;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use secrets::vault::{Login, Settings, Status, Vault};
use secrets::{Cause, Reading, Reference, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{VaultClient, VaultFake};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A cluster under test, with its tasks.
struct Tested {
    vault: Arc<Vault>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Tested {
    fn start(settings: Settings) -> Self {
        let vault = Vault::new(settings).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&vault).run(stop.clone()));
        Self { vault, stop, task }
    }

    async fn read(&self, path: &str) -> Result<Reading, Cause> {
        self.store().read(path).await.map_err(|error| error.cause)
    }

    fn status(&self) -> Status {
        self.vault.status(SystemTime::now())
    }

    fn store(&self) -> Store {
        Store::Vault(Arc::clone(&self.vault))
    }

    /// How many requests of this operation came to this.
    fn count(&self, operation: &str, outcome: &str) -> u64 {
        let requests = self.status().requests;
        requests.into_iter().filter(|one| (one.0, one.1) == (operation, outcome)).map(|one| one.2).sum()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Files that a login reads.
struct Credentials(TempDir);

impl Credentials {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A reference to a file of this name with this content.
    fn file(&self, name: &str, content: &str) -> Reference {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        Reference::File { path }
    }

    fn app_role(&self, role_id: &str, secret_id: &str) -> Login {
        Login::AppRole {
            mount: "approle".to_owned(),
            role_id: self.file("role", role_id),
            secret_id: Some(self.file("secret", secret_id)),
            wrapped: None,
        }
    }
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn at(level: tracing::Level) -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A fake on this runtime's clock with the value `password` at `secret/app`.
fn fake() -> VaultFake {
    let fake = VaultFake::here();
    set_up(&fake);
    fake
}

fn set_up(server: &VaultClient) {
    server.put("secret/app", &json!({ "password": "canary" }));
    server.policy("app", READS_APP);
}

/// A gateway that logs in to one server by AppRole with these settings of the role.
fn gateway(server: &VaultClient, url: &str, role: &Value) -> (Tested, Credentials) {
    let (role_id, secret_id) = server.set_up_app_role("gateway", &["app"], role);
    let credentials = Credentials::new();
    let tested = Tested::start(settings(&[url.to_owned()], credentials.app_role(&role_id, &secret_id)));
    (tested, credentials)
}

fn settings(urls: &[String], login: Login) -> Settings {
    Settings {
        name: "main".to_owned(),
        addresses: urls.iter().map(|url| url.parse().unwrap()).collect(),
        namespace: None,
        trust: None,
        login,
        certificate: None,
        timeout: Duration::from_secs(5),
        overlap: Duration::from_secs(30),
        embedded: None,
    }
}

const READS_APP: &str = r#"
    path "secret/data/app" { capabilities = ["read"] }
    path "sys/internal/ui/mounts/*" { capabilities = ["read"] }
    path "auth/token/lookup-self" { capabilities = ["read"] }
    path "auth/token/renew-self" { capabilities = ["update"] }
    path "auth/token/revoke-self" { capabilities = ["update"] }
"#;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
