//! Bytes as they are: a client for requests that no well-behaved client sends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::client::{Protocol, Trust};
use crate::patience;

/// A connection on which a test writes and reads raw bytes.
pub struct Wire(Box<dyn ReadWrite>);

pub(crate) trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

impl Wire {
    /// Connects over plain TCP.
    pub fn plain(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self(Box::new(connect(address)?)))
    }

    /// Connects over TLS with this server name, offering `protocol` by ALPN.
    pub fn tls(address: SocketAddr, trust: &Trust, name: &str, protocol: Protocol) -> std::io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        let session = ClientConnection::new(trust.offering(protocol), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(session, connect(address)?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(Box::new(stream)))
    }

    pub(crate) fn into_inner(self) -> Box<dyn ReadWrite> {
        self.0
    }

    /// Writes all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// Reads until what arrived contains `mark`, or the peer closes.
    pub fn read_until(&mut self, mark: &str) -> std::io::Result<String> {
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&all).contains(mark) {
            let count = self.0.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..count]);
        }
        Ok(String::from_utf8_lossy(&all).into_owned())
    }

    /// The next bytes; none when the peer has closed.
    pub fn read_some(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        let count = self.0.read(&mut buffer).ok().filter(|count| *count > 0)?;
        Some(buffer[..count].to_vec())
    }

    /// Reads until the peer closes; a reset counts as a close.
    pub fn read_to_close(&mut self) -> String {
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = self.0.read(&mut buffer) {
            all.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&all).into_owned()
    }
}

/// Sends `bytes` on a plain connection of their own and reads until the peer closes.
/// A valid request among them should say `Connection: close`.
#[must_use]
pub fn exchange(address: SocketAddr, bytes: &str) -> String {
    let Ok(mut wire) = Wire::plain(address) else { return String::new() };
    if wire.send(bytes.as_bytes()).is_err() {
        return wire.read_to_close();
    }
    wire.read_to_close()
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience()))?;
    Ok(stream)
}
