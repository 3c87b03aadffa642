//! PostgreSQL, for credentials that Vault makes there.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::eventually;
use crate::port::free_port;
use crate::process::{Service, run};
use crate::vault_client::VaultClient;

/// A running server with the superuser `admin` and the database `postgres`; ended when dropped.
pub struct Postgres {
    service: Service,
    port: u16,
    _directory: TempDir,
}

impl Postgres {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        for _ in 0..4 {
            let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
            let data = prepare(&directory);
            let mut command = as_postgres("postgres");
            command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "fsync=off"]);
            command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
            let service = Service::spawn(&mut command, &directory.path().join("output.log"));
            let mut postgres = Self { service, port, _directory: directory };
            let up = eventually("PostgreSQL starts or gives up", || {
                if postgres.service.ended().is_some() {
                    return Some(false);
                }
                postgres.logs_in("admin", PASSWORD).then_some(true)
            });
            if up {
                return postgres;
            }
            eprintln!("PostgreSQL did not start: {}", postgres.service.output());
        }
        panic!("PostgreSQL did not start on any of four ports");
    }

    /// Has Vault make accounts here: mounts `database` with the connection `pg` and a role of these lifetimes.
    pub fn serve_credentials(&self, vault: &VaultClient, role: &str, ttl: &str, max_ttl: &str) {
        vault.enable("database", "database");
        let connection = json!({
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": "admin",
            "password": PASSWORD, "connection_url": format!(
                "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", self.port),
        });
        vault.write("database/config/pg", &connection);
        let made = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
        let settings = json!({
            "db_name": "pg", "default_ttl": ttl, "max_ttl": max_ttl, "creation_statements": made,
        });
        vault.write(&format!("database/roles/{role}"), &settings);
    }

    /// Whether this account can log in now.
    #[must_use]
    pub fn logs_in(&self, user: &str, password: &str) -> bool {
        self.query(user, password, "select 1").is_some()
    }

    /// The accounts that Vault made and that still exist.
    #[must_use]
    pub fn leased_accounts(&self) -> Vec<String> {
        let names = self.query("admin", PASSWORD, "select rolname from pg_roles where rolname like 'v-%'");
        names.expect("the server answers").lines().map(str::to_owned).collect()
    }

    /// Makes an account of this name, for [`Postgres::rotate`].
    pub fn create_account(&self, name: &str) {
        let statement = format!("create role \"{name}\" login password 'first'");
        self.query("admin", PASSWORD, &statement).expect("the account is made");
    }

    /// Has Vault rotate the password of this account: the static role of the same name.
    pub fn rotate(&self, vault: &VaultClient, account: &str, period: &str) -> Value {
        let settings = json!({ "db_name": "pg", "username": account, "rotation_period": period });
        vault.write(&format!("database/static-roles/{account}"), &settings)
    }

    fn query(&self, user: &str, password: &str, statement: &str) -> Option<String> {
        let mut psql = Command::new(program("psql"));
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", user, "-d", "postgres"]);
        psql.args(["-At", "-c", statement]).env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "5");
        let finished = run(&mut psql);
        (finished.code == 0).then_some(finished.stdout)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its immediate end; the polite one waits for clients.
        self.service.signal("QUIT");
    }
}

/// Makes the files of a server and says where they are.
fn prepare(directory: &TempDir) -> PathBuf {
    let (data, password) = (directory.path().join("data"), directory.path().join("password"));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(&password, PASSWORD).unwrap();
    if is_root() {
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let id = run(Command::new("id").args(["-u", "postgres"])).stdout;
        chown(&data, Some(id.trim().parse().expect("there is a user `postgres`: .ci/setup")), None).unwrap();
    }
    let mut initdb = as_postgres("initdb");
    initdb.arg("-D").arg(&data).args(["-A", "scram-sha-256", "-U", "admin", "--no-sync", "--locale=C"]);
    let made = run(initdb.arg(format!("--pwfile={}", password.display())));
    assert_eq!(made.code, 0, "{made:?}");
    data
}

/// The server refuses to run as root.
fn as_postgres(name: &str) -> Command {
    if !is_root() {
        return Command::new(program(name));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program(name));
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Debian keeps each version in a directory of its own, outside of the search path.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let found = versions.filter_map(|version| Some(version.ok()?.path().join("bin").join(name)));
    found.filter(|path| path.exists()).max().unwrap_or_else(|| {
        assert!(Path::new("/usr/bin").join(name).exists(), "no PostgreSQL: .ci/setup installs it");
        Path::new("/usr/bin").join(name)
    })
}

const PASSWORD: &str = "admin-pw";
