//! The embedded store: named values on this machine, sealed at rest, and a small certificate authority.
//!
//! **Passes:** values under names, to whoever has the key; certificates of the store's own authority. **Refused:** a wrong
//! key, a damaged or unknown file, a directory that others can write to; nothing is changed then. Every read looks at the
//! file, so what another process wrote is seen; a write is on disk before it returns, whole or not at all. Whoever may write
//! the file without the key can bring back an older one, and remove it; not read or forge one.

mod authority;
mod disk;
mod sealed;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};

use self::authority::Authority;
use self::disk::Disk;
use self::sealed::{Content, Key, SealError, Value};
use crate::reading::{CertificateRequest, IssuedCertificate, Reading};
use crate::reference::{LARGEST, VALUE, is_name};
use crate::{Cause, StoreError};

/// The store; there may be several readers and one writer at a time, in this process and in others.
pub struct Embedded {
    name: String,
    disk: Disk,
    opener: Opener,
    clock: Clock,
    /// What opened the file last; none as long as there was none.
    key: Mutex<Option<Arc<Key>>>,
}

/// What opens the store.
#[derive(Clone, Debug)]
pub enum Opener {
    /// 32 random bytes, base64; `portcullis secret init` makes such a key.
    Key(SecretString),
    /// Something a person remembers; stretched with Argon2i.
    Passphrase(SecretString),
}

/// Tells the time, by which certificates are signed.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

impl Opener {
    /// The text of a new random key.
    #[must_use]
    pub fn generate() -> SecretString {
        sealed::new_key()
    }
}

impl Embedded {
    /// Opens the store in this directory; one that is not there yet is empty and made by the first write.
    ///
    /// # Errors
    /// A wrong key, a damaged file, a directory that others can write to.
    pub fn open(name: &str, directory: PathBuf, opener: Opener, clock: Clock) -> Result<Self, StoreError> {
        let store =
            Self { name: name.to_owned(), disk: Disk::new(directory), opener, clock, key: Mutex::new(None) };
        let opened = sealed::check(&store.opener).map_err(Cause::from).and_then(|()| store.content());
        opened.map_err(|cause| store.error(cause))?;
        Ok(store)
    }

    /// Whether there is a store in this directory, whatever opens it.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        Disk::new(directory.to_owned()).exists()
    }

    /// Makes the store, empty.
    ///
    /// # Errors
    /// [`Cause::Conflict`] if there is one; or it cannot be written.
    pub fn create(&self) -> Result<(), StoreError> {
        let created = self.disk.lock().and_then(|_lock| match self.disk.read()? {
            Some(_) => Err(Cause::Conflict),
            None => self.replace(&Content::default()),
        });
        created.map_err(|cause| self.error(cause))
    }

    /// The value of this name as a reading with the one field `value`. What another process wrote is seen.
    ///
    /// # Errors
    /// [`Cause::Absent`] if there is none.
    pub fn read(&self, name: &str) -> Result<Reading, StoreError> {
        let mut content = self.content().map_err(|cause| self.error(cause))?;
        let Some(Value(value)) = content.values.remove(name) else {
            return Err(self.error(Cause::Absent(format!("value `{name}`"))));
        };
        let fields = BTreeMap::from([(VALUE.to_owned(), value)]);
        Ok(Reading { fields, version: None, lease: None, changes_in: None })
    }

    /// Stores a value under a name, replacing the former one; on disk before it returns.
    ///
    /// # Errors
    /// [`Cause::Refused`] for what is no name, and for a value that is empty or larger than 1 MiB; or it cannot be written,
    /// then the former value stays.
    pub fn write(&self, name: &str, value: &SecretString) -> Result<(), StoreError> {
        if !is_name(name) {
            let expected = "expected a name of letters, digits, `.`, `_`, `-` and `/`";
            return Err(self.error(Cause::Refused(expected.to_owned())));
        }
        if !(1..=LARGEST).contains(&value.expose_secret().len()) {
            let expected = format!("expected a value of 1 to {LARGEST} bytes");
            return Err(self.error(Cause::Refused(expected)));
        }
        let written = self.update(|content| {
            content.values.insert(name.to_owned(), Value(value.clone()));
            Ok(true)
        });
        written.map(|_| ())
    }

    /// Removes a value; true if there was one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        self.update(|content| Ok(content.values.remove(name).is_some()))
    }

    /// The names of all values, sorted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let content = self.content().map_err(|cause| self.error(cause))?;
        Ok(content.values.into_keys().collect())
    }

    /// Signs with the store's own certificate authority, which the first use makes.
    pub(crate) fn sign_certificate(
        &self,
        request: &CertificateRequest,
    ) -> Result<IssuedCertificate, StoreError> {
        self.authority()?.sign(request, (self.clock)()).map_err(|cause| self.error(cause))
    }

    /// The certificate of the store's own authority, PEM; the first use makes it.
    ///
    /// # Errors
    /// When the store cannot be read, or written with a new authority.
    pub fn authorities(&self) -> Result<String, StoreError> {
        Ok(self.authority()?.certificate)
    }

    pub(crate) fn without(&self, what: &str) -> StoreError {
        self.error(Cause::Refused(format!("the embedded store has no {what}")))
    }

    fn authority(&self) -> Result<Authority, StoreError> {
        if let Some(authority) = self.content().map_err(|cause| self.error(cause))?.authority {
            return Ok(authority);
        }
        let mut made = None;
        self.update(|content| {
            let is_new = content.authority.is_none();
            if is_new {
                content.authority = Some(Authority::new((self.clock)())?);
            }
            made.clone_from(&content.authority);
            Ok(is_new)
        })?;
        made.ok_or_else(|| self.without("certificate authority"))
    }

    fn content(&self) -> Result<Content, Cause> {
        let Some(file) = self.disk.read()? else {
            // An authority made anew, because a disk is not mounted for once, would be trusted by nobody.
            return match *self.key.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(_) => Err(Cause::Local(format!("{} is gone", self.disk))),
                None => Ok(Content::default()),
            };
        };
        self.opened(&file).map_err(|reason| Cause::Local(format!("{} {reason}", self.disk)))
    }

    fn opened(&self, file: &[u8]) -> Result<Content, SealError> {
        let (header, body) = sealed::split(file)?;
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match known.as_ref().filter(|key| key.fits(header)) {
            Some(key) => Arc::clone(key),
            None => Arc::new(Key::of(header, &self.opener)?),
        };
        let content = key.open(body)?;
        *known = Some(key);
        Ok(content)
    }

    /// Changes the content while nobody else does; `change` says whether it did.
    fn update(&self, change: impl FnOnce(&mut Content) -> Result<bool, Cause>) -> Result<bool, StoreError> {
        let updated = self.disk.lock().and_then(|_lock| {
            let mut content = self.content()?;
            let is_changed = change(&mut content)?;
            if is_changed {
                self.replace(&content)?;
            }
            Ok(is_changed)
        });
        updated.map_err(|cause| self.error(cause))
    }

    /// INVARIANT: called under the lock of the disk.
    fn replace(&self, content: &Content) -> Result<(), Cause> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match known.as_ref() {
            Some(key) => Arc::clone(key),
            None => Arc::new(Key::new(&self.opener)?),
        };
        self.disk.replace(&key.seal(content)?)?;
        *known = Some(key);
        Ok(())
    }

    fn error(&self, cause: Cause) -> StoreError {
        StoreError { store: self.name.clone(), cause }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("name", &self.name).field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl From<SealError> for Cause {
    fn from(error: SealError) -> Self {
        Self::Local(error.to_string())
    }
}

#[cfg(test)]
mod tests;
