//! `portcullis version`.

use clap::Args;
use serde_json::json;

use super::exit::Report;
use super::out::{Format, Rows};

/// Print the version, and what it was built with
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis version --format json")]
pub(super) struct Version {
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Version {
    pub(super) fn run(&self) -> Report {
        let (version, provider) = (env!("CARGO_PKG_VERSION"), tls::provider_name());
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let target = format!("{} {}", std::env::consts::ARCH, std::env::consts::OS);
        Report::ok(match self.format {
            Format::Json => {
                let all = json!({ "version": version, "crypto": provider, "build": build, "target": target });
                format!("{all:#}\n")
            }
            Format::Text => {
                let mut rows = Rows::default();
                rows.add("portcullis", version);
                rows.add("crypto", provider);
                rows.add("build", build);
                rows.add("target", target);
                rows.to_string()
            }
        })
    }
}
