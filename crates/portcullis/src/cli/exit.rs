//! How a command ends: what it says, and the exit code.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use admin::client::ClientError;
use secrets::StoreError;

use super::out;
use crate::config::Problems;
use crate::dev::DevError;
use crate::gateway::RunError;

/// How the program ends. The numbers are an interface: scripts read them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// Everything is as it should be.
    Ok = 0,
    /// Something failed while running.
    Failure = 1,
    /// The command line is not understood.
    Usage = 2,
    /// The configuration or a policy has problems.
    Config = 3,
    /// No running gateway can be reached.
    Unreachable = 4,
    /// The answer is no: a case failed, a request is not allowed, a token does not verify, a reference does not resolve.
    No = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a command has to say. Colours are part of the texts; they are taken out where nobody can see them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Report {
    /// For standard output.
    pub(super) text: String,
    /// For standard error.
    pub(super) complaint: String,
    pub(super) exit: Exit,
}

impl Report {
    /// A result that is as it should be.
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), complaint: String::new(), exit: Exit::Ok }
    }

    /// A result that ends another way.
    pub(super) fn ending(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    pub(super) fn print(&self) -> Exit {
        out::complain(&self.complaint);
        match out::print(&self.text) {
            Ok(()) => self.exit,
            Err(error) => {
                out::complain(&complaint(&format!("standard output cannot be written: {error}")));
                Exit::Failure
            }
        }
    }
}

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the configuration has problems")]
    Config(#[source] Problems),
    #[error(transparent)]
    Dev(DevError),
    /// A file that is not what the command needs.
    #[error("`{path}`: {reason}", path = .path.display())]
    Read { path: PathBuf, reason: String },
    #[error(transparent)]
    Run(RunError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    System(#[from] io::Error),
    /// What was read is not what the command needs.
    #[error("{0}")]
    Unreadable(String),
    /// What the arguments say together makes no sense.
    #[error("{0}")]
    Usage(String),
    #[error("`{path}` cannot be written: {reason}", path = .path.display())]
    Write { path: PathBuf, reason: io::Error },
}

impl CliError {
    pub(super) fn read(path: &Path, reason: &impl ToString) -> Self {
        Self::Read { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn report(self) -> Report {
        let exit = match &self {
            Self::Config(_) | Self::Client(ClientError::Refused { .. }) => Exit::Config,
            Self::Client(_) => Exit::Unreachable,
            Self::Dev(_)
            | Self::Read { .. }
            | Self::Run(_)
            | Self::Store(_)
            | Self::System(_)
            | Self::Unreadable(_)
            | Self::Write { .. } => Exit::Failure,
            Self::Usage(_) => Exit::Usage,
        };
        let complaint = match &self {
            Self::Config(problems) => out::problems(problems),
            Self::Client(ClientError::Refused { message, problems }) => {
                problems.iter().fold(complaint(message), |text, problem| text + "  " + problem + "\n")
            }
            other => complaint(&other.to_string()),
        };
        Report { text: String::new(), complaint, exit }
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Config(problems) => Self::Config(problems),
            other => Self::Run(other),
        }
    }
}

impl From<DevError> for CliError {
    fn from(error: DevError) -> Self {
        match error {
            DevError::Config(problems) => Self::Config(problems),
            DevError::Run(error) => error.into(),
            other => Self::Dev(other),
        }
    }
}

/// In the form of all complaints, clap's among them.
fn complaint(message: &str) -> String {
    format!("{}: {message}\n", out::paint(out::ERROR, "error"))
}
