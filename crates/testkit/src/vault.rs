//! Vault (or OpenBao) in development mode: unsealed, in memory, gone with the test. What must survive a restart, be sealed
//! or be one of several nodes is [`crate::VaultCluster`].

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Trust;
use crate::port::free_port;
use crate::process::Service;
use crate::vault_client::VaultClient;
use crate::{eventually, unix_now};

/// A running development server; killed when dropped. Its KV v2 mount is `secret/`; every request is in [`Vault::audit`].
///
/// It is used through [`VaultClient`], with the root token.
pub struct Vault {
    service: Service,
    client: VaultClient,
    directory: TempDir,
    tls: bool,
}

impl Vault {
    /// Starts one that speaks plain HTTP.
    #[must_use]
    pub fn dev() -> Self {
        Self::start(false)
    }

    /// Starts one that speaks TLS; see [`Vault::ca`].
    #[must_use]
    pub fn dev_tls() -> Self {
        Self::start(true)
    }

    fn start(tls: bool) -> Self {
        for _ in 0..4 {
            let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
            let token = format!("root-{port}-{}", unix_now());
            let client = VaultClient { address: ([127, 0, 0, 1], port).into(), trust: None, token };
            let service = Self::launch(&directory, &client, tls);
            let mut vault = Self { service, client, directory, tls };
            if vault.comes_up() {
                return vault;
            }
            eprintln!("vault did not start: {}", vault.output());
        }
        panic!("vault did not start on any of four ports");
    }

    fn launch(directory: &TempDir, client: &VaultClient, tls: bool) -> Service {
        let mut command = vault_command();
        command.args(["server", "-dev", "-dev-no-store-token"]);
        command.arg(format!("-dev-root-token-id={}", client.token));
        command.arg(format!("-dev-listen-address={}", client.address));
        if tls {
            command.arg("-dev-tls").arg(format!("-dev-tls-cert-dir={}", directory.path().display()));
        }
        let plugins = plugin_directory();
        if plugins.is_dir() {
            command.arg(format!("-dev-plugin-dir={}", plugins.display()));
        }
        Service::spawn(&mut command, &directory.path().join("output.log"))
    }

    fn comes_up(&mut self) -> bool {
        let up = eventually("vault starts or gives up", || {
            if self.service.ended().is_some() {
                return Some(false);
            }
            if self.tls && self.client.trust.is_none() {
                let ca = std::fs::read_to_string(self.ca_file()).ok()?;
                self.client.trust = ca.contains("-----END").then(|| Trust::new(&ca, None));
                self.client.trust.as_ref()?;
            }
            // Another server on this port would not know the token.
            (self.call("GET", "auth/token/lookup-self", None).0 == 200).then_some(true)
        });
        if up {
            enable_audit(&self.client, &self.audit_file());
        }
        up
    }

    /// The authority of a server that speaks TLS, PEM.
    #[must_use]
    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.ca_file()).expect("the server speaks TLS")
    }

    /// The process; `STOP` and `CONT` make it slow and well again.
    pub fn signal(&self, name: &str) {
        self.service.signal(name);
    }

    /// What the server printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.service.output()
    }

    /// The requests so far as the audit log has them: `request.path`, `request.operation`, `auth.accessor`, `error`.
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        audited(&self.audit_file())
    }

    /// How many requests so far had a path that starts with `start`.
    #[must_use]
    pub fn audited(&self, start: &str) -> usize {
        count(&self.audit(), start)
    }

    fn ca_file(&self) -> PathBuf {
        self.directory.path().join("vault-ca.pem")
    }

    fn audit_file(&self) -> PathBuf {
        self.directory.path().join("audit.json")
    }
}

impl Deref for Vault {
    type Target = VaultClient;

    fn deref(&self) -> &VaultClient {
        &self.client
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        // It holds nothing that an orderly end would save, and a stopped one would not end.
        self.service.kill();
    }
}

/// The program: `PORTCULLIS_TEST_VAULT_BIN` names another Vault or OpenBao.
#[must_use]
pub(crate) fn vault_command() -> Command {
    let named = std::env::var_os("PORTCULLIS_TEST_VAULT_BIN").map(PathBuf::from);
    let mut command = Command::new(named.unwrap_or_else(|| server_binary("vault")));
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_str().is_some_and(|name| name.starts_with("VAULT_"))) {
        command.env_remove(name);
    }
    command
}

/// Where Vault finds the plugins that are built beside it.
pub(crate) fn plugin_directory() -> PathBuf {
    servers().join("vault-plugins")
}

/// A server that `make servers` built.
pub(crate) fn server_binary(name: &str) -> PathBuf {
    let path = servers().join(name);
    assert!(path.exists(), "no {name} at {}: `make servers` builds it", path.display());
    path
}

fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers")
}

/// Writes every request and answer to this file from now on.
pub(crate) fn enable_audit(client: &VaultClient, file: &Path) {
    client.write("sys/audit/file", &json!({ "type": "file", "options": { "file_path": file } }));
}

/// The requests in this audit log, whole lines only.
pub(crate) fn audited(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.filter(|entry| entry["type"] == "response").collect()
}

pub(crate) fn count(audit: &[Value], start: &str) -> usize {
    let path = |entry: &&Value| entry["request"]["path"].as_str().is_some_and(|path| path.starts_with(start));
    audit.iter().filter(path).count()
}
