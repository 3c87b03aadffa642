//! Values of one credential: a password, a user with a password, a token; with the leases that keep them alive.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrets::{Reference, SecretString, Stores};

use crate::error::SourceError;
use crate::source::{Life, Obtained, Source};

/// What a [`Values`] reads.
#[derive(Clone, Debug)]
pub struct ValuesSpec {
    /// The values of one credential, in the order in which they are handed out.
    pub references: Vec<Reference>,
    /// What has no lease is read again this often.
    pub refresh: Duration,
    /// How many leases may be acquired within an hour beside the first.
    pub mints_per_hour: u32,
}

/// The values of one credential.
#[derive(Debug)]
pub struct Values {
    stores: Arc<Stores>,
    spec: ValuesSpec,
}

impl Values {
    /// Nothing is read here.
    #[must_use]
    pub const fn new(stores: Arc<Stores>, spec: ValuesSpec) -> Self {
        Self { stores, spec }
    }
}

impl Source for Values {
    type Material = Vec<SecretString>;

    async fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<Obtained<Vec<SecretString>>, SourceError> {
        let _ = (held, now, &self.stores, &self.spec);
        todo!("rotation")
    }
}
