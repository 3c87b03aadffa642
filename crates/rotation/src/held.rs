//! Certificates that somebody else puts into a store, with their keys.
//!
//! **Taken:** a whole pair that is valid now and not issued before the one that serves. **Refused:** everything else, such as a
//! certificate whose key is not there yet; both are read again at the next look.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrets::{ExposeSecret, Reference, SecretString, Stores};
use tls::Credential;

use crate::error::{Rejection, SourceError};
use crate::source::{Life, Obtained, Source};

/// A certificate and its key, read through references and read again.
pub struct HeldCertificate {
    stores: Arc<Stores>,
    certificate: Reference,
    key: Reference,
    refresh: Duration,
    last: Option<Last>,
}

/// What was handed out.
struct Last {
    certificate: SecretString,
    key: SecretString,
    begins: SystemTime,
    ends: SystemTime,
}

impl HeldCertificate {
    /// Reads both, from one reading if they are fields at one path, and again every `refresh`.
    #[must_use]
    pub const fn new(stores: Arc<Stores>, certificate: Reference, key: Reference, refresh: Duration) -> Self {
        Self { stores, certificate, key, refresh, last: None }
    }

    async fn read(&self) -> Result<(SecretString, SecretString), SourceError> {
        let reading = self.stores.read(&self.certificate).await?;
        let certificate = reading.value(&self.certificate)?;
        let key = if self.certificate.shares_reading(&self.key) {
            reading.value(&self.key)?
        } else {
            self.stores.resolve(&self.key).await?
        };
        Ok((certificate, key))
    }
}

impl Source for HeldCertificate {
    type Material = Arc<Credential>;

    async fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<Obtained<Arc<Credential>>, SourceError> {
        let (certificate, key) = self.read().await?;
        let life =
            |begins, ends| Life { obtained: now, begins, ends: Some(ends), again_in: Some(self.refresh) };
        // One that has ended is checked again, so that it is a failure that somebody sees.
        let serves = held.and(self.last.as_ref()).filter(|last| now < last.ends);
        if let Some(last) = serves
            && same(&last.certificate, &certificate)
            && same(&last.key, &key)
        {
            return Ok(Obtained::Unchanged(life(last.begins, last.ends)));
        }
        let credential =
            Credential::from_pem(certificate.expose_secret().as_bytes(), key.expose_secret().as_bytes(), now)
                .map_err(Rejection::from)?;
        let (begins, ends) = (credential.not_before(), credential.not_after());
        if serves.is_some_and(|last| begins < last.begins) {
            return Err(Rejection::Older.into());
        }
        let life = life(begins, ends);
        self.last = Some(Last { certificate, key, begins, ends });
        Ok(Obtained::New(Arc::new(credential), life))
    }
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

#[cfg(test)]
mod tests;
