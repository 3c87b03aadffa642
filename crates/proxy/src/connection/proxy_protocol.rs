//! The PROXY protocol (versions 1 and 2): before TLS, a proxy in front says whose connection it passes on.
//!
//! **Passes:** one header of at most [`MOST`] bytes that names an IPv4 or IPv6 client of a TCP connection; its TLVs are not
//! read. Version 2's LOCAL command says that the connection is the proxy's own. **Refused, by closing the connection:** a
//! connection without a header, one that differs from the grammar in a single byte, and one that names no client
//! (`UNKNOWN`, an unspecified family, UNIX sockets, datagrams): whoever passes on strangers would otherwise be taken for
//! them. Whether the sender may say so at all is asked before a byte is read (`Listener::trusts`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Open;
use crate::addresses::Addresses;
use crate::core::Core;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Passed {
    /// A client's, with what it connected to.
    Client(Addresses),
    /// The proxy's own, for instance a health check.
    Own,
}

/// Why a connection is closed before its first request.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The connection ended or broke.
    #[error("the connection ended before its header: {0}")]
    Io(#[from] io::Error),
    /// No header, or one that is none.
    #[error("no PROXY protocol header")]
    Malformed,
    /// A header without a client's address.
    #[error("the header names no client")]
    Nameless,
    /// A header that is longer than anybody needs.
    #[error("the header is longer than {MOST} bytes")]
    TooLong,
}

/// Whose connection a trusted proxy passes on, within the caps for that address; nothing if it is to be closed.
pub(super) async fn client(
    core: &Core,
    stream: &mut TcpStream,
    proxy: Addresses,
    open: &mut Open,
    deadline: Instant,
) -> Option<Addresses> {
    let listener = open.listener().clone();
    let cause = match timeout_at(deadline, read(stream)).await {
        Ok(Ok(passed)) => {
            let addresses = match passed {
                Passed::Client(addresses) => addresses,
                Passed::Own => proxy,
            };
            return open.admits(core.id, addresses.client.ip()).then_some(addresses);
        }
        Ok(Err(error)) => {
            if core.may_tell() {
                tracing::info!(listener = %listener.name, proxy = %proxy.client, %error, "connection refused");
            }
            "proxy_header"
        }
        Err(_) => "timeout",
    };
    listener.series.handshake_failed(core.id.index(), cause);
    None
}

/// Reads the header and not a byte more: what follows is TLS's or HTTP's.
///
/// # Errors
/// There is no such header.
async fn read(stream: &mut TcpStream) -> Result<Passed, ProxyHeaderError> {
    let mut header = Vec::with_capacity(LINE);
    let mut seen = [0; CHUNK];
    loop {
        let before = header.len();
        let count = stream.peek(&mut seen).await?;
        header.extend_from_slice(seen.get(..count).unwrap_or_default());
        let parsed = parse(&header)?;
        // All of it belongs to a header whose end has not come.
        let length = parsed.map_or(header.len(), |(_, length)| length);
        let taken = seen.get_mut(..length.saturating_sub(before)).ok_or(ProxyHeaderError::Malformed)?;
        stream.read_exact(taken).await?;
        match parsed {
            Some((passed, _)) => return Ok(passed),
            None if count == 0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            None => {}
        }
    }
}

/// The header at the start of these bytes and its length; nothing while it may still become one.
///
/// # Errors
/// These bytes do not begin a header, or begin one that does not count.
pub fn parse(bytes: &[u8]) -> Result<Option<(Passed, usize)>, ProxyHeaderError> {
    if let Some(rest) = bytes.strip_prefix(SIGNATURE) {
        return binary(rest);
    }
    if let Some(rest) = bytes.strip_prefix(WORD) {
        return line(rest);
    }
    if SIGNATURE.starts_with(bytes) || WORD.starts_with(bytes) {
        return Ok(None);
    }
    Err(ProxyHeaderError::Malformed)
}

/// Version 1 behind its first word: `TCP4 192.0.2.1 198.51.100.1 51234 443\r\n`.
fn line(rest: &[u8]) -> Result<Option<(Passed, usize)>, ProxyHeaderError> {
    let most = LINE - WORD.len();
    let Some(end) = rest.iter().take(most).position(|byte| *byte == b'\n') else {
        return if rest.len() >= most { Err(ProxyHeaderError::Malformed) } else { Ok(None) };
    };
    let text = rest.get(..end).and_then(|line| str::from_utf8(line.strip_suffix(b"\r")?).ok());
    let text = text.ok_or(ProxyHeaderError::Malformed)?;
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Err(ProxyHeaderError::Nameless);
    }
    let addresses = addresses(text).ok_or(ProxyHeaderError::Malformed)?;
    Ok(Some((Passed::Client(addresses), WORD.len() + end + 1)))
}

fn addresses(text: &str) -> Option<Addresses> {
    let mut words = text.split(' ');
    let family = words.next()?;
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (address()?, address()?);
    let mut port =
        || words.next().filter(|word| word.bytes().all(|b| b.is_ascii_digit()))?.parse::<u16>().ok();
    let (client, server) = (SocketAddr::new(source, port()?), SocketAddr::new(destination, port()?));
    words.next().is_none().then(|| Addresses::new(client, server))
}

/// Version 2 behind its signature: version and command, family and transport, length, addresses, TLVs.
fn binary(rest: &[u8]) -> Result<Option<(Passed, usize)>, ProxyHeaderError> {
    use ProxyHeaderError::{Malformed, Nameless, TooLong};
    let command = rest.first().copied();
    if command.is_some_and(|command| !matches!(command, LOCAL | PROXY)) {
        return Err(Malformed);
    }
    let Some((&[command, family, high, low], behind)) = rest.split_first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = SIGNATURE.len() + 4 + length;
    if whole > MOST {
        return Err(TooLong);
    }
    let Some(block) = behind.get(..length) else { return Ok(None) };
    let passed = match (command, family) {
        (LOCAL, _) => Passed::Own,
        (_, TCP4) => Passed::Client(ends::<4>(block).ok_or(Malformed)?),
        (_, TCP6) => Passed::Client(ends::<16>(block).ok_or(Malformed)?),
        (_, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => return Err(Nameless),
        _ => return Err(Malformed),
    };
    Ok(Some((passed, whole)))
}

/// Source and destination of a block: two addresses, two ports, then TLVs.
fn ends<const N: usize>(block: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, behind) = block.split_first_chunk::<N>()?;
    let (destination, behind) = behind.split_first_chunk::<N>()?;
    let (&[high, low, server_high, server_low], _) = behind.split_first_chunk()?;
    let client = SocketAddr::new((*source).into(), u16::from_be_bytes([high, low]));
    let server = SocketAddr::new((*destination).into(), u16::from_be_bytes([server_high, server_low]));
    Some(Addresses::new(client, server))
}

pub(crate) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const WORD: &[u8] = b"PROXY ";
pub(crate) const LOCAL: u8 = 0x20;
pub(crate) const PROXY: u8 = 0x21;
pub(crate) const TCP4: u8 = 0x11;
pub(crate) const TCP6: u8 = 0x21;

/// The longest line of version 1, by its specification.
const LINE: usize = 107;

/// The longest header of version 2 that is read: addresses, and TLVs as large as a client's certificate.
pub const MOST: usize = 4096;

/// Bytes that are looked at in one go; a usual header is there whole.
const CHUNK: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, block].concat()
    }

    fn block4(tlvs: &[u8]) -> Vec<u8> {
        [&[192, 0, 2, 7, 198, 51, 100, 1, 0xc8, 0x22, 0x01, 0xbb], tlvs].concat()
    }

    fn client(bytes: &[u8]) -> Option<(String, usize)> {
        match parse(bytes).unwrap()? {
            (Passed::Client(addresses), length) => Some((addresses.client.to_string(), length)),
            (Passed::Own, _) => panic!("{bytes:?} is the proxy's own"),
        }
    }

    #[test]
    fn a_client_is_named_by_its_source_and_what_follows_is_left_alone() {
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(client(line), Some(("192.0.2.7:51234".into(), 45)));
        let line = b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n\x16\x03\x01";
        assert_eq!(client(line), Some(("[2001:db8::7]:51234".into(), 46)));
        let mapped = b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n";
        assert_eq!(client(mapped).unwrap().0, "192.0.2.7:1");
        let header = [v2(PROXY, TCP4, &block4(b"\x03\x00\x04abcd")), b"\x16\x03\x01".to_vec()].concat();
        assert_eq!(client(&header), Some(("192.0.2.7:51234".into(), 16 + 12 + 7)));
        let block = [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 11], &[7], &[0; 16], &[0, 80, 1, 187]].concat();
        assert_eq!(client(&v2(PROXY, TCP6, &block)).unwrap().0, "[2001:db8::7]:80");
    }

    #[test]
    fn the_local_command_is_the_proxys_own_whatever_it_carries() {
        for (family, block) in [(0, Vec::new()), (TCP4, block4(b"")), (0x31, vec![0; 216])] {
            let header = v2(LOCAL, family, &block);
            assert_eq!(parse(&header).unwrap(), Some((Passed::Own, header.len())));
        }
    }

    #[test]
    fn a_header_without_a_client_does_not_count() {
        let unix = vec![0; 216];
        let headers = [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
            v2(PROXY, 0x00, b""),
            v2(PROXY, 0x12, &block4(b"")),
            v2(PROXY, 0x31, &unix),
        ];
        for header in headers {
            assert!(matches!(parse(&header), Err(ProxyHeaderError::Nameless)), "{header:?}");
        }
    }

    #[test]
    fn what_differs_from_the_grammar_is_refused_as_soon_as_it_is_seen() {
        for text in [
            "G",
            "PROXY\tTCP4",
            "PROXYTCP4",
            "proxy TCP4",
            "PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 51234\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 51234 443 \r\n",
            "PROXY TCP4 192.0.2.7  198.51.100.1 51234 443\r\n",
            "PROXY TCP4 192.0.2.07 198.51.100.1 51234 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1234 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
            "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
            "PROXY \r\n",
            "\r\n\r\n\0\r\nQUIT\r",
        ] {
            assert!(matches!(parse(text.as_bytes()), Err(ProxyHeaderError::Malformed)), "{text:?}");
        }
        let endless = format!("PROXY TCP4 {}", "1".repeat(LINE));
        assert!(matches!(parse(endless.as_bytes()), Err(ProxyHeaderError::Malformed)));
        for header in [
            v2(0x22, TCP4, &block4(b"")),
            v2(0x11, TCP4, &block4(b"")),
            v2(PROXY, 0x13, &block4(b"")),
            v2(PROXY, TCP4, &[0; 11]),
            v2(PROXY, TCP6, &[0; 35]),
        ] {
            assert!(matches!(parse(&header), Err(ProxyHeaderError::Malformed)), "{header:?}");
        }
        let long = [SIGNATURE, &[PROXY, TCP4, 0xff, 0xff]].concat();
        assert!(matches!(parse(&long), Err(ProxyHeaderError::TooLong)));
    }

    proptest! {
        /// What a header says does not depend on the pieces it comes in, and a piece of one is never another one.
        #[test]
        fn a_piece_of_a_header_is_no_header(
            source: [u8; 4], port: u16, tlvs in proptest::collection::vec(any::<u8>(), 0..40), behind: Vec<u8>, is_line: bool,
        ) {
            let address = Ipv4Addr::from(source);
            let header = if is_line {
                format!("PROXY TCP4 {address} 198.51.100.1 {port} 443\r\n").into_bytes()
            } else {
                let ports = [port.to_be_bytes(), 443_u16.to_be_bytes()].concat();
                v2(PROXY, TCP4, &[source.as_slice(), &[198, 51, 100, 1], &ports, &tlvs].concat())
            };
            for end in 0..header.len() {
                prop_assert!(parse(&header[..end]).unwrap().is_none());
            }
            let (passed, length) = parse(&[header.as_slice(), &behind].concat()).unwrap().unwrap();
            prop_assert_eq!(length, header.len());
            let server = SocketAddr::from(([198, 51, 100, 1], 443));
            prop_assert_eq!(passed, Passed::Client(Addresses::new(SocketAddr::new(address.into(), port), server)));
        }

        /// Whatever comes: no panic, and what is taken is bounded.
        #[test]
        fn any_bytes_are_judged_within_bounds(
            start in proptest::sample::select(vec![&b""[..], SIGNATURE, WORD, b"PROXY TCP4 ", b"PROXY TCP6 "]),
            rest in proptest::collection::vec(any::<u8>(), 0..6000),
        ) {
            let bytes = [start, &rest].concat();
            match parse(&bytes) {
                Ok(Some((_, length))) => prop_assert!(length <= MOST && length <= bytes.len()),
                Ok(None) => prop_assert!(bytes.len() < MOST),
                Err(_) => {}
            }
        }
    }
}
