//! `portcullis dev`: the real gateway on a development setting that needs no file and no other server.
//!
//! **Makes**, in one directory: a certificate authority, the gateway's certificate and a workload's, a token issuer's key
//! set and tokens of two people, a configuration and policies. **Runs** two small services and the gateway in front of
//! them. **Prints** five commands to paste. **Keeps** the authority, the issuer's key and whatever a person may have
//! edited; certificates and tokens are made anew at each start, so that what was pasted before works again.

mod authority;
mod commands;
mod directory;
mod issuer;
mod page;
#[path = "../../../../certs/profiles.rs"]
pub mod profiles;
mod sample;
mod services;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use self::directory::Directory;
use self::sample::Sample;
use self::services::Services;
use crate::config::Problems;
use crate::gateway::{self, RunError};

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is made and kept.
    pub directory: PathBuf,
    /// The gateway's port; the four after it are taken too. Without one: what the configuration there says, or
    /// [`DEFAULT_PORT`].
    pub port: Option<u16>,
    /// Whether the gateway runs too.
    pub extent: Extent,
}

/// What is started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    /// The services and the gateway.
    Whole,
    /// The services, for a gateway that is started by `portcullis run`.
    ServicesOnly,
}

/// Why the development setting does not stand.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A certificate cannot be made, or the authority's files are none.
    #[error("`{path}` cannot be made: {reason}; remove the directory to start anew", path = .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: rcgen::Error,
    },
    /// The configuration there was edited and has problems.
    #[error("the configuration has problems")]
    Config(Problems),
    /// A part of the configuration that the commands need is gone.
    #[error("`{path}` has no {what} any more; put it back, or remove the file to get a new one", path = .path.display())]
    Edited {
        /// The configuration.
        path: PathBuf,
        /// What is not there.
        what: &'static str,
    },
    /// A file or directory cannot be read or written.
    #[error("`{path}`: {reason}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The port that was asked for is not that of the configuration which is kept.
    #[error("`{path}` says port {kept}, not {asked}; edit it, remove it, or choose another `--directory`", path = .path.display())]
    Port {
        /// The configuration.
        path: PathBuf,
        /// Its port.
        kept: u16,
        /// The port that was asked for.
        asked: u16,
    },
    /// The gateway did not start.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The system refused something that every process needs.
    #[error(transparent)]
    System(#[from] io::Error),
    /// An address is in use.
    #[error(
        "{what} cannot listen on {address}: {reason}; is another one running? `--port` with another `--directory` sets up a second"
    )]
    Taken {
        /// Who wants it.
        what: String,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        reason: io::Error,
    },
    /// A token or key set cannot be made, or the issuer's key is none.
    #[error("`{path}` cannot be made: {reason}; remove the directory to start anew", path = .path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: jsonwebtoken::errors::Error,
    },
}

/// Makes the setting, starts it, and stays until SIGINT or SIGTERM.
///
/// # Errors
/// Whatever keeps it from standing; a setting that stood ends without an error.
pub fn run(options: &Options, now: SystemTime) -> Result<(), DevError> {
    let (directory, sample) = prepare(&options.directory, options.port, now)?;
    let services = Services::start(&[("orders", sample.orders), ("reports", sample.reports)])?;
    match options.extent {
        Extent::ServicesOnly => {
            page::services_only(&directory, &sample);
            until_told_to_end()?;
        }
        Extent::Whole => serve(&directory, &sample)?,
    }
    services.stop();
    Ok(())
}

/// Makes what is not there yet, and certificates and tokens anew.
fn prepare(path: &Path, port: Option<u16>, now: SystemTime) -> Result<(Directory, Sample), DevError> {
    tls::install_default();
    identity::jwt::install_crypto_provider();
    let directory = Directory::open(path)?;
    let sample = Sample::prepare(&directory, port)?;
    authority::prepare(&directory, now)?;
    issuer::prepare(&directory, now)?;
    Ok((directory, sample))
}

/// The development setting without anything running, for tests of other commands.
#[cfg(test)]
pub(crate) fn make_in(path: &Path, now: SystemTime) {
    prepare(path, None, now).unwrap();
}

fn serve(directory: &Directory, sample: &Sample) -> Result<(), DevError> {
    for (what, address) in sample.gateway_addresses() {
        // Asked beforehand, because all that it would say itself comes after the certificates, and without advice.
        TcpListener::bind(address).map_err(|reason| DevError::Taken { what, address, reason })?;
    }
    let ready = directory.path(READY);
    directory.remove(READY)?;
    let (running, ended) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if became_ready(directory, &ended) {
                page::whole(directory, sample);
            }
        });
        let options = gateway::Options { config: directory.path(sample::CONFIG), ready_file: Some(ready) };
        let result = gateway::run(&options);
        drop(running);
        Ok(result?)
    })
}

/// Waits for the file that the gateway writes once it serves; false if it ended before.
fn became_ready(directory: &Directory, ended: &Receiver<()>) -> bool {
    while ended.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
        if directory.path(READY).exists() {
            return true;
        }
    }
    false
}

fn until_told_to_end() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

/// Where everything is made unless the command line says otherwise: in sight, beside where one works.
pub const DEFAULT_DIRECTORY: &str = "portcullis-dev";

/// The gateway's port unless the command line says otherwise.
pub const DEFAULT_PORT: u16 = 8443;

/// The highest port that leaves room for the four after it.
pub const LAST_PORT: u16 = u16::MAX - 4;

const READY: &str = "ready.json";

#[cfg(test)]
mod tests;
