//! The configuration and policies that a development setting starts with, and the addresses that they name.

use std::net::{Ipv4Addr, SocketAddr};

use super::directory::{Directory, Readers};
use super::{DEFAULT_PORT, DevError};
use crate::config::{self, model::Config};

/// Where everything listens, as the configuration says.
#[derive(Debug)]
pub(super) struct Sample {
    /// The gateway.
    pub(super) edge: SocketAddr,
    /// The service `orders`.
    pub(super) orders: SocketAddr,
    /// The service `reports`.
    pub(super) reports: SocketAddr,
    /// Metrics.
    pub(super) metrics: Option<SocketAddr>,
    /// Probes.
    pub(super) probes: Option<SocketAddr>,
}

impl Sample {
    /// Writes the configuration and policies that are not there yet; reads back what is.
    pub(super) fn prepare(directory: &Directory, port: Option<u16>) -> Result<Self, DevError> {
        directory.write_new(CONFIG, &configuration(port.unwrap_or(DEFAULT_PORT)), Readers::All)?;
        directory.write_new("policies/example.cedar", POLICIES, Readers::All)?;
        directory.write_new("policies/cases/example.json", CASES, Readers::All)?;
        let sample = Self::read(directory)?;
        match port {
            Some(asked) if asked != sample.edge.port() => {
                let (path, kept) = (directory.path(CONFIG), sample.edge.port());
                Err(DevError::Port { path, kept, asked })
            }
            _ => Ok(sample),
        }
    }

    fn read(directory: &Directory) -> Result<Self, DevError> {
        let path = directory.path(CONFIG);
        let text = directory.read(CONFIG)?.unwrap_or_default();
        let (config, problems) = config::read(&path.display().to_string(), text, directory.root());
        let config = config.ok_or(DevError::Config(problems))?;
        let edited = |what| DevError::Edited { path: path.clone(), what };
        Ok(Self {
            edge: config.listeners.get("edge").ok_or_else(|| edited("listener `edge`"))?.bind,
            orders: loopback(&config, "orders").ok_or_else(|| edited("upstream `orders` on 127.0.0.1"))?,
            reports: loopback(&config, "reports").ok_or_else(|| edited("upstream `reports` on 127.0.0.1"))?,
            metrics: config.admin.bind,
            probes: config.admin.probes,
        })
    }

    /// What the gateway binds, and what for.
    pub(super) fn gateway_addresses(&self) -> impl Iterator<Item = (String, SocketAddr)> {
        let addresses = [
            ("the gateway", Some(self.edge)),
            ("`admin.bind`", self.metrics),
            ("`admin.probes`", self.probes),
        ];
        addresses.into_iter().filter_map(|(what, address)| Some((what.to_owned(), address?)))
    }
}

/// The address of a demo service: it serves nobody but this machine, whatever the configuration says.
fn loopback(config: &Config, upstream: &str) -> Option<SocketAddr> {
    let endpoint = config.upstreams.get(upstream)?.endpoints.first()?;
    let address: Ipv4Addr = endpoint.host.parse().ok()?;
    address.is_loopback().then_some(SocketAddr::from((address, endpoint.port)))
}

/// The sample for a gateway on `port` and all else on the four ports after it.
fn configuration(port: u16) -> String {
    let names = ["PORT_EDGE", "PORT_ORDERS", "PORT_REPORTS", "PORT_METRICS", "PORT_PROBES"];
    let ports = (port..=u16::MAX).map(|port| port.to_string());
    names.iter().zip(ports).fold(SAMPLE.to_owned(), |text, (name, port)| text.replace(name, &port))
}

/// The configuration's name in the directory.
pub(super) const CONFIG: &str = "portcullis.yaml";
/// The issuer that the sample trusts.
pub(super) const ISSUER: &str = "https://id.example.com";
const SAMPLE: &str = include_str!("sample.yaml");
// The samples that `policy test` holds to their cases in CI: one text, not two.
const POLICIES: &str = include_str!("../../../../policies/example.cedar");
const CASES: &str = include_str!("../../../../policies/cases/example.json");
