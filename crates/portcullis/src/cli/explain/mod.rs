//! `portcullis explain`: the way of one request through the configuration, without a gateway running.
//!
//! The same code decides as in the gateway: normalisation, router, verification of tokens and certificates, policies.
//! Limits are named and not charged, the upstream is named and not asked.

mod prove;
mod question;
mod show;
mod walk;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use self::question::Question;
use self::walk::{Outcome, Site};
use super::exit::{CliError, Exit, Report};
use super::out::Format;
use super::source;
use crate::gateway;

/// Show what would happen to a request: which route, who, which policy decides
///
/// Reads the configuration and all that it names, and takes the request through it as the gateway would: canonical path,
/// route, limits, proofs, policies, upstream. Nothing is sent. Tokens are verified with the keys of issuers whose keys
/// are in a file. Exits with 5 if the request would be refused.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis explain -c portcullis.yaml --url https://api.example.com/orders/1 --token alice.jwt
  portcullis explain -c portcullis.yaml --url https://api.example.com/orders/1 -X PUT \\
      --certificate billing.pem --address 192.0.2.7")]
pub(super) struct Explain {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The URL that the client asks for
    #[arg(long)]
    url: String,
    /// The method
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// The listener [default: the one that fits the URL's scheme and port]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// A file with the bearer token of the request; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// A file with the client's certificate chain, leaf first, PEM or DER
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The address that the connection comes from
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    address: IpAddr,
    /// A header field of the request; the host of the handshake stays the URL's
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Explain {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let now = gateway::wall_clock();
        let checked = source::checked(&self.config)?;
        let question = Question::read(self, &checked.config)?;
        let snapshot = gateway::rehearse(&checked.config, checked.engine, checked.rules)
            .map_err(CliError::Unreadable)?;
        let site = Site { config: &checked.config, material: &checked.material, snapshot: &snapshot };
        let explained = site.explain(&question, now);
        let text = match self.format {
            Format::Json => format!("{:#}\n", json!(explained)),
            Format::Text => explained.text(now),
        };
        let exit = match explained.outcome {
            Outcome::Answered { .. } | Outcome::Forwarded { .. } | Outcome::Redirected => Exit::Ok,
            Outcome::Disconnected { .. } | Outcome::Refused { .. } => Exit::No,
            Outcome::Unknown { .. } => Exit::Failure,
        };
        Ok(Report::ok(text).ending(exit))
    }
}

#[cfg(test)]
mod tests;
