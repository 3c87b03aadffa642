//! `portcullis upgrade`.

use clap::Args;

use super::door::Door;
use super::exit::{CliError, Report};
use super::source::runtime;

/// Have a new program take the place of the running gateway
///
/// The running gateway starts the program that lies where it was started from, as it was called, and hands its sockets over:
/// no connection is refused. When the new one has everything that it needs it serves, and the old one lets its requests end
/// within `shutdown.deadline`. If the new one does not serve within a minute the reason is printed here, and the old one goes on.
/// SIGUSR2 does the same.
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis upgrade -c portcullis.yaml")]
pub(super) struct Upgrade {
    #[command(flatten)]
    door: Door,
}

impl Upgrade {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let answer = runtime()?.block_on(admin::client::upgrade(&self.door.socket()?))?;
        let pid = answer.get("pid").map(ToString::to_string).unwrap_or_default();
        Ok(Report::ok(format!("process {pid} serves\n")))
    }
}
