//! `portcullis completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Exit, Outcome, out};

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(
    long_about = "Prints a script that completes commands, options and their values in a shell.",
    after_long_help = "Example:\n  portcullis completions bash > /etc/bash_completion.d/portcullis"
)]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "portcullis", &mut script);
        out::raw(String::from_utf8_lossy(&script))?;
        Ok(Exit::Done)
    }
}
