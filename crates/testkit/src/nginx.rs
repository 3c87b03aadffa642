//! nginx as an upstream that somebody else wrote, and as a proxy that asks the gateway.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::authority::Issued;
use crate::process::Service;
use crate::{eventually, wire};

/// A running nginx that serves the files written to it.
pub struct Nginx {
    _service: Service,
    address: SocketAddr,
    scheme: &'static str,
    directory: TempDir,
}

impl Nginx {
    /// Starts it; over TLS with this certificate when one is given, then asking for a client certificate under `clients`.
    #[must_use]
    pub fn start(tls: Option<&Issued>, clients: Option<&str>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self::launched(scheme, |root| server(root, tls, clients))
    }

    /// Starts it over plain HTTP with these locations.
    #[must_use]
    pub fn in_front(locations: &str) -> Self {
        Self::launched("http", |_| (String::new(), locations.to_owned()))
    }

    fn launched(scheme: &'static str, server: impl Fn(&Path) -> (String, String)) -> Self {
        // nginx cannot be told "any free port": one is picked, and picked anew should another test have taken it.
        for _ in 0..4 {
            let directory = tempfile::tempdir().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let (tls, locations) = server(directory.path());
            let mut service = launch(&directory, port, &tls, &locations);
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let up = eventually("nginx starts or gives up", || match service.ended() {
                Some(_) => Some(false),
                None => wire::Wire::plain(address).is_ok().then_some(true),
            });
            if up {
                return Self { _service: service, address, scheme, directory };
            }
            eprintln!("nginx did not start: {}", service.output());
        }
        panic!("nginx did not start on any of four ports");
    }

    /// What a configuration names as endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a file under the root of what is served.
    pub fn serve(&self, name: &str, contents: &[u8]) {
        std::fs::write(self.directory.path().join("www").join(name), contents).unwrap();
    }
}

/// What it says of TLS, and its locations.
fn server(root: &Path, tls: Option<&Issued>, clients: Option<&str>) -> (String, String) {
    let mut server = String::new();
    if let Some(issued) = tls {
        std::fs::write(root.join("server.pem"), &issued.chain).unwrap();
        std::fs::write(root.join("server.key"), &issued.key).unwrap();
        server += &format!(
            "ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key; ssl_protocols TLSv1.2 TLSv1.3;",
            root.display()
        );
    }
    if let Some(roots) = clients {
        std::fs::write(root.join("clients.pem"), roots).unwrap();
        server += &format!(" ssl_client_certificate {}/clients.pem; ssl_verify_client on;", root.display());
    }
    let locations = "location = /who { return 200 \"$server_protocol $http_host $ssl_client_s_dn\\n\"; }";
    (server, locations.to_owned())
}

fn launch(directory: &TempDir, port: u16, tls: &str, locations: &str) -> Service {
    let root = directory.path();
    std::fs::create_dir(root.join("www")).unwrap();
    let ssl = if tls.is_empty() { "" } else { " ssl" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", root.display()))
        .collect();
    let text = format!(
        "daemon off; pid {0}/pid; error_log stderr warn; worker_processes 1; user root;
events {{ worker_connections 256; }}
http {{
  access_log off;
  {temporary}
  server {{
    listen 127.0.0.1:{port}{ssl};
    {tls}
    root {0}/www;
    {locations}
  }}
}}
",
        root.display()
    );
    std::fs::write(root.join("nginx.conf"), text).unwrap();
    let mut command = Command::new(if std::path::Path::new("/usr/sbin/nginx").exists() {
        "/usr/sbin/nginx"
    } else {
        "nginx"
    });
    command.arg("-p").arg(root).arg("-c").arg(root.join("nginx.conf")).args(["-e", "stderr"]);
    Service::spawn(&mut command, &root.join("output.log"))
}
