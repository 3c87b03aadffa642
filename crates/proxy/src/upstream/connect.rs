//! New connections to an endpoint.

use std::rc::Rc;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tls::{HandshakeError, PeerError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Endpoint, Upstream};
use crate::body::RequestBody;
use crate::connection::Socket;
use crate::core::Core;
use crate::refusal::Refusal;

/// A fresh connection, ready for one request.
///
/// # Errors
/// The endpoint can't be reached, or does not prove who it is, within the connect timeout.
pub(super) async fn connect(
    core: &Rc<Core>,
    upstream: &Upstream,
    endpoint: &Endpoint,
) -> Result<SendRequest<RequestBody>, Refusal> {
    let connected = timeout(upstream.timeouts.connect, async {
        let stream = match endpoint.addresses.as_slice() {
            [] => TcpStream::connect((&*endpoint.host, endpoint.port)).await,
            addresses => TcpStream::connect(addresses).await,
        };
        let stream = stream.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        match &endpoint.tls {
            Some(tls) => handshake(core, tls.connect(Socket(stream), core.now()).await?).await,
            None => handshake(core, stream).await,
        }
    })
    .await;
    let (result, cause) = match connected {
        Ok(Ok(sender)) => {
            upstream.series.connected(core.id.index(), "ok");
            return Ok(sender);
        }
        Ok(Err(Failure::NoMaterial)) => {
            upstream.series.connected(core.id.index(), "no_material");
            return Err(Refusal::CredentialUnavailable { upstream: upstream.name.to_string() });
        }
        Ok(Err(Failure::Refused(cause))) => ("refused", cause),
        Err(_) => ("timeout", "timed out".to_owned()),
    };
    upstream.series.connected(core.id.index(), result);
    tracing::warn!(upstream = %upstream.name, endpoint = %endpoint.name, cause, "cannot connect");
    Err(Refusal::UpstreamConnect(upstream.name.to_string()))
}

/// Why there is no connection.
enum Failure {
    /// The certificate to show, or the trust to judge by, has not come from its store yet.
    NoMaterial,
    /// Everything else, in words.
    Refused(String),
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::NoCredential | HandshakeError::Peer(PeerError::NoTrust) => Self::NoMaterial,
            error => refused(error),
        }
    }
}

fn refused(cause: impl std::fmt::Display) -> Failure {
    Failure::Refused(cause.to_string())
}

async fn handshake<IO>(core: &Rc<Core>, io: IO) -> Result<SendRequest<RequestBody>, Failure>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_headers(MAX_RESPONSE_FIELDS)
        .max_header_size(MAX_RESPONSE_HEAD)
        .max_buf_size(MAX_RESPONSE_HEAD)
        // One `send` of head and body together; see `Socket`.
        .writev(false)
        .handshake(TokioIo::new(io))
        .await
        .map_err(refused)?;
    // How a connection ends is told by the request on it; without one it concerns nobody.
    core.tasks.spawn_local(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

/// An upstream is trusted less than the operator: its heads are bounded too. So is what is read of a body at once, which a
/// client may then take its time to take.
const MAX_RESPONSE_FIELDS: usize = 200;
const MAX_RESPONSE_HEAD: usize = 32 * 1024;
