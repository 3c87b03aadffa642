//! The stores that the contract is held against, and what the operator does to them.

use std::future::Future;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use secrets::embedded::{Embedded, Opener};
use secrets::vault::{Login, Settings, Vault};
use secrets::{
    Cause, CertificateRequest, ExposeSecret as _, Reading, Reference, SecretString, Store, StoreError,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Finished, Postgres, VaultClient, VaultFake, run};
use tokio::runtime::Runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One store and its operator.
pub(super) struct Rig {
    pub(super) store: Store,
    server: Server,
    database: OnceLock<Option<Postgres>>,
    counter: AtomicUsize,
    directory: TempDir,
    // Before the runtime: what runs on it ends first.
    _stop: DropGuard,
    runtime: Runtime,
}

enum Server {
    Real(Box<testkit::Vault>),
    Fake(Box<VaultFake>),
    Embedded(Arc<Embedded>),
}

/// A connection of its own to the rig's server.
pub(super) struct Other {
    pub(super) store: Store,
    pub(super) vault: Arc<Vault>,
    _stop: DropGuard,
}

impl Rig {
    pub(super) fn real() -> Self {
        Self::over(Server::Real(Box::new(testkit::Vault::dev())))
    }

    pub(super) fn fake() -> Self {
        Self::over(Server::Fake(Box::new(VaultFake::start())))
    }

    pub(super) fn embedded() -> Self {
        let directory = tempfile::tempdir().unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test is an edge")]
        let clock = Arc::new(SystemTime::now);
        let opener = Opener::Key(Opener::generate());
        let store = Embedded::open("local", directory.path().join("store"), opener, clock).unwrap();
        store.create().unwrap();
        let store = Arc::new(store);
        Self::new(
            Store::Embedded(store.clone()),
            Server::Embedded(store),
            directory,
            runtime(),
            CancellationToken::new(),
        )
    }

    fn over(server: Server) -> Self {
        let (directory, runtime, stop) = (tempfile::tempdir().unwrap(), runtime(), CancellationToken::new());
        let token = directory.path().join("token");
        std::fs::write(&token, server.operator().token()).unwrap();
        let vault =
            connect(&server, Login::Token { token: Reference::File { path: token } }, &runtime, &stop);
        Self::new(Store::Vault(vault), server, directory, runtime, stop)
    }

    fn new(
        store: Store,
        server: Server,
        directory: TempDir,
        runtime: Runtime,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            server,
            database: OnceLock::new(),
            counter: AtomicUsize::new(0),
            directory,
            _stop: stop.drop_guard(),
            runtime,
        }
    }

    /// Runs a request.
    pub(super) fn wait<T>(&self, request: impl Future<Output = T>) -> T {
        self.runtime.block_on(request)
    }

    /// The operator's side of the cluster.
    pub(super) fn operator(&self) -> &VaultClient {
        self.server.operator()
    }

    /// The fake, to be told how to fail.
    pub(super) fn fake_server(&self) -> &VaultFake {
        match &self.server {
            Server::Fake(fake) => fake,
            Server::Real(_) | Server::Embedded(_) => panic!("a case for the fake only"),
        }
    }

    /// The cluster, for what only a cluster can do.
    pub(super) fn vault(&self) -> &Vault {
        match &self.store {
            Store::Vault(vault) => vault,
            Store::Embedded(_) => panic!("a case for clusters only"),
        }
    }

    /// A connection with this login.
    pub(super) fn log_in(&self, login: Login) -> Other {
        let stop = CancellationToken::new();
        let vault = connect(&self.server, login, &self.runtime, &stop);
        Other { store: Store::Vault(vault.clone()), vault, _stop: stop.drop_guard() }
    }

    /// A connection with the login of a role that has this policy.
    pub(super) fn log_in_under(&self, policy: &str) -> Other {
        let name = self.fresh("role");
        self.operator().policy(&name, policy);
        let settings = json!({ "token_ttl": "1h" });
        let (role_id, secret_id) = self.operator().set_up_app_role(&name, &[&name], &settings);
        self.log_in(Login::AppRole {
            mount: "approle".to_owned(),
            role_id: self.file(&role_id),
            secret_id: Some(self.file(&secret_id)),
            wrapped: None,
        })
    }

    /// Ends the tokens of all logins by AppRole.
    pub(super) fn revoke_logins(&self) {
        self.operator().write("sys/leases/revoke-prefix/auth/approle/login", &json!({ "sync": true }));
    }

    /// A reference to a file with this text.
    pub(super) fn file(&self, text: &str) -> Reference {
        let path = self.directory.path().join(self.fresh("file"));
        std::fs::write(&path, text).unwrap();
        Reference::File { path }
    }

    /// A name that no other case uses.
    pub(super) fn fresh(&self, what: &str) -> String {
        format!("{what}-{}", self.counter.fetch_add(1, Ordering::Relaxed))
    }

    /// Mounts an engine for this case alone.
    pub(super) fn mount(&self, engine: &str) -> String {
        let mount = self.fresh(engine);
        self.operator().enable(engine, &mount);
        mount
    }

    /// Stores a value in the way of the store at hand; gives its path.
    pub(super) fn keep_value(&self, value: &str) -> String {
        let path = self.fresh("value");
        match &self.server {
            Server::Embedded(store) => {
                store.write(&path, &SecretString::from(value)).unwrap();
                path
            }
            Server::Real(_) | Server::Fake(_) => {
                self.operator().put(&format!("secret/{path}"), &json!({ "value": value }));
                format!("secret/{path}")
            }
        }
    }

    /// Where certificates for `*.example.com` are signed, for at most an hour by default; mount and role.
    pub(super) fn authority(&self, max_ttl: &str) -> (String, String) {
        let (mount, role) = (self.fresh("pki"), "web".to_owned());
        if !matches!(self.server, Server::Embedded(_)) {
            self.operator().set_up_pki(&mount, &role, max_ttl);
        }
        (mount, role)
    }

    /// Has credentials made by `database/creds/app`, for a minute each and at most five; and by roles with other times.
    pub(super) fn database(&self) -> &Option<Postgres> {
        self.database.get_or_init(|| match &self.server {
            Server::Real(vault) => {
                let database = Postgres::start();
                database.serve_credentials(vault, "app", "60s", "300s");
                Some(database)
            }
            Server::Fake(fake) => {
                fake.enable("database", "database");
                fake.write("database/config/pg", &json!({}));
                self.role(fake, "app", "60s", "300s");
                None
            }
            Server::Embedded(_) => panic!("a case for clusters only"),
        })
    }

    /// A further role for credentials.
    pub(super) fn role(&self, operator: &VaultClient, role: &str, ttl: &str, max_ttl: &str) {
        let create = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
        let settings = json!({ "db_name": "pg", "default_ttl": ttl, "max_ttl": max_ttl, "creation_statements": [create] });
        operator.write(&format!("database/roles/{role}"), &settings);
    }

    /// Has the cluster rotate the password of an account that is there already.
    pub(super) fn rotate(&self, account: &str, period: &str) {
        if let Some(database) = self.database() {
            database.create_account(account);
        }
        let settings = json!({ "db_name": "pg", "username": account, "rotation_period": period });
        self.operator().write(&format!("database/static-roles/{account}"), &settings);
    }

    /// A key of our own and the request for a certificate with these DNS names.
    pub(super) fn request(&self, mount: &str, role: &str, names: &[&str]) -> (PathBuf, CertificateRequest) {
        let key = self.directory.path().join(self.fresh("key"));
        let sans: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let made = openssl(&[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/",
            "-keyout",
            &key.display().to_string(),
            "-addext",
            &format!("subjectAltName={}", sans.join(",")),
        ]);
        let request = CertificateRequest {
            mount: mount.to_owned(),
            role: role.to_owned(),
            csr_pem: made.stdout,
            common_name: None,
            dns_names: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: vec![],
            uris: vec![],
            ttl: Duration::from_secs(600),
        };
        (key, request)
    }

    /// A file with this text, as programs take it.
    pub(super) fn path(&self, text: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(self.fresh("file"));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Server {
    fn operator(&self) -> &VaultClient {
        match self {
            Self::Real(vault) => vault,
            Self::Fake(fake) => fake,
            Self::Embedded(_) => panic!("a case for clusters only"),
        }
    }

    /// Where the product asks.
    fn url(&self) -> String {
        match self {
            Self::Real(vault) => vault.url(),
            Self::Fake(fake) => fake.url(),
            Self::Embedded(_) => panic!("a case for clusters only"),
        }
    }
}

/// A field of a reading.
pub(super) fn field(reading: &Reading, name: &str) -> String {
    reading
        .fields
        .get(name)
        .map_or_else(|| panic!("no field {name}"), |value| value.expose_secret().to_owned())
}

/// Why a request failed.
pub(super) fn cause<T>(result: Result<T, StoreError>) -> Cause {
    result.map(|_| ()).expect_err("it is refused").cause
}

/// Fields of a write.
pub(super) fn fields(fields: &Value) -> std::collections::BTreeMap<String, SecretString> {
    let fields = fields.as_object().unwrap().iter();
    fields.map(|(name, value)| (name.clone(), SecretString::from(value.as_str().unwrap()))).collect()
}

/// The certificates of a PEM text, each alone.
pub(super) fn certificates(pem: &str) -> Vec<String> {
    let end = "-----END CERTIFICATE-----\n";
    pem.split_inclusive(end).filter(|part| !part.trim().is_empty()).map(str::to_owned).collect()
}

/// Runs openssl, which is no part of what is tested; it must succeed.
pub(super) fn openssl(arguments: &[&str]) -> Finished {
    let finished = run(Command::new("openssl").args(arguments));
    assert_eq!(finished.code, 0, "openssl {arguments:?}: {}", finished.stderr);
    finished
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn connect(server: &Server, login: Login, runtime: &Runtime, stop: &CancellationToken) -> Arc<Vault> {
    let settings = Settings {
        name: "main".to_owned(),
        addresses: vec![server.url().parse().unwrap()],
        namespace: None,
        trust: None,
        login,
        certificate: None,
        timeout: Duration::from_secs(10),
        overlap: Duration::from_secs(5),
        embedded: None,
    };
    let vault = Vault::new(settings).unwrap();
    runtime.spawn(vault.clone().run(stop.clone()));
    vault
}
