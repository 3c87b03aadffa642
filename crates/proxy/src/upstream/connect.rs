//! New connections to an endpoint. Of those that several requests can share one is made at a time; whoever needs one meanwhile
//! waits for it.

use std::rc::Rc;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tls::{Alpn, ClientTls, HandshakeError, PeerError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::http2::Shared;
use super::pool::{Sender, Turn};
use super::{Endpoint, Protocol, ProxyHeader, Upstream};
use crate::addresses::Addresses;
use crate::body::RequestBody;
use crate::connection::Socket;
use crate::core::Core;
use crate::refusal::Refusal;

/// A fresh connection, or a stream of one that somebody else made meanwhile.
///
/// # Errors
/// The endpoint can't be reached, does not prove who it is, or does not agree on the protocol, within the connect timeout.
pub(super) async fn connect(
    core: &Rc<Core>,
    upstream: &Upstream,
    endpoint: &Endpoint,
    material: u64,
    addresses: Addresses,
) -> Result<Sender, Refusal> {
    let announced = upstream.protocol.announces(addresses);
    if !upstream.protocol.is_shared() {
        return open(core, upstream, endpoint, material, announced).await;
    }
    let deadline = Instant::now() + upstream.timeouts.to_connect();
    let refusal = || Refusal::UpstreamConnect(upstream.name.to_string());
    loop {
        let turn = core.pools.borrow_mut().turn(core, endpoint.pool.number());
        match turn {
            Turn::Alone => return open(core, upstream, endpoint, material, None).await,
            Turn::Mine(opener) => {
                let opened = open(core, upstream, endpoint, material, None).await;
                opener.opening.failed.set(opened.is_err());
                return opened;
            }
            Turn::Theirs(opening) => {
                timeout_at(deadline, opening.ended()).await.map_err(|_| refusal())?;
                if opening.failed.get() {
                    return Err(refusal());
                }
                if let Some(sender) =
                    core.pools
                        .borrow_mut()
                        .take(&endpoint.pool, material, None, true, || upstream.material(endpoint))
                {
                    return Ok(sender);
                }
            }
        }
    }
}

async fn open(
    core: &Rc<Core>,
    upstream: &Upstream,
    endpoint: &Endpoint,
    material: u64,
    announced: Option<(ProxyHeader, Addresses)>,
) -> Result<Sender, Refusal> {
    let connected = timeout(upstream.timeouts.to_connect(), async {
        let stream = match endpoint.addresses.as_slice() {
            [] => TcpStream::connect((&*endpoint.host, endpoint.port)).await,
            addresses => TcpStream::connect(addresses).await,
        };
        let mut stream = stream.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        if let Some((header, addresses)) = announced {
            stream.write_all(&header.of(addresses)).await.map_err(refused)?;
        }
        match &endpoint.tls {
            Some(tls) => {
                let stream = tls.connect(Socket(stream), core.now()).await?;
                match (upstream.protocol, ClientTls::agreed(&stream)) {
                    (Protocol::Http2 | Protocol::Negotiate, Alpn::Http2) => http2(core, stream).await,
                    (Protocol::Http2, _) => Err(Failure::NoHttp2("it does not agree on HTTP/2".to_owned())),
                    (Protocol::Http1 | Protocol::Announced(_) | Protocol::Negotiate, _) => {
                        http1(core, stream).await
                    }
                }
            }
            None if upstream.protocol == Protocol::Http2 => http2(core, stream).await,
            None => http1(core, stream).await,
        }
    })
    .await;
    let (result, cause) = match connected {
        Ok(Ok(Fresh::Http1(sender))) => {
            upstream.series.connected(core.id.index(), "ok");
            return Ok(Sender::Http1(sender));
        }
        Ok(Ok(Fresh::Http2(shared))) => {
            upstream.series.connected(core.id.index(), "ok");
            let first =
                core.pools.borrow_mut().share(endpoint.pool.number(), material, &shared, upstream.idle);
            match first {
                Some(stream) => return Ok(Sender::Http2(stream)),
                None => ("no_http2", "it allows no streams".to_owned()),
            }
        }
        Ok(Err(Failure::NoHttp2(cause))) => ("no_http2", cause),
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
    /// It speaks another protocol than it should.
    NoHttp2(String),
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

/// A connection that had no request yet.
enum Fresh {
    Http1(SendRequest<RequestBody>),
    Http2(Rc<Shared>),
}

async fn http2<IO>(core: &Rc<Core>, io: IO) -> Result<Fresh, Failure>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    Shared::open(core, io).await.map(Fresh::Http2).map_err(Failure::NoHttp2)
}

async fn http1<IO>(core: &Rc<Core>, io: IO) -> Result<Fresh, Failure>
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
    Ok(Fresh::Http1(sender))
}

/// An upstream is trusted less than the operator: its heads are bounded too. So is what is read of a body at once, which a
/// client may then take its time to take.
const MAX_RESPONSE_FIELDS: usize = 200;
pub(super) const MAX_RESPONSE_HEAD: usize = 32 * 1024;
