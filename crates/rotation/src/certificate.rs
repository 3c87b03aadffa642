//! Certificates that a store signs for a key that is made here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrets::Store;
use tls::Credential;

use crate::error::SourceError;
use crate::source::{Life, Obtained, Source};

/// A certificate that a store signs; each renewal has a new key, which never leaves this process.
#[derive(Clone, Debug)]
pub struct PkiCertificate {
    /// Who signs.
    pub store: Store,
    /// The PKI mount; empty for the embedded authority.
    pub mount: String,
    /// The role; empty for the embedded authority.
    pub role: String,
    /// The subject's common name.
    pub common_name: Option<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
    /// How long it should live.
    pub ttl: Duration,
    /// The kind of key.
    pub key: KeyKind,
}

/// A kind of private key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

impl Source for PkiCertificate {
    type Material = Arc<Credential>;

    async fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<Obtained<Arc<Credential>>, SourceError> {
        let _ = (held, now);
        todo!("rotation")
    }
}
