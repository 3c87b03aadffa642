//! `portcullis secret set`, `get`, `list`, `rm`, `authority`.

use std::path::PathBuf;

use clap::Args;
use secrets::{ExposeSecret, Reference, SecretString};
use serde_json::json;

use super::{Place, prompt};
use crate::cli::exit::{CliError, Report};
use crate::cli::out::{self, Format, paint};

/// Store a value under a name, replacing the former one
///
/// The value is asked for without echo on a terminal, else read from standard input; it is never an argument, since
/// everybody on the machine can see those. One line end at its end is not part of it. A running gateway reads the new value
/// within seconds.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis secret set -c portcullis.yaml grafana/token
  openssl rand -base64 32 | portcullis secret set -c portcullis.yaml session/key
  portcullis secret set -c portcullis.yaml edge/key --file edge.key")]
pub(super) struct Set {
    #[command(flatten)]
    place: Place,
    /// As references name it: `embedded:NAME`
    name: String,
    /// Read the value from this file; `-` is standard input, also if that is a terminal
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Print a value, and nothing else
///
/// Exactly as it is stored; a line end follows only on a terminal.
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis secret get -c portcullis.yaml grafana/token")]
pub(super) struct Get {
    #[command(flatten)]
    place: Place,
    /// As references name it: `embedded:NAME`
    name: String,
}

/// Print the names of all values
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis secret list -c portcullis.yaml")]
pub(super) struct List {
    #[command(flatten)]
    place: Place,
    /// How they are shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Remove a value
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis secret rm -c portcullis.yaml grafana/token")]
pub(super) struct Remove {
    #[command(flatten)]
    place: Place,
    /// As references name it: `embedded:NAME`
    name: String,
}

/// Print the certificate of the store's own authority
///
/// It signs what `certificates: { NAME: { embedded: … } }` asks for: whoever connects has to trust it. The first use makes it;
/// its key never leaves the store.
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis secret authority -c portcullis.yaml > embedded-ca.pem")]
pub(super) struct Authority {
    #[command(flatten)]
    place: Place,
}

impl Set {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let store = self.place.open()?;
        store.write(&self.name, &prompt::value(&self.name, self.file.as_deref())?)?;
        let reference = Reference::Embedded { name: self.name.clone() };
        Ok(Report::ok(format!("{}: `{reference}`\n", paint(out::GOOD, "stored"))))
    }
}

impl Get {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        out::print_exactly(self.value()?.expose_secret())?;
        Ok(Report::ok(""))
    }

    pub(super) fn value(&self) -> Result<SecretString, CliError> {
        let fields = self.place.open()?.read(&self.name)?.fields;
        fields.into_values().next().ok_or_else(|| CliError::Unreadable("the value is gone".to_owned()))
    }
}

impl List {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let names = self.place.open()?.names()?;
        Ok(Report::ok(match self.format {
            Format::Json => format!("{:#}\n", json!(names)),
            Format::Text => names.iter().map(|name| format!("{name}\n")).collect(),
        }))
    }
}

impl Remove {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        if !self.place.open()?.remove(&self.name)? {
            return Err(CliError::Unreadable(format!("there is no value `{}`", out::printable(&self.name))));
        }
        Ok(Report::ok(format!("{}: `{}`\n", paint(out::GOOD, "removed"), self.name)))
    }
}

impl Authority {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        Ok(Report::ok(self.place.open()?.authorities()?))
    }
}
