//! `portcullis man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use super::{Cli, Exit, Failure, Outcome, out};

/// Write man pages into a directory
#[derive(Args, Debug)]
#[command(
    long_about = "Writes a man page for the program and for each of its commands into a directory.",
    after_long_help = "Example:\n  portcullis man /usr/local/share/man/man1"
)]
pub(super) struct Man {
    /// Which directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> Outcome {
        clap_mangen::generate_to(Cli::command(), &self.directory).map_err(|error| {
            Failure::new(Exit::Failed, format!("`{}`: {error}", self.directory.display()))
        })?;
        out::note(format!("man pages are in `{}`", self.directory.display()))?;
        Ok(Exit::Done)
    }
}
