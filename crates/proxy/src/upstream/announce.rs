//! The PROXY protocol (versions 1 and 2) towards an upstream: before TLS, whose connection this is.
//!
//! **Sent:** the client's address as limits, policies and the log have it, and the address that it connected to. Where one is IPv4 and
//! the other IPv6, the first is mapped into the second's family (RFC 4291 section 2.5.5.2), since a header has one family for both. A health
//! check is nobody's: `UNKNOWN` or LOCAL. INVARIANT: a connection carries requests of the one client that was announced on it.
//! So it is never of HTTP/2, whose connections clients share, and the pool gives it to nobody else.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::addresses::Addresses;
use crate::connection::proxy_protocol::{PROXY, SIGNATURE, TCP4, TCP6};

/// In which version clients are announced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyHeader {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyHeader {
    /// What a connection for this client begins with.
    pub(super) fn of(self, addresses: Addresses) -> Vec<u8> {
        let Addresses { client, server } = addresses;
        match (self, client.ip(), server.ip()) {
            (Self::V1, IpAddr::V4(source), IpAddr::V4(destination)) => {
                line("TCP4", source, destination, addresses)
            }
            (Self::V1, source, destination) => {
                line("TCP6", Groups(v6(source)), Groups(v6(destination)), addresses)
            }
            (Self::V2, IpAddr::V4(source), IpAddr::V4(destination)) => {
                block(TCP4, &source.octets(), &destination.octets(), addresses)
            }
            (Self::V2, source, destination) => {
                block(TCP6, &v6(source).octets(), &v6(destination).octets(), addresses)
            }
        }
    }

    /// What a connection of the gateway's own begins with.
    pub(super) const fn own(self) -> &'static [u8] {
        match self {
            Self::V1 => b"PROXY UNKNOWN\r\n",
            Self::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        }
    }
}

fn line(
    family: &str,
    source: impl std::fmt::Display,
    destination: impl std::fmt::Display,
    Addresses { client, server }: Addresses,
) -> Vec<u8> {
    format!("PROXY {family} {source} {destination} {} {}\r\n", client.port(), server.port()).into_bytes()
}

fn block(family: u8, source: &[u8], destination: &[u8], Addresses { client, server }: Addresses) -> Vec<u8> {
    let ports = |address: SocketAddr| address.port().to_be_bytes();
    // Two addresses of at most 16 bytes and two ports.
    let length = (2 * source.len() + 4) as u8;
    let head = [PROXY, family, 0, length];
    [SIGNATURE, &head, source, destination, &ports(client), &ports(server)].concat()
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// An address in groups of hexadecimal digits alone: a mapped one too, which is usually written with dots and which the line's grammar does
/// not know.
struct Groups(Ipv6Addr);

impl std::fmt::Display for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.segments() {
            [0, 0, 0, 0, 0, 0xffff, high, low] => write!(f, "::ffff:{high:x}:{low:x}"),
            _ => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connection::proxy_protocol::{LOCAL, Passed, parse};

    fn addresses(client: &str, server: &str) -> Addresses {
        Addresses { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    fn text(client: &str, server: &str) -> String {
        String::from_utf8(ProxyHeader::V1.of(addresses(client, server))).unwrap()
    }

    #[test]
    fn a_line_names_both_ends_in_one_family() {
        assert_eq!(
            text("192.0.2.7:51234", "198.51.100.1:443"),
            "PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\r\n"
        );
        assert_eq!(
            text("[2001:db8::7]:51234", "[2001:db8::1]:443"),
            "PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n"
        );
        assert_eq!(
            text("[2001:db8::7]:0", "198.51.100.1:443"),
            "PROXY TCP6 2001:db8::7 ::ffff:c633:6401 0 443\r\n"
        );
        assert_eq!(text("192.0.2.7:1", "[::1]:443"), "PROXY TCP6 ::ffff:c000:207 ::1 1 443\r\n");
    }

    #[test]
    fn a_block_names_both_ends_in_one_family() {
        let v2 = |client, server| ProxyHeader::V2.of(addresses(client, server));
        let of_v4 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xc8\x22\x01\xbb";
        assert_eq!(v2("192.0.2.7:51234", "198.51.100.1:443"), of_v4);
        let source = [&[0x20, 1, 0xd, 0xb8], [0; 11].as_slice(), &[7]].concat();
        let mapped = [[0; 10].as_slice(), &[0xff, 0xff, 198, 51, 100, 1]].concat();
        let behind = [source, mapped, vec![0, 0, 1, 187]].concat();
        let mixed = [b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".as_slice(), &behind].concat();
        assert_eq!(v2("[2001:db8::7]:0", "198.51.100.1:443"), mixed);
    }

    #[test]
    fn a_check_is_nobodys() {
        assert_eq!(ProxyHeader::V1.own(), b"PROXY UNKNOWN\r\n");
        assert_eq!(ProxyHeader::V2.own(), [SIGNATURE, &[LOCAL, 0, 0, 0]].concat());
        assert_eq!(parse(ProxyHeader::V2.own()).unwrap(), Some((Passed::Own, 16)));
    }

    proptest! {
        /// What is written is what the other side reads, and nothing is left over for it to take for a request.
        #[test]
        fn what_is_announced_is_what_is_read(client: (IpAddr, u16), server: (IpAddr, u16)) {
            let told = Addresses::new(client.into(), server.into());
            for version in [ProxyHeader::V1, ProxyHeader::V2] {
                let header = version.of(told);
                prop_assert_eq!(parse(&header).unwrap(), Some((Passed::Client(told), header.len())));
            }
            prop_assert!(ProxyHeader::V1.of(told).len() <= 107);
        }
    }
}
