//! The way to the running gateway.

use std::path::PathBuf;

use clap::Args;

use super::exit::CliError;
use super::source::configuration;

/// Where the running gateway is asked.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Door {
    /// The gateway's control socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The gateway's configuration, whose `admin.socket` names it
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Door {
    pub(super) fn socket(&self) -> Result<PathBuf, CliError> {
        let config = match (&self.socket, &self.config) {
            (Some(socket), _) => return Ok(socket.clone()),
            (None, Some(config)) => config,
            (None, None) => {
                return Err(CliError::Usage("either `--socket` or `--config` is needed".to_owned()));
            }
        };
        configuration(config)?.admin.socket.ok_or_else(|| {
            CliError::Usage(format!("`{}` has no `admin.socket`: there is nobody to ask", config.display()))
        })
    }
}
