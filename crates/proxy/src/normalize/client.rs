//! The client's address: the socket's, or what trusted proxies say.
//!
//! With an empty list of trusted proxies every peer is the client. Else `X-Forwarded-For` is read from right to
//! left, past every trusted address, to the first that is not: what lies further left was written by somebody
//! untrusted. An entry that is no address ends the walk at the last address that was read.

use std::net::IpAddr;

use http::HeaderMap;

use crate::snapshot::Listener;

/// The address that limits, policy and log go by.
#[must_use]
pub fn client_address(socket: IpAddr, listener: &Listener, headers: &HeaderMap) -> IpAddr {
    let mut client = socket.to_canonical();
    if !listener.trusts(client) {
        return client;
    }
    let hops = headers.get_all("x-forwarded-for").iter().rev();
    for hop in hops.flat_map(|value| value.as_bytes().rsplit(|b| *b == b',')) {
        match read(hop) {
            Some(address) => client = address,
            None => break,
        }
        if !listener.trusts(client) {
            break;
        }
    }
    client
}

/// The address that stands last in `X-Forwarded-For`: the one that the nearest proxy saw.
#[must_use]
pub fn last_hop(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    read(last.as_bytes().rsplit(|b| *b == b',').next()?)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.
fn read(hop: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let address =
        text.parse::<IpAddr>().or_else(|_| text.parse().map(|socket: std::net::SocketAddr| socket.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    Some(address.ok().or_else(bracketed)?.to_canonical())
}
