//! Trust bundles: the authorities of a PKI mount and their revocation lists.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrets::Store;
use tls::{Trust, TrustOptions};

use crate::error::SourceError;
use crate::source::{Life, Obtained, Source};

/// The authorities of a PKI mount or of the embedded authority.
#[derive(Debug)]
pub struct PkiTrust {
    store: Store,
    mount: String,
    crl: bool,
    name: Arc<str>,
    options: TrustOptions,
    refresh: Duration,
}

impl PkiTrust {
    /// The authorities of `mount`, with their revocation list if `crl`, read again every `refresh` and sooner as a revocation list
    /// nears its end. `name` is the trust entry's name.
    #[must_use]
    pub const fn new(
        store: Store,
        mount: String,
        crl: bool,
        name: Arc<str>,
        options: TrustOptions,
        refresh: Duration,
    ) -> Self {
        Self { store, mount, crl, name, options, refresh }
    }
}

impl Source for PkiTrust {
    type Material = Arc<Trust>;

    async fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<Obtained<Arc<Trust>>, SourceError> {
        let _ = (held, now, &self.store, &self.mount, self.crl, &self.name, &self.options, self.refresh);
        todo!("rotation")
    }
}
