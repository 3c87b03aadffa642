//! `portcullis run`.

use std::path::PathBuf;

use clap::Args;

use super::exit::{CliError, Report};
use crate::gateway;

/// Run the gateway
///
/// Runs until SIGTERM or SIGINT: then it stops accepting, lets requests in flight end within `shutdown.deadline`, and
/// exits with 0. SIGHUP, or a change of a file, reads the configuration again; should it have problems, the one that
/// serves stays.
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis run -c portcullis.yaml")]
pub(super) struct Run {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Write the addresses to this file, as JSON, once the gateway is ready
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

impl Run {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        gateway::run(&gateway::Options { config: self.config.clone(), ready_file: self.ready_file.clone() })?;
        Ok(Report::ok(""))
    }
}
