//! Connecting to upstreams over TLS.
//!
//! Passes: a server whose chain the named trust entries (or the system's authorities) vouch for and that is the expected
//! one: by DNS name or IP address, or by SPIFFE id. There is no switch that turns this off. Refused: everything else, also
//! an upstream to which a certificate should be presented while there is none, or whose trust is empty.
//!
//! A change of trust or of the presented certificate makes a new configuration with a session store of its own: new
//! connections use the new material, and [`ClientTls::generation`] tells the pool to let go of the old ones.

mod verifier;

use std::sync::Arc;
use std::time::SystemTime;

use identity::SpiffeId;
use identity::certificate::ServerIdentity;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, Error, HandshakeKind};
use rustls_pki_types::ServerName;
use rustls_platform_verifier::Verifier as SystemVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use verifier::{Expected, Judges, ServerVerifier};

use crate::failure::HandshakeError;
use crate::peer::PeerError;
use crate::provider::provider;
use crate::slot::{Derived, next_generation};
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
    material: Material,
    current: Derived<Current>,
}

impl ClientTls {
    /// Compiles an upstream's TLS.
    ///
    /// # Errors
    /// Names that are none, no trust entry, or a system without authorities.
    pub fn new(spec: &ClientSpec) -> Result<Self, SpecError> {
        let material = Material::new(spec)?;
        let current = material.build().map_err(|error| SpecError::Provider(error.to_string()))?;
        Ok(Self { server_name: server_name(&spec.server_name)?, material, current: Derived::new(current) })
    }

    /// A number that changes with every change of the trust or of the certificate that new connections use: part of a
    /// pool's key.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.read(|current| current.id).unwrap_or_default()
    }

    /// Takes one connection through its handshake. The caller puts a deadline around it.
    ///
    /// # Errors
    /// The handshake failed or the server is not the expected one.
    pub async fn connect<IO>(&self, io: IO, now: SystemTime) -> Result<TlsStream<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let current = self.read(Arc::clone)?;
        let ready = current.ready()?;
        let connector = TlsConnector::from(Arc::clone(&ready.config));
        let stream = connector.connect(self.server_name.clone(), io).await?;
        let connection = stream.get_ref().1;
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            // A resumption asked no verifier: the chain that rustls remembers may have ended meanwhile.
            ready.verifier.judge(connection.peer_certificates().unwrap_or_default(), now)?;
        }
        Ok(stream)
    }

    /// What a connection agreed to speak.
    #[must_use]
    pub fn agreed<IO>(stream: &TlsStream<IO>) -> Alpn {
        Alpn::negotiated(stream.get_ref().1.alpn_protocol())
    }

    /// What holds now, for a client library that makes its own connections (the one that speaks to Vault): valid for
    /// one [`ClientTls::generation`], without resumption, so that every connection is judged.
    ///
    /// # Errors
    /// There is nothing to trust, or nothing to show.
    pub fn client_config(&self) -> Result<ClientConfig, HandshakeError> {
        let current = self.read(Arc::clone)?;
        let mut config = ClientConfig::clone(&current.ready()?.config);
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Reads what holds now; made anew if a slot has changed.
    fn read<R>(&self, read: impl FnOnce(&Arc<Current>) -> R) -> Result<R, Error> {
        self.current.read(|current| current.stamp == self.material.stamp(), || self.material.build(), read)
    }
}

/// What configurations are made from.
#[derive(Debug)]
struct Material {
    authorities: Authorities,
    expected: Arc<Expected>,
    present: Option<Credentials>,
    min_version: Version,
    alpn: Vec<Alpn>,
}

/// Where trust comes from.
#[derive(Debug)]
enum Authorities {
    System(Arc<SystemVerifier>),
    Slots(Vec<Trusts>),
}

/// What holds for one generation of all slots.
#[derive(Debug)]
struct Current {
    id: u64,
    /// Sum of the slots' generations.
    stamp: u64,
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

impl Current {
    fn ready(&self) -> Result<&Ready, HandshakeError> {
        self.ready.as_ref().map_err(|unready| match unready {
            Unready::NoTrust => PeerError::NoTrust.into(),
            Unready::NoCredential => HandshakeError::NoCredential,
        })
    }
}

impl Material {
    fn new(spec: &ClientSpec) -> Result<Self, SpecError> {
        let by_name = |name: &str| -> Result<Expected, SpecError> {
            Ok(Expected { name: Some(server_name(name)?), identity: ServerIdentity::Dns(name.to_owned()) })
        };
        let expected = match &spec.expect {
            None => by_name(&spec.server_name)?,
            Some(Expect::Name(name)) => by_name(name)?,
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
        Ok(Self {
            authorities,
            expected: Arc::new(expected),
            present: spec.present.clone(),
            min_version: spec.min_version,
            alpn: spec.alpn.clone(),
        })
    }

    /// Sum of the generations of all slots.
    fn stamp(&self) -> u64 {
        self.authorities.slots().iter().map(crate::Slot::generation).sum::<u64>()
            + self.present.as_ref().map_or(0, crate::Slot::generation)
    }

    fn build(&self) -> Result<Current, Error> {
        // Value and generation of each slot come from one load: a publication in between is seen next time.
        let trusts: Vec<_> = self.authorities.slots().iter().map(crate::Slot::published).collect();
        let present = self.present.as_ref().map(crate::Slot::published);
        let stamp = trusts.iter().map(|slot| slot.generation).sum::<u64>()
            + present.as_ref().map_or(0, |slot| slot.generation);
        let current = |ready| Ok(Current { id: next_generation(), stamp, ready });
        let judges = match &self.authorities {
            Authorities::System(verifier) => Judges::System(Arc::clone(verifier)),
            Authorities::Slots(_) => {
                Judges::Trusts(trusts.iter().filter_map(|slot| slot.value.clone()).collect())
            }
        };
        if matches!(&judges, Judges::Trusts(trusts) if trusts.is_empty()) {
            return current(Err(Unready::NoTrust));
        }
        let verifier = Arc::new(ServerVerifier { judges, expected: Arc::clone(&self.expected) });
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min_version.and_above())?
            .dangerous() // rustls's word for a verifier of one's own: ours is webpki with CRLs and identity checks.
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
        let mut config = match present.map(|slot| slot.value.clone()) {
            None => builder.with_no_client_auth(),
            Some(None) => return current(Err(Unready::NoCredential)),
            Some(Some(credential)) => {
                let certified = SingleCertAndKey::from(Arc::clone(credential.certified_key()));
                builder.with_client_cert_resolver(Arc::new(certified))
            }
        };
        config.alpn_protocols = Alpn::wire_list(&self.alpn);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        current(Ok(Ready { config: Arc::new(config), verifier }))
    }
}

impl Authorities {
    fn slots(&self) -> &[Trusts] {
        match self {
            Self::System(_) => &[],
            Self::Slots(slots) => slots,
        }
    }
}

/// The TLS failure somewhere inside of another library's error; none if it is of another kind.
#[must_use]
pub fn handshake_failure(error: &(dyn std::error::Error + 'static)) -> Option<HandshakeError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found.clone().into());
        }
        // An I/O error leaves itself out of the chain: what it wraps is asked for.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn server_name(name: &str) -> Result<ServerName<'static>, SpecError> {
    ServerName::try_from(name.to_owned()).map_err(|_| SpecError::ServerName(name.to_owned()))
}

/// Sessions that an upstream's configuration remembers, over all cores.
const SESSIONS: usize = 64;
