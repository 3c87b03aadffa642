//! A Kubernetes API server with its etcd: real service accounts, real tokens, TokenReview. No nodes, nothing runs there.

use std::net::SocketAddr;
use std::process::Command;

use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Ask, Trust};
use crate::port::free_port;
use crate::process::Service;
use crate::vault::server_binary;
use crate::vault_client::{VaultClient, ask_once, text};
use crate::{eventually, unix_now};

/// A running API server; killed when dropped.
pub struct KubernetesApi {
    api: Service,
    etcd: Service,
    address: SocketAddr,
    admin: String,
    trust: Option<Trust>,
    directory: TempDir,
}

impl KubernetesApi {
    /// Starts one and waits until it is ready.
    #[must_use]
    pub fn start() -> Self {
        for _ in 0..4 {
            let directory = tempfile::tempdir().unwrap();
            let (etcd, store) = launch_etcd(&directory);
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let admin = format!("admin-{}-{}", address.port(), unix_now());
            let api = launch_api(&directory, address, &store, &admin);
            let mut kubernetes = Self { api, etcd, address, admin, trust: None, directory };
            if kubernetes.comes_up() {
                return kubernetes;
            }
            eprintln!("{}\n{}", kubernetes.etcd.output(), kubernetes.api.output());
        }
        panic!("the Kubernetes API did not start on any of four ports");
    }

    fn comes_up(&mut self) -> bool {
        eventually("the Kubernetes API starts or gives up", || {
            if self.api.ended().is_some() || self.etcd.ended().is_some() {
                return Some(false);
            }
            if self.trust.is_none() {
                let ca =
                    std::fs::read_to_string(self.directory.path().join("certificates/apiserver.crt")).ok()?;
                self.trust = ca.trim_end().ends_with("-----").then(|| Trust::new(&ca, None));
            }
            self.trust.as_ref()?;
            (self.call("GET", "/readyz", None).0 == 200).then_some(true)
        })
    }

    /// What Vault and clients name as host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The server's authority, PEM.
    #[must_use]
    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("certificates/apiserver.crt")).unwrap()
    }

    /// One call with all rights: status and answer; 0 when nothing answers.
    #[must_use]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut ask = Ask::new(method, &self.address.to_string(), path).bearer(&self.admin);
        if let Some(body) = body {
            ask = ask.header("content-type", "application/json").body(body.to_string());
        }
        ask_once(self.address, self.trust.as_ref(), ask)
            .map_or((0, Value::Null), |reply| (reply.status, reply.json()))
    }

    /// Makes a service account in the namespace `default`.
    pub fn service_account(&self, name: &str) {
        let account = json!({ "metadata": { "name": name } });
        let (status, answer) =
            self.call("POST", "/api/v1/namespaces/default/serviceaccounts", Some(&account));
        assert_eq!(status, 201, "{answer}");
    }

    /// A token of a service account, as a kubelet projects it: for this audience, for ten minutes.
    #[must_use]
    pub fn token(&self, account: &str, audience: &str) -> String {
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        let request = json!({ "spec": { "audiences": [audience], "expirationSeconds": 600 } });
        let (status, answer) = self.call("POST", &path, Some(&request));
        assert_eq!(status, 201, "{answer}");
        text(&answer["status"]["token"])
    }

    /// Has Vault believe this API's service accounts: the auth method `kubernetes` with a role for one account.
    pub fn let_in(&self, vault: &VaultClient, role: &str, account: &str, audience: &str, policies: &[&str]) {
        vault.enable_auth("kubernetes");
        let config = json!({
            "kubernetes_host": self.url(), "kubernetes_ca_cert": self.ca(), "token_reviewer_jwt": self.admin,
        });
        vault.write("auth/kubernetes/config", &config);
        let settings = json!({
            "bound_service_account_names": account, "bound_service_account_namespaces": "default",
            "audience": audience, "token_policies": policies,
        });
        vault.write(&format!("auth/kubernetes/role/{role}"), &settings);
    }
}

impl Drop for KubernetesApi {
    fn drop(&mut self) {
        // Asked to end, it would drain for a minute.
        self.api.kill();
        self.etcd.kill();
    }
}

fn launch_etcd(directory: &TempDir) -> (Service, String) {
    let (clients, peers) =
        (format!("http://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
    let mut command = Command::new(server_binary("etcd"));
    command.arg("--data-dir").arg(directory.path().join("etcd"));
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args([
        "--initial-cluster",
        &format!("default={peers}"),
        "--log-level",
        "error",
        "--unsafe-no-fsync",
    ]);
    (Service::spawn(&mut command, &directory.path().join("etcd.log")), clients)
}

fn launch_api(directory: &TempDir, address: SocketAddr, store: &str, admin: &str) -> Service {
    let path = |name: &str| directory.path().join(name);
    let key = KeyPair::generate().unwrap();
    std::fs::write(path("accounts.key"), key.serialize_pem()).unwrap();
    std::fs::write(path("accounts.pub"), key.public_key_pem()).unwrap();
    std::fs::write(path("tokens.csv"), format!("{admin},admin,admin,system:masters\n")).unwrap();
    let mut command = Command::new(server_binary("kube-apiserver"));
    command.arg(format!("--etcd-servers={store}"));
    command.arg(format!("--secure-port={}", address.port())).arg("--bind-address=127.0.0.1");
    command.arg(format!("--cert-dir={}", path("certificates").display()));
    command.arg(format!("--service-account-key-file={}", path("accounts.pub").display()));
    command.arg(format!("--service-account-signing-key-file={}", path("accounts.key").display()));
    command.arg(format!("--service-account-issuer=https://{address}"));
    command.arg(format!("--token-auth-file={}", path("tokens.csv").display()));
    command.args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"]);
    Service::spawn(&mut command, &path("api.log"))
}
