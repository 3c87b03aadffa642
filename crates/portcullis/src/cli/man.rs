//! `portcullis man`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::Cli;
use super::exit::{CliError, Report};
use super::out;

/// Write the man pages to a directory, one for each command
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis man ~/.local/share/man/man1")]
pub(super) struct Man {
    /// The directory; it is made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let failed = |reason| CliError::Write { path: self.directory.clone(), reason };
        fs::create_dir_all(&self.directory).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &self.directory).map_err(failed)?;
        let pages = fs::read_dir(&self.directory).map_err(failed)?.count();
        Ok(Report::ok(format!("{} in {}\n", out::count(pages, "page", "pages"), self.directory.display())))
    }
}
