//! `portcullis version`.

use clap::Args;
use serde_json::json;

use super::{Exit, Format, Outcome, out};

/// Print the version and what it was built with
#[derive(Args, Debug)]
#[command(
    long_about = "Prints the version and the crypto provider that this program was built with.",
    after_long_help = "Example:\n  portcullis version --format json"
)]
pub(super) struct Version {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Version {
    pub(super) fn run(self) -> Outcome {
        let (version, provider) = (env!("CARGO_PKG_VERSION"), tls::provider_name());
        match self.format {
            Format::Json => out::line(json!({ "version": version, "crypto": provider }))?,
            Format::Text => out::line(format!("portcullis {version} (crypto: {provider})"))?,
        }
        Ok(Exit::Done)
    }
}
