//! `curl`, the client that users have.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::patience;
use crate::process::run;

/// One invocation of curl.
pub struct Curl {
    command: Command,
    directory: TempDir,
}

/// What curl got.
#[derive(Debug)]
pub struct CurlReply {
    /// The status code; 0 when there was no answer.
    pub status: u16,
    /// The protocol version: `1.1` or `2`.
    pub version: String,
    /// The body.
    pub body: Vec<u8>,
    /// What curl complained about, and its exit code when that was not 0.
    pub complaint: String,
}

impl Curl {
    /// Asks for `url`, whose host (any name) is taken to be at `address`.
    #[must_use]
    pub fn new(url: &str, address: std::net::SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--write-out", "%{http_code} %{http_version}"]);
        command.args(["--max-time", &patience().as_secs().to_string(), "--noproxy", "*"]);
        command.args(["--connect-to", &format!("::{address}")]);
        command.arg("--output").arg(directory.path().join("body")).arg(url);
        Self { command, directory }
    }

    /// Adds arguments as a user would type them.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// Trusts the roots in this file.
    #[must_use]
    pub fn trusting(mut self, roots: &Path) -> Self {
        self.command.arg("--cacert").arg(roots);
        self
    }

    /// Presents this certificate.
    #[must_use]
    pub fn presenting(mut self, chain: &Path, key: &Path) -> Self {
        self.command.arg("--cert").arg(chain).arg("--key").arg(key);
        self
    }

    /// Uploads this file.
    #[must_use]
    pub fn uploading(mut self, file: &Path) -> Self {
        self.command.arg("--upload-file").arg(file);
        self
    }

    /// Runs it.
    #[must_use]
    pub fn run(mut self) -> CurlReply {
        let finished = run(&mut self.command);
        let (status, version) = finished.stdout.rsplit_once(' ').unwrap_or(("0", ""));
        let exit = if finished.code == 0 { String::new() } else { format!(" (exit code {})", finished.code) };
        CurlReply {
            status: status.parse().unwrap_or(0),
            version: version.to_owned(),
            body: std::fs::read(self.directory.path().join("body")).unwrap_or_default(),
            complaint: format!("{}{exit}", finished.stderr.trim()),
        }
    }
}

impl CurlReply {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}
