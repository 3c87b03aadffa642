//! New connections to an endpoint. Of those that several requests can share one is made at a time; whoever needs one meanwhile
//! waits for it.

use std::cell::RefCell;
use std::rc::Rc;

use tls::{Alpn, ClientTls, HandshakeError, PeerError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::http1::{Http1, Transport};
use super::http2::Shared;
use super::pool::{Sender, Turn};
use super::{Endpoint, Protocol, ProxyHeader, Upstream};
use crate::addresses::Addresses;
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
                        Ok(Fresh::Http1(Http1::new(Transport::Tls(Box::new(stream)))))
                    }
                }
            }
            None if upstream.protocol == Protocol::Http2 => http2(core, stream).await,
            None => Ok(Fresh::Http1(Http1::new(Transport::Plain(stream)))),
        }
    })
    .await;
    let (result, cause) = match connected {
        Ok(Ok(Fresh::Http1(connection))) => {
            upstream.series.connected(core.id.index(), "ok");
            return Ok(Sender::Http1(connection));
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
    Http1(Rc<RefCell<Http1>>),
    Http2(Rc<Shared>),
}

async fn http2<IO>(core: &Rc<Core>, io: IO) -> Result<Fresh, Failure>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    Shared::open(core, io).await.map(Fresh::Http2).map_err(Failure::NoHttp2)
}
