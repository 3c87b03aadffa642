//! The part of the checked configuration that is about the operator: where logs go, and what answers questions.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::model::FileReference;

/// Where access records go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// A file.
    File(FileReference),
}

/// Metrics, probes, control socket.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Admin {
    /// Metrics; a loopback address.
    pub bind: Option<SocketAddr>,
    /// Probes.
    pub probes: Option<SocketAddr>,
    /// The control socket.
    pub socket: Option<PathBuf>,
}
