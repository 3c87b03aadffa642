//! Both ends of a client's connection.

use std::net::SocketAddr;

/// Where a client comes from and what it connected to, as far as the gateway believes what it was told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Addresses {
    /// The client's end. Port 0 where a proxy in front told the address alone.
    pub client: SocketAddr,
    /// The end that it connected to.
    pub server: SocketAddr,
}

impl Addresses {
    /// Of these two; IPv4 in the form of IPv6 is IPv4.
    #[must_use]
    pub fn new(client: SocketAddr, server: SocketAddr) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { client: canonical(client), server: canonical(server) }
    }
}
