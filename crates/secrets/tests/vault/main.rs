//! A cluster's connection and login against the fake Vault and, where it can be made to do it, the real one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod session;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrets::vault::{Login, Settings, Status, Vault};
use secrets::{Cause, Reading, Reference, Store};
use tempfile::TempDir;
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
        Store::Vault(Arc::clone(&self.vault)).read(path).await.map_err(|error| error.cause)
    }

    fn status(&self) -> Status {
        self.vault.status(SystemTime::now())
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
