//! Certificates that somebody else puts into a store, with their keys.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrets::{Reference, Stores};
use tls::Credential;

use crate::error::SourceError;
use crate::source::{Life, Obtained, Source};

/// A certificate and its key, read through references and read again.
#[derive(Debug)]
pub struct HeldCertificate {
    stores: Arc<Stores>,
    certificate: Reference,
    key: Reference,
    refresh: Duration,
}

impl HeldCertificate {
    /// Reads both, from one reading if they are fields at one path, and again every `refresh`.
    #[must_use]
    pub const fn new(stores: Arc<Stores>, certificate: Reference, key: Reference, refresh: Duration) -> Self {
        Self { stores, certificate, key, refresh }
    }
}

impl Source for HeldCertificate {
    type Material = Arc<Credential>;

    async fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<Obtained<Arc<Credential>>, SourceError> {
        let _ = (held, now, &self.stores, &self.certificate, &self.key, self.refresh);
        todo!("rotation")
    }
}
