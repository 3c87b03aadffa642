//! `portcullis dev`.

use std::path::PathBuf;

use clap::Args;

use super::exit::{CliError, Report};
use crate::dev::{self, DEFAULT_DIRECTORY, DEFAULT_PORT, Extent, LAST_PORT};
use crate::gateway;

/// Try the gateway: no file and no other server is needed
///
/// Makes an authority, certificates, a token issuer, a configuration and policies in a directory, starts two small
/// services and the gateway in front of them, and prints commands to paste. What is there already is kept, so the
/// configuration and the policies can be edited.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis dev
  portcullis dev --services-only     # and in another terminal:
  portcullis run -c portcullis-dev/portcullis.yaml")]
pub(super) struct Dev {
    /// Where everything is made and kept
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIRECTORY)]
    directory: PathBuf,
    /// The gateway's port; the four after it are taken too
    #[arg(long, value_name = "PORT", help = format!("The gateway's port; the four after it are taken, too [default: {DEFAULT_PORT}]"))]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(LAST_PORT)))]
    port: Option<u16>,
    /// Start only the services, for a gateway that `portcullis run` starts
    #[arg(long)]
    services_only: bool,
}

impl Dev {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let extent = if self.services_only { Extent::ServicesOnly } else { Extent::Whole };
        let options = dev::Options { directory: self.directory.clone(), port: self.port, extent };
        dev::run(&options, gateway::wall_clock())?;
        Ok(Report::ok(""))
    }
}
