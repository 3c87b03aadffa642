//! `portcullis reload`.

use clap::Args;

use super::door::Door;
use super::exit::{CliError, Report};
use super::source::runtime;

/// Have the running gateway read its configuration again
///
/// The new configuration is taken whole or not at all. If it has problems they are printed here, and the one that serves
/// stays. What a store did not give at the last try is asked for again at once.
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis reload -c portcullis.yaml")]
pub(super) struct Reload {
    #[command(flatten)]
    door: Door,
}

impl Reload {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let answer = runtime()?.block_on(admin::client::reload(&self.door.socket()?))?;
        let generation = answer.get("generation").map(ToString::to_string).unwrap_or_default();
        Ok(Report::ok(format!("generation {generation} serves\n")))
    }
}
