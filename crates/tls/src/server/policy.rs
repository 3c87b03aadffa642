//! One TLS policy: its rustls configuration for the trust of this moment, and the judgement of clients by it.
//!
//! INVARIANT: a configuration, its verifier and its ticketer live exactly as long as the generation of the trust entries
//! that they were made from. A change of trust or CRL makes all three anew at the next handshake, so that no ticket
//! from before it opens: rustls would resume it with the certificates it saw then, and ask no verifier.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DistinguishedName, Error, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::hosts::{canonical, parent};
use super::spec::{ClientAuth, HostSpec, SpecError};
use crate::peer::PeerError;
use crate::provider::{handshake_signatures, provider, ticketer};
use crate::slot::{Derived, next_generation};
use crate::trust::{Judged, Trust, first_that_fits};
use crate::x509::{from_unix, joined};
use crate::{Alpn, Credential, Credentials, Version};

/// One TLS policy of a listener.
#[derive(Debug)]
pub(super) struct Policy {
    client: ClientAuth,
    resolver: Arc<Resolver>,
    min_version: Version,
    alpn: Vec<Alpn>,
    current: Derived<Current>,
}

/// What holds for one generation of the policy's trust.
#[derive(Debug)]
pub(super) struct Current {
    /// Drawn anew whenever this is made: a verdict that carries it needs no second look.
    pub(super) id: u64,
    /// Sum of the trust slots' generations.
    generation: u64,
    pub(super) config: Arc<ServerConfig>,
    pub(super) clients: Clients,
}

/// Whom a policy lets in.
#[derive(Clone, Debug)]
pub(super) enum Clients {
    /// Certificates are not asked for.
    Unasked,
    /// Certificates are asked for, but the trust entries are empty: nobody gets in.
    Closed,
    /// Judged by these, the first that fits.
    Judged { trusts: Arc<[(Arc<Trust>, u64)]>, required: bool },
}

/// A proven client: by which trust entry, of which generation.
pub(super) struct Proven {
    pub(super) judged: Judged,
    pub(super) trust: Arc<str>,
    pub(super) generation: u64,
}

impl Policy {
    pub(super) fn new(spec: &HostSpec, min_version: Version, alpn: &[Alpn]) -> Result<Self, SpecError> {
        if spec.certificates.is_empty() {
            return Err(SpecError::NoCertificate);
        }
        if !matches!(spec.client, ClientAuth::Off) && spec.client.trusts().is_empty() {
            return Err(SpecError::NoTrust);
        }
        let resolver = Arc::new(Resolver(spec.certificates.clone()));
        let current = Current::new(&spec.client, &resolver, min_version, alpn)
            .map_err(|error| SpecError::Provider(error.to_string()))?;
        Ok(Self {
            client: spec.client.clone(),
            resolver,
            min_version,
            alpn: alpn.to_vec(),
            current: Derived::new(current),
        })
    }

    /// What holds now; made anew if a trust slot has changed.
    ///
    /// # Errors
    /// The provider could not make a configuration.
    pub(super) fn current(&self) -> Result<Arc<Current>, Error> {
        self.read(Arc::clone)
    }

    /// Reads what holds now.
    ///
    /// # Errors
    /// The provider could not make a configuration.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Arc<Current>) -> R) -> Result<R, Error> {
        self.current.read(
            |current| current.generation == generation_of(&self.client),
            || Current::new(&self.client, &self.resolver, self.min_version, &self.alpn),
            read,
        )
    }

    pub(super) fn same_rule(&self, other: &Self) -> bool {
        self.client.same_rule(&other.client)
    }

    pub(super) fn demands_certificate(&self) -> bool {
        matches!(self.client, ClientAuth::Required(_))
    }

    /// Whether any certificate can be shown.
    pub(super) fn has_credential(&self) -> bool {
        self.resolver.0.iter().any(|slot| slot.load().is_some())
    }
}

impl Current {
    fn new(
        client: &ClientAuth,
        resolver: &Arc<Resolver>,
        min_version: Version,
        alpn: &[Alpn],
    ) -> Result<Self, Error> {
        // Value and generation of each slot come from one load: a publication in between is seen next time.
        let published: Vec<_> = client.trusts().iter().map(crate::Slot::published).collect();
        let generation = published.iter().map(|slot| slot.generation).sum();
        let trusts: Arc<[_]> = published
            .iter()
            .filter_map(|slot| slot.value.as_ref().map(|trust| (Arc::clone(trust), slot.generation)))
            .collect();
        let clients = match client {
            ClientAuth::Off => Clients::Unasked,
            _ if trusts.is_empty() => Clients::Closed,
            ClientAuth::Optional(_) => Clients::Judged { trusts, required: false },
            ClientAuth::Required(_) => Clients::Judged { trusts, required: true },
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(min_version.and_above())?;
        let builder = match &clients {
            Clients::Unasked => builder.with_no_client_auth(),
            // Closed: its verifier refuses every certificate and every client without one.
            Clients::Closed | Clients::Judged { .. } => {
                builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(clients.clone())))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::clone(resolver) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = Alpn::wire_list(alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ticketer()?;
        config.send_tls13_tickets = TICKETS;
        config.max_early_data_size = 0;
        // The strongest suite that both have, not the one that the client likes best.
        config.ignore_client_order = true;
        Ok(Self { id: next_generation(), generation, config: Arc::new(config), clients })
    }
}

impl Clients {
    /// Judges what a connection showed (nothing or a chain) at `now`.
    pub(super) fn judge(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
        now: SystemTime,
    ) -> Result<Option<Proven>, PeerError> {
        match (self, chain) {
            (Self::Unasked, None) | (Self::Judged { required: false, .. }, None) => Ok(None),
            (Self::Judged { required: true, .. }, None) => Err(PeerError::NoCertificate),
            // Proven under an older rule, and by no trust entry of today's.
            (Self::Unasked, Some(_)) | (Self::Closed, _) => Err(PeerError::NoTrust),
            (Self::Judged { trusts, .. }, Some(chain)) => {
                first_that_fits(trusts.iter(), |(trust, generation)| {
                    let judged = trust.judge_client(chain, now)?;
                    Ok(Proven { judged, trust: Arc::clone(trust.name()), generation: *generation })
                })
                .map(Some)
            }
        }
    }
}

fn generation_of(client: &ClientAuth) -> u64 {
    client.trusts().iter().map(crate::Slot::generation).sum()
}

/// The certificates of a policy, looked up at each handshake, so that a renewal needs no new configuration.
#[derive(Debug)]
struct Resolver(Vec<Credentials>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).map(|credential| Arc::clone(credential.certified_key()))
    }
}

impl Resolver {
    /// The certificate for `name`: exact over wildcard over the first.
    fn choose(&self, name: Option<&str>) -> Option<Arc<Credential>> {
        let Some(name) = name.map(canonical) else { return self.first(|_| true) };
        self.first(|credential| credential.names(&name))
            .or_else(|| {
                let parent = parent(&name)?;
                self.first(|credential| credential.names_wildcard(parent))
            })
            .or_else(|| self.first(|_| true))
    }

    fn first(&self, fits: impl Fn(&Credential) -> bool) -> Option<Arc<Credential>> {
        self.0.iter().filter_map(crate::Slot::load).find(|credential| fits(credential))
    }
}

/// Asks the policy's trust entries during the handshake.
struct ClientVerifier {
    clients: Clients,
    hints: Vec<DistinguishedName>,
}

impl ClientVerifier {
    fn new(clients: Clients) -> Self {
        let hints = match &clients {
            Clients::Judged { trusts, .. } => trusts
                .iter()
                .flat_map(|(trust, _)| trust.subjects())
                .map(|subject| subject.to_vec().into())
                .collect(),
            Clients::Unasked | Clients::Closed => Vec::new(),
        };
        Self { clients, hints }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        !matches!(self.clients, Clients::Judged { required: false, .. })
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = joined(std::slice::from_ref(end_entity), intermediates);
        self.clients.judge(Some(&chain), from_unix(now))?;
        Ok(ClientCertVerified::assertion())
    }

    handshake_signatures!();
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("verifier of clients")
    }
}

/// One ticket per handshake: sealing one costs a cipher pass over the client's chain, and few clients use a second.
const TICKETS: usize = 1;
