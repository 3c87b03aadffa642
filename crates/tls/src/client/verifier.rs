//! Judges servers by trust, CRLs, and the expected name or id, whatever name rustls asks about.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use identity::certificate::{ServerIdentity, vet_server};
use rustls::Error;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier as SystemVerifier;
use webpki::EndEntityCert;

use crate::peer::{self, PeerError};
use crate::provider::handshake_signatures;
use crate::trust::{Trust, first_that_fits};
use crate::x509::{from_unix, joined, unix};

/// Judges servers for one generation of trust.
pub(super) struct ServerVerifier {
    pub(super) judges: Judges,
    pub(super) expected: Arc<Expected>,
}

/// Who vouches.
pub(super) enum Judges {
    System(Arc<SystemVerifier>),
    Trusts(Vec<Arc<Trust>>),
}

/// The name or the id that the certificate must carry.
#[derive(Debug)]
pub(super) struct Expected {
    /// Compared by webpki; nothing where a SPIFFE id is expected.
    pub(super) name: Option<ServerName<'static>>,
    pub(super) identity: ServerIdentity,
}

impl ServerVerifier {
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), PeerError> {
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
                first_that_fits(trusts, |trust| trust.verify_server(chain, &self.expected.identity, now))?;
                if let Some(name) = &self.expected.name {
                    EndEntityCert::try_from(leaf)?.verify_is_valid_for_subject_name(name)?;
                }
            }
        }
        Ok(())
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
        self.judge(&joined(std::slice::from_ref(end_entity), intermediates), from_unix(now))?;
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verifier of {:?}", self.expected.identity)
    }
}
