//! One look-up of one name, as the machine's own resolver would do it.
//!
//! **Passes:** what `/etc/hosts` says of a name, else what the name servers of `/etc/resolv.conf` say, with its search domains; or, where
//! name servers are configured, what these say and nothing else. Both files are read at each look-up: a change of them needs no
//! reload. **Refused:** an answer without an address. An IPv6 address counts where this machine has a way to it (RFC 6724, rule 1).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::time::timeout;

/// What a look-up found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    /// At least one, in order.
    pub(super) addresses: Vec<IpAddr>,
    /// How long it counts; a file says nothing of that.
    pub(super) ttl: Option<Duration>,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookUpError {
    /// It has none, or none that this machine has a way to.
    #[error("no address that this machine can reach")]
    Empty,
    /// No answer within [`DEADLINE`].
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Late,
    /// What the name servers, or the way to them, say.
    #[error("{0}")]
    Net(#[from] NetError),
}

/// Asks for the addresses of `host`; with `servers` only these are asked.
///
/// # Errors
/// Nothing was found, or nobody answered.
pub(super) async fn look_up(host: &str, servers: &[SocketAddr]) -> Result<Answer, LookUpError> {
    if servers.is_empty()
        && let Some(addresses) = in_hosts_file(host)
    {
        return Ok(Answer { addresses: usable(addresses)?, ttl: None });
    }
    let mut builder = match servers {
        [] => TokioResolver::builder_tokio()?,
        servers => TokioResolver::builder_with_config(asking(servers), TokioRuntimeProvider::default()),
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Done above: it counts only if it has no address of either kind there.
    options.use_hosts_file = ResolveHosts::Never;
    // Each look-up is the first of its resolver.
    options.cache_size = 1;
    let resolver = builder.build()?;
    let found = timeout(DEADLINE, resolver.lookup_ip(host)).await.map_err(|_| LookUpError::Late)??;
    let ttl = found.valid_until().saturating_duration_since(std::time::Instant::now());
    Ok(Answer { addresses: usable(found.iter())?, ttl: Some(ttl) })
}

/// What the file says of a name: all of it, as the C library takes it.
fn in_hosts_file(host: &str) -> Option<Vec<IpAddr>> {
    let hosts = Hosts::from_system().unwrap_or_default();
    let name = Name::from_utf8(host).ok()?;
    let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(|kind| {
        let found = hosts.lookup_static_host(&Query::query(name.clone(), kind))?;
        Some(found.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
    });
    let mut addresses: Vec<_> = found.flatten().collect();
    if addresses.is_empty() && host == "localhost" {
        // Nobody else is asked for it (RFC 6761 section 6.3).
        addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    (!addresses.is_empty()).then_some(addresses)
}

fn asking(servers: &[SocketAddr]) -> ResolverConfig {
    let servers = servers.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.into())
    });
    ResolverConfig::from_name_servers(servers.collect())
}

/// Those that this machine has a way to: once each, in order.
fn usable(addresses: impl IntoIterator<Item = IpAddr>) -> Result<Vec<IpAddr>, LookUpError> {
    let usable: BTreeSet<IpAddr> = addresses.into_iter().filter(has_a_way_to).collect();
    if usable.is_empty() { Err(LookUpError::Empty) } else { Ok(usable.into_iter().collect()) }
}

/// Nothing is sent: the system looks for a route and a source address, and says if it has none.
fn has_a_way_to(address: &IpAddr) -> bool {
    let IpAddr::V6(v6) = address else { return true };
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    socket.and_then(|socket| socket.connect((*v6, DISCARD))).is_ok()
}

/// Any port would do.
const DISCARD: u16 = 9;

/// For all servers and search domains together.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_machines_own_name_needs_no_name_server() {
        let found = look_up("localhost", &[]).await.unwrap();
        assert!(found.addresses.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[test]
    fn addresses_count_once_and_in_order() {
        let [one, two]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        assert_eq!(usable([two, one, two]).unwrap(), [one, two]);
        assert!(matches!(usable([]), Err(LookUpError::Empty)));
    }
}
