//! The running gateway: configuration and material become a snapshot, cores serve it, signals change or end it.
//!
//! Bind, then start, then say ready. A reload is parsed, checked, bound and built before anything changes; should
//! any step fail, the generation that serves goes on, and the failure is seen in the log, a gauge and `status`.

mod acme;
mod checks;
mod control;
mod cores;
mod credentials;
mod deny;
mod dns;
mod doors;
mod drill;
mod endpoints;
mod fetch;
mod generation;
mod handover;
mod inspectors;
mod issuers;
mod jobs;
mod jwks;
mod listeners;
mod material;
mod names;
mod pools;
mod prepare;
mod reload;
mod resolve;
mod routes;
mod run;
mod server_trust;
mod slots;
mod sockets;
mod status;
mod stores;
mod tokens;
mod upstreams;
mod watch;

use std::time::SystemTime;

pub use generation::rehearse;
pub use issuers::issuer;
pub use resolve::{Outcome, Resolution, resolve, unresolved_here};
pub use run::{Options, RunError, run};

/// The one clock of the process; everything that decides gets its time from here as an argument.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the edge where the clock is read")]
pub fn wall_clock() -> SystemTime {
    SystemTime::now()
}
