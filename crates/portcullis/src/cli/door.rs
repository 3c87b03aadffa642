//! The way to the running gateway.

use std::path::PathBuf;

use clap::Args;

use super::exit::CliError;
use super::source::{configuration, control_socket};

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
        if let Some(socket) = control_socket(config)? {
            return Ok(socket);
        }
        // A mistake in the file may be why nothing is found in it: that is worth more than to hear that there is none.
        configuration(config)?;
        Err(CliError::Usage(format!("`{}` has no `admin.socket`: there is nobody to ask", config.display())))
    }
}
