//! The embedded store: named values on this machine, sealed at rest, and a small certificate authority.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use secrecy::SecretString;

use crate::reading::{CertificateRequest, IssuedCertificate, Reading};
use crate::{Cause, StoreError};

/// The store; there may be several readers and one writer at a time, in this process and in others.
#[derive(Debug)]
pub struct Embedded {
    name: String,
}

/// Tells the time, by which certificates are signed.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What opens the store.
#[derive(Clone, Debug)]
pub enum Opener {
    /// 32 random bytes, base64; `portcullis secret init` makes such a key.
    Key(SecretString),
    /// Something a person remembers; stretched with Argon2i.
    Passphrase(SecretString),
}

impl Embedded {
    /// Opens the store in this directory; one that is not there yet is empty and made by the first write.
    ///
    /// # Errors
    /// A wrong key, a damaged file, a directory that others can write to.
    pub fn open(name: &str, directory: PathBuf, opener: Opener, clock: Clock) -> Result<Self, StoreError> {
        let _ = (directory, opener, clock);
        Ok(Self { name: name.to_owned() })
    }

    /// The value of this name as a reading with the one field `value`. What another process wrote is seen.
    ///
    /// # Errors
    /// [`Cause::Absent`] if there is none.
    pub fn read(&self, name: &str) -> Result<Reading, StoreError> {
        Err(self.error(Cause::Absent(format!("value `{name}`"))))
    }

    /// Stores a value under a name, replacing the former one; on disk before it returns.
    ///
    /// # Errors
    /// When it cannot be written; the former value stays.
    pub fn write(&self, name: &str, value: &SecretString) -> Result<(), StoreError> {
        let _ = (name, value);
        todo!("helper EMBEDDED")
    }

    /// Removes a value; true if there was one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let _ = name;
        todo!("helper EMBEDDED")
    }

    /// The names of all values, sorted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        todo!("helper EMBEDDED")
    }

    /// Signs with the store's own certificate authority, which the first use makes.
    pub(crate) fn sign_certificate(
        &self,
        request: &CertificateRequest,
    ) -> Result<IssuedCertificate, StoreError> {
        let _ = request;
        todo!("helper EMBEDDED")
    }

    /// The certificate of the store's own authority, PEM.
    pub(crate) fn authorities(&self) -> Result<String, StoreError> {
        todo!("helper EMBEDDED")
    }

    pub(crate) fn without(&self, what: &str) -> StoreError {
        self.error(Cause::Refused(format!("the embedded store has no {what}")))
    }

    fn error(&self, cause: Cause) -> StoreError {
        StoreError { store: self.name.clone(), cause }
    }
}
