//! Connecting to upstreams over TLS.
//!
//! Passes: a server whose chain the named trust entries (or the system's authorities) vouch for and that is the expected
//! one: by DNS name or IP address, or by SPIFFE id. There is no switch that turns this off. Refused: everything else, also
//! an upstream to which a certificate should be presented while there is none, or whose trust is empty.
//!
//! A change of trust or of the presented certificate makes a new configuration with a session store of its own: new
//! connections use the new material, and [`ClientTls::generation`] tells the pool to let go of the old ones.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use identity::SpiffeId;
use identity::certificate::{ServerIdentity, vet_server};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier as SystemVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webpki::EndEntityCert;

use crate::failure::Failure;
use crate::peer::{self, PeerError};
use crate::provider::provider;
use crate::slot::next_generation;
use crate::trust::Trust;
use crate::x509::{from_unix, unix};
use crate::{Alpn, Credentials, SpecError, Trusts, Version};

/// How an upstream is reached over TLS.
#[derive(Clone, Debug)]
pub struct ClientSpec {
    /// The name to send (SNI), and to verify unless `expect` says otherwise: a DNS name, or an IP address (not sent).
    pub server_name: String,
    /// Whom the server must prove to be, if not `server_name`.
    pub expect: Option<Expect>,
    /// Who may vouch for it.
    pub trust: UpstreamTrust,
    /// The certificate that we present when asked.
    pub present: Option<Credentials>,
    /// The lowest version that is spoken.
    pub min_version: Version,
    /// Offered protocols, the preferred one first.
    pub alpn: Vec<Alpn>,
}

/// Whom a server must prove to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expect {
    /// A DNS name or IP address of its certificate.
    Name(String),
    /// The SPIFFE id of its certificate; its DNS names do not matter.
    Spiffe(SpiffeId),
}

/// Who may vouch for an upstream.
#[derive(Clone, Debug)]
pub enum UpstreamTrust {
    /// The operating system's authorities.
    System,
    /// These trust entries, the first that fits.
    Trusts(Vec<Trusts>),
}

/// The TLS side of an upstream, shared by all cores.
#[derive(Debug)]
pub struct ClientTls {
    server_name: ServerName<'static>,
    authorities: Authorities,
    expected: Arc<Expected>,
    present: Option<Credentials>,
    min_version: Version,
    alpn: Vec<Alpn>,
    current: ArcSwap<Current>,
    /// Held while `current` is made anew, so that all cores share one session store.
    renewal: Mutex<()>,
}

/// Why an upstream was not reached over TLS.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server did not prove to be the expected one.
    #[error("the server was refused: {0}")]
    Peer(#[from] PeerError),
    /// A certificate is to be presented and there is none.
    #[error("there is no certificate to present")]
    NoCredential,
    /// The server ended the handshake with an alert.
    #[error("the server ended the handshake: {0}")]
    Alert(String),
    /// The server did not speak TLS as we do.
    #[error("the handshake broke the protocol: {0}")]
    Protocol(String),
    /// The socket failed or was closed.
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

impl ConnectError {
    /// The label of metrics and log lines: one of a closed set.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Peer(error) => error.code(),
            Self::NoCredential => "no_credential",
            Self::Alert(_) => "alert",
            Self::Protocol(_) => "protocol",
            Self::Io(_) => "io",
        }
    }
}

impl ClientTls {
    /// Compiles an upstream's TLS.
    ///
    /// # Errors
    /// Names that are none, no trust entry, or a system without authorities.
    pub fn new(spec: &ClientSpec) -> Result<Self, SpecError> {
        let expected = match &spec.expect {
            None => Expected::name(&spec.server_name)?,
            Some(Expect::Name(name)) => Expected::name(name)?,
            Some(Expect::Spiffe(id)) => Expected { name: None, identity: ServerIdentity::Spiffe(id.clone()) },
        };
        let authorities = match &spec.trust {
            UpstreamTrust::Trusts(trusts) if trusts.is_empty() => return Err(SpecError::NoTrust),
            UpstreamTrust::Trusts(trusts) => Authorities::Slots(trusts.clone()),
            UpstreamTrust::System if expected.name.is_none() => return Err(SpecError::SystemTrust),
            UpstreamTrust::System => SystemVerifier::new(provider())
                .map(|verifier| Authorities::System(Arc::new(verifier)))
                .map_err(|error| SpecError::SystemStore(error.to_string()))?,
        };
        let mut tls = Self {
            server_name: server_name(&spec.server_name)?,
            authorities,
            expected: Arc::new(expected),
            present: spec.present.clone(),
            min_version: spec.min_version,
            alpn: spec.alpn.clone(),
            current: ArcSwap::from_pointee(Current { id: 0, stamp: None, ready: Err(Unready::NoTrust) }),
            renewal: Mutex::new(()),
        };
        let current = tls.renewed().map_err(|error| SpecError::Provider(error.to_string()))?;
        tls.current = ArcSwap::from_pointee(current);
        Ok(tls)
    }

    /// A number that changes with every change of the trust or of the certificate that new connections use: part of a
    /// pool's key.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current().map_or(0, |current| current.id)
    }

    /// Takes one connection through its handshake. The caller puts a deadline around it.
    ///
    /// # Errors
    /// The handshake failed or the server is not the expected one.
    pub async fn connect<IO>(&self, io: IO, now: SystemTime) -> Result<TlsStream<IO>, ConnectError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let current = self.current().map_err(|error| ConnectError::Protocol(error.to_string()))?;
        let ready = match &current.ready {
            Ok(ready) => ready,
            Err(Unready::NoTrust) => return Err(PeerError::NoTrust.into()),
            Err(Unready::NoCredential) => return Err(ConnectError::NoCredential),
        };
        let connector = TlsConnector::from(Arc::clone(&ready.config));
        let stream = connector.connect(self.server_name.clone(), io).await?;
        let connection = stream.get_ref().1;
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            // A resumption asked no verifier: the chain that rustls remembers may have ended meanwhile.
            ready.verifier.judge(connection.peer_certificates().unwrap_or_default(), now)?;
        }
        Ok(stream)
    }

    /// What holds now; made anew if a slot has changed.
    fn current(&self) -> Result<Arc<Current>, Error> {
        let current = self.current.load();
        if current.stamp == Some(self.stamp()) {
            return Ok(Arc::clone(&current));
        }
        let _held = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        if current.stamp == Some(self.stamp()) {
            return Ok(current);
        }
        let renewed = Arc::new(self.renewed()?);
        self.current.store(Arc::clone(&renewed));
        Ok(renewed)
    }

    /// Sum of the generations of all slots.
    fn stamp(&self) -> u64 {
        self.authorities.slots().iter().map(crate::Slot::generation).sum::<u64>()
            + self.present.as_ref().map_or(0, crate::Slot::generation)
    }

    fn renewed(&self) -> Result<Current, Error> {
        // Value and generation of each slot come from one load: a publication in between is seen next time.
        let trusts: Vec<_> = self.authorities.slots().iter().map(crate::Slot::published).collect();
        let present = self.present.as_ref().map(crate::Slot::published);
        let stamp = trusts.iter().map(|slot| slot.generation).sum::<u64>()
            + present.as_ref().map_or(0, |slot| slot.generation);
        let unready = |why| Ok(Current { id: next_generation(), stamp: Some(stamp), ready: Err(why) });
        let judges = match &self.authorities {
            Authorities::System(verifier) => Judges::System(Arc::clone(verifier)),
            Authorities::Slots(_) => {
                Judges::Trusts(trusts.iter().filter_map(|slot| slot.value.clone()).collect())
            }
        };
        if matches!(&judges, Judges::Trusts(trusts) if trusts.is_empty()) {
            return unready(Unready::NoTrust);
        }
        let verifier = Arc::new(ServerVerifier { judges, expected: Arc::clone(&self.expected) });
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min_version.and_above())?
            .dangerous() // rustls's word for a verifier of one's own: ours is webpki with CRLs and identity checks.
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
        let mut config = match present.map(|slot| slot.value.clone()) {
            None => builder.with_no_client_auth(),
            Some(Some(credential)) => {
                let certified = SingleCertAndKey::from(Arc::clone(credential.certified_key()));
                builder.with_client_cert_resolver(Arc::new(certified))
            }
            Some(None) => return unready(Unready::NoCredential),
        };
        config.alpn_protocols =
            self.alpn.iter().filter_map(|protocol| protocol.wire()).map(<[u8]>::to_vec).collect();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let ready = Ready { config: Arc::new(config), verifier };
        Ok(Current { id: next_generation(), stamp: Some(stamp), ready: Ok(ready) })
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match Failure::of(error) {
            Failure::Peer(error) => Self::Peer(error),
            Failure::Alert(text) => Self::Alert(text),
            Failure::Protocol(text) => Self::Protocol(text),
            Failure::Io(error) => Self::Io(error),
        }
    }
}

/// Where trust comes from.
#[derive(Debug)]
enum Authorities {
    System(Arc<SystemVerifier>),
    Slots(Vec<Trusts>),
}

impl Authorities {
    fn slots(&self) -> &[Trusts] {
        match self {
            Self::System(_) => &[],
            Self::Slots(slots) => slots,
        }
    }
}

/// What holds for one generation of all slots.
#[derive(Debug)]
struct Current {
    id: u64,
    stamp: Option<u64>,
    ready: Result<Ready, Unready>,
}

#[derive(Debug)]
struct Ready {
    config: Arc<ClientConfig>,
    verifier: Arc<ServerVerifier>,
}

#[derive(Clone, Copy, Debug)]
enum Unready {
    NoTrust,
    NoCredential,
}

/// The name or the id that the certificate must carry.
#[derive(Debug)]
struct Expected {
    /// Compared by webpki; nothing where a SPIFFE id is expected.
    name: Option<ServerName<'static>>,
    identity: ServerIdentity,
}

impl Expected {
    fn name(name: &str) -> Result<Self, SpecError> {
        Ok(Self { name: Some(server_name(name)?), identity: ServerIdentity::Dns(name.to_owned()) })
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, SpecError> {
    ServerName::try_from(name.to_owned()).map_err(|_| SpecError::ServerName(name.to_owned()))
}

/// Judges servers by trust, CRLs, and the expected name or id, whatever name rustls asks about.
struct ServerVerifier {
    judges: Judges,
    expected: Arc<Expected>,
}

enum Judges {
    System(Arc<SystemVerifier>),
    Trusts(Vec<Arc<Trust>>),
}

impl ServerVerifier {
    fn judge(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), PeerError> {
        let (leaf, intermediates) = chain.split_first().ok_or(PeerError::NoCertificate)?;
        match &self.judges {
            Judges::System(verifier) => {
                let name = self.expected.name.as_ref().ok_or(PeerError::WrongName)?;
                verifier
                    .verify_server_cert(leaf, intermediates, name, &[], unix(now))
                    .map_err(|error| peer::from_rustls(&error))?;
                vet_server(leaf, &self.expected.identity, now)?;
            }
            Judges::Trusts(trusts) => {
                self.first_that_fits(trusts, chain, now)?;
                if let Some(name) = &self.expected.name {
                    EndEntityCert::try_from(leaf)?.verify_is_valid_for_subject_name(name)?;
                }
            }
        }
        Ok(())
    }

    fn first_that_fits(
        &self,
        trusts: &[Arc<Trust>],
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<(), PeerError> {
        let mut refusal = PeerError::Untrusted;
        for trust in trusts {
            match trust.verify_server(chain, &self.expected.identity, now) {
                Ok(()) => return Ok(()),
                // The entry that knows the issuer has the better reason.
                Err(PeerError::Untrusted) => {}
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        self.judge(&chain, from_unix(now))?;
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

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verifier of {:?}", self.expected.identity)
    }
}

/// Sessions that an upstream's configuration remembers, over all cores.
const SESSIONS: usize = 64;
