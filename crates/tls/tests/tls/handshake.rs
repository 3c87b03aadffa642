//! Both ends of a handshake over a pipe.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use identity::certificate::NameForm;
use rustls::client::ClientSessionMemoryCache;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tls::{
    Alpn, ClientAuth, Credential, Credentials, Handshake, HandshakeError, HostSpec, ServerSpec, ServerTls,
    SlotWriter, StaleCrl, Trust, TrustOptions, Trusts, Version, WithoutSni, provider,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio_rustls::TlsConnector;

use crate::authority::{Authority, Issued, Leaf};

/// What came of a handshake on both sides.
pub(crate) struct Outcome {
    pub(crate) server: Result<Handshake, HandshakeError>,
    /// The leaf that the server showed, if the client could read a byte over the connection.
    pub(crate) shown: Option<CertificateDer<'static>>,
}

impl Outcome {
    pub(crate) fn code(&self) -> &'static str {
        self.server.as_ref().map_or_else(HandshakeError::code, |_| "accepted")
    }

    pub(crate) fn handshake(self) -> Handshake {
        self.server.unwrap_or_else(|error| panic!("refused: {error}"))
    }
}

/// A client with one session store for all names: the worst case for the server.
pub(crate) fn client(
    certificate: Option<&Issued>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    client_with(provider(), certificate, version)
}

/// The same, with suites and groups of its own choice.
pub(crate) fn client_with(
    provider: Arc<CryptoProvider>,
    certificate: Option<&Issued>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            builder.with_client_auth_cert(issued.ders.clone(), issued.key_der.clone_key()).unwrap()
        }
    };
    config.resumption =
        rustls::client::Resumption::store(Arc::new(OneDrawer(ClientSessionMemoryCache::new(8))));
    config
}

pub(crate) async fn shake(tls: &ServerTls, config: &ClientConfig, name: &str) -> Outcome {
    shake_at(tls, config, name, SystemTime::now()).await
}

pub(crate) async fn shake_at(tls: &ServerTls, config: &ClientConfig, name: &str, now: SystemTime) -> Outcome {
    shake_in_pieces(tls, config, name, now, usize::MAX).await
}

/// `piece`: how many bytes of the ClientHello stand in one TLS record.
pub(crate) async fn shake_in_pieces(
    tls: &ServerTls,
    config: &ClientConfig,
    name: &str,
    now: SystemTime,
    piece: usize,
) -> Outcome {
    let (near, far) = duplex(64 * 1024);
    let near = Pieces { io: near, piece: Some(piece) };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let serve = async {
        let mut accepted = tls.accept(far, now).await?;
        // The client reads this after the ticket.
        accepted.stream.write_all(b"x").await.map_err(HandshakeError::Io)?;
        accepted.stream.shutdown().await.map_err(HandshakeError::Io)?;
        Ok(accepted.handshake)
    };
    let ask = async {
        let mut stream = TlsConnector::from(Arc::new(config.clone())).connect(name, near).await.ok()?;
        stream.read_u8().await.ok()?;
        Some(stream.get_ref().1.peer_certificates()?.first()?.clone().into_owned())
    };
    let (server, shown) = tokio::join!(serve, ask);
    Outcome { server, shown }
}

/// Cuts the first record that is written, a ClientHello, into records of a few bytes each (RFC 8446 section 5.1).
struct Pieces {
    io: DuplexStream,
    piece: Option<usize>,
}

impl AsyncWrite for Pieces {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(piece) = self.piece.take() else { return Pin::new(&mut self.io).poll_write(cx, buf) };
        let (header, message) = buf.split_at(5);
        assert_eq!(usize::from(u16::from_be_bytes([header[3], header[4]])), message.len());
        let records: Vec<u8> = message
            .chunks(piece)
            .flat_map(|part| {
                let length = u16::try_from(part.len()).unwrap().to_be_bytes();
                [&header[..3], &length, part].concat()
            })
            .collect();
        // The pipe is empty and holds them all.
        assert!(Pin::new(&mut self.io).poll_write(cx, &records).is_ready());
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

pub(crate) fn trust_named(
    name: &str,
    authorities: &[&Authority],
    crls: &[Vec<u8>],
    when_stale: StaleCrl,
) -> Trust {
    let ca: String = authorities.iter().map(|one| one.pem()).collect();
    Trust::from_pem(name, ca.as_bytes(), crls, options(when_stale), SystemTime::now()).unwrap()
}

pub(crate) fn options(when_stale: StaleCrl) -> TrustOptions {
    TrustOptions { names: NameForm::Spiffe { trust_domain: "lab.test".to_owned() }, when_stale }
}

/// A slot with the trust `mesh`.
pub(crate) fn mesh(authorities: &[&Authority], crls: &[Vec<u8>]) -> (SlotWriter<Trust>, Trusts) {
    slot(trust_named("mesh", authorities, crls, StaleCrl::Reject))
}

pub(crate) fn slot<T>(value: T) -> (SlotWriter<T>, tls::Slot<T>) {
    let mut writer = SlotWriter::empty();
    writer.publish(Arc::new(value));
    let reader = writer.reader();
    (writer, reader)
}

pub(crate) fn credential(issued: &Issued) -> Credential {
    Credential::from_pem(issued.chain.as_bytes(), issued.key.as_bytes(), SystemTime::now()).unwrap()
}

/// A certificate for these names from an authority that nobody asks about.
pub(crate) fn shown_for(names: &[&str]) -> (Credentials, CertificateDer<'static>) {
    let issued = Authority::root("servers").issue(&Leaf::server(names));
    (slot(credential(&issued)).1, issued.ders[0].clone())
}

pub(crate) fn host(client: ClientAuth) -> HostSpec {
    HostSpec { certificates: vec![shown_for(&["gw.test"]).0], client }
}

pub(crate) fn spec(default: HostSpec) -> ServerSpec {
    ServerSpec {
        default,
        hosts: Vec::new(),
        min_version: Version::Tls12,
        without_sni: WithoutSni::Default,
        alpn: vec![Alpn::Http2, Alpn::Http1],
    }
}

pub(crate) fn listener(client: ClientAuth) -> ServerTls {
    ServerTls::new(&spec(host(client))).unwrap()
}

/// A client's view: any server will do, its own name for sessions does not matter.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Offers every ticket to every name, as an attacker would.
#[derive(Debug)]
struct OneDrawer(ClientSessionMemoryCache);

impl rustls::client::ClientSessionStore for OneDrawer {
    fn set_kx_hint(&self, _: ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(drawer(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(&drawer())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: rustls::client::Tls12ClientSessionValue) {
        self.0.set_tls12_session(drawer(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.0.tls12_session(&drawer())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&drawer());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: rustls::client::Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(drawer(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&drawer())
    }
}

fn drawer() -> ServerName<'static> {
    ServerName::try_from("drawer.test").unwrap()
}
