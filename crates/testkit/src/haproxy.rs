//! HAProxy as a proxy in front of the gateway.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Service;
use crate::{eventually, wire};

/// A running HAProxy.
pub struct Haproxy {
    _service: Service,
    _directory: TempDir,
    address: SocketAddr,
}

impl Haproxy {
    /// Starts it on these sections, in which `PORT` stands for the port that it is to listen on.
    #[must_use]
    pub fn start(sections: &str) -> Self {
        // HAProxy cannot be told "any free port": one is picked, and picked anew should another test have taken it.
        for _ in 0..4 {
            let directory = tempfile::tempdir().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = directory.path().join("haproxy.cfg");
            let text = format!(
                "defaults\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n{}",
                sections.replace("PORT", &port.to_string())
            );
            std::fs::write(&config, text).unwrap();
            let usual = std::path::Path::new("/usr/sbin/haproxy");
            let mut command =
                Command::new(if usual.exists() { usual.as_os_str() } else { "haproxy".as_ref() });
            command.arg("-db").arg("-f").arg(&config);
            let mut service = Service::spawn(&mut command, &directory.path().join("output.log"));
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let up = eventually("HAProxy starts or gives up", || match service.ended() {
                Some(_) => Some(false),
                None => wire::Wire::plain(address).is_ok().then_some(true),
            });
            if up {
                return Self { _service: service, _directory: directory, address };
            }
            eprintln!("HAProxy did not start: {}", service.output());
        }
        panic!("HAProxy did not start on any of four ports");
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
