//! Pebble, Let's Encrypt's ACME server for tests, with a name server that knows every name as 127.0.0.1.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::authority::{Authority, Leaf};
use crate::client::{Ask, Connection, Protocol, Trust};
use crate::eventually;
use crate::port::free_port;
use crate::process::Service;

/// A running pebble. It forgets everything when it ends, its authority included.
pub struct Pebble {
    service: Service,
    _names: Service,
    _directory: TempDir,
    authority: Authority,
    ports: Ports,
}

/// What may differ from an obliging server.
#[derive(Clone, Debug)]
pub struct Pebbling {
    /// Per cent of good nonces that are refused.
    pub nonces_refused: u8,
    /// Only accounts that are bound to this key id with this MAC key (base64url) are made.
    pub external_account: Option<(String, String)>,
    /// How long certificates live, in seconds.
    pub validity: u32,
    /// Names for which no certificate is issued.
    pub blocked: Vec<String>,
    /// Per cent of valid authorizations that a new order may use again.
    pub reuse: u8,
}

#[derive(Clone, Copy)]
struct Ports {
    acme: u16,
    management: u16,
    names: u16,
    /// Where it validates.
    http: u16,
    tls: u16,
}

impl Default for Pebbling {
    fn default() -> Self {
        Self { nonces_refused: 0, external_account: None, validity: 24 * 3600, blocked: Vec::new(), reuse: 0 }
    }
}

impl Pebble {
    /// Starts one.
    #[must_use]
    pub fn start(pebbling: &Pebbling) -> Self {
        for _ in 0..4 {
            let [acme, management, names, http, tls] = std::array::from_fn(|_| free_port());
            let ports = Ports { acme, management, names, http, tls };
            let mut pebble = Self::launch(pebbling, ports);
            let up = eventually("pebble starts or gives up", || match pebble.service.ended() {
                Some(_) => Some(false),
                None => pebble.ask(ports.management, "/roots/0").map(|_| true),
            });
            if up {
                return pebble;
            }
            eprintln!("pebble did not start: {}", pebble.output());
        }
        panic!("pebble did not start on any of four ports");
    }

    fn launch(pebbling: &Pebbling, ports: Ports) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::root("pebble's own");
        let own = authority.issue(Leaf::server(&["localhost", "127.0.0.1"]));
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) = (file("own.pem", &own.chain), file("own.key", &own.key));
        let keys: serde_json::Map<_, _> =
            pebbling.external_account.iter().map(|(id, key)| (id.clone(), key.clone().into())).collect();
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", ports.acme),
            "managementListenAddress": format!("127.0.0.1:{}", ports.management),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": ports.http,
            "tlsPort": ports.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": pebbling.external_account.is_some(),
            "externalAccountMACKeys": keys,
            "domainBlocklist": pebbling.blocked,
            "certificateValidityPeriod": pebbling.validity,
        } });
        let config = file("pebble.json", &config.to_string());
        let mut names = Command::new("pebble-challtestsrv");
        names.args([
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-management",
            "127.0.0.1:0",
            "-defaultIPv6",
            "",
        ]);
        names.arg("-dns01").arg(format!("127.0.0.1:{}", ports.names));
        let names = Service::spawn(&mut names, &directory.path().join("names.log"));
        let mut pebble = Command::new("pebble");
        pebble.arg("-config").arg(config).arg("-dnsserver").arg(format!("127.0.0.1:{}", ports.names));
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        pebble.env("PEBBLE_WFE_NONCEREJECT", pebbling.nonces_refused.to_string());
        pebble.env("PEBBLE_AUTHZREUSE", pebbling.reuse.to_string());
        let service = Service::spawn(&mut pebble, &directory.path().join("pebble.log"));
        Self { service, _names: names, _directory: directory, authority, ports }
    }

    /// Where ACME begins.
    #[must_use]
    pub fn directory_url(&self) -> String {
        format!("https://localhost:{}/dir", self.ports.acme)
    }

    /// What stands there.
    #[must_use]
    pub fn directory(&self) -> Value {
        let text = self.ask(self.ports.acme, "/dir").expect("pebble tells its directory");
        serde_json::from_str(&text).expect("the directory is JSON")
    }

    /// Who vouches for the ACME server itself (PEM).
    #[must_use]
    pub fn ca(&self) -> &str {
        self.authority.pem()
    }

    /// The root of what it issues (PEM).
    #[must_use]
    pub fn root(&self) -> String {
        self.ask(self.ports.management, "/roots/0").expect("pebble tells its root")
    }

    /// Where it validates over plain HTTP.
    #[must_use]
    pub const fn http(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), self.ports.http)
    }

    /// Where it validates in TLS handshakes.
    #[must_use]
    pub const fn tls(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), self.ports.tls)
    }

    /// How many certificates it issued.
    #[must_use]
    pub fn issued(&self) -> usize {
        self.output().matches("Issued certificate serial").count()
    }

    /// How often something was posted to what begins with this path (`/sign-me-up`: an account, `/order-plz`: an order).
    #[must_use]
    pub fn posts(&self, path: &str) -> usize {
        self.output().matches(&format!("POST {path}")).count()
    }

    /// What it printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.service.output()
    }

    fn ask(&self, port: u16, path: &str) -> Option<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let trust = Trust::new(self.authority.pem(), None);
        let mut connection = Connection::tls(address, &trust, "localhost", Protocol::H1).ok()?;
        let reply = connection.send(Ask::get(&format!("localhost:{port}"), path)).ok()?;
        (reply.status == 200).then(|| reply.text())
    }
}
