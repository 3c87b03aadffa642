//! One interface to every store.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;

use crate::embedded::Embedded;
use crate::reading::{
    CertificateRequest, IssuedCertificate, KeyVersion, Lease, Reading, Signature, SigningAlgorithm,
};
use crate::reference::{self, Reference};
use crate::vault::Vault;
use crate::{Cause, StoreError};

/// A configured store.
#[derive(Clone, Debug)]
pub enum Store {
    /// A Vault or OpenBao cluster.
    Vault(Arc<Vault>),
    /// The store on this machine.
    Embedded(Arc<Embedded>),
}

/// The stores of a configuration, by name.
#[derive(Clone, Debug, Default)]
pub struct Stores(pub BTreeMap<String, Store>);

impl Stores {
    /// The store of this name.
    ///
    /// # Errors
    /// [`Cause::Absent`] if there is none.
    pub fn named(&self, name: &str) -> Result<&Store, StoreError> {
        self.0.get(name).ok_or_else(|| StoreError {
            store: name.to_owned(),
            cause: Cause::Absent("store of this name".to_owned()),
        })
    }

    /// The one embedded store.
    ///
    /// # Errors
    /// [`Cause::Absent`] if there is none.
    pub fn embedded(&self) -> Result<&Arc<Embedded>, StoreError> {
        let embedded = self.0.values().find_map(|store| match store {
            Store::Embedded(embedded) => Some(embedded),
            Store::Vault(_) => None,
        });
        embedded.ok_or_else(|| StoreError {
            store: "embedded".to_owned(),
            cause: Cause::Absent("embedded store".to_owned()),
        })
    }

    /// All fields of what a reference points into, read now: two references into one path share one reading and one lease.
    ///
    /// # Errors
    /// Why there is nothing; see [`Cause::is_configuration`].
    pub async fn read(&self, reference: &Reference) -> Result<Reading, StoreError> {
        match reference {
            Reference::Vault { store, path, .. } => self.named(store)?.read(path).await,
            Reference::Embedded { name } => self.embedded()?.read(name),
            Reference::File { .. } | Reference::Env { .. } => reference::read_local(reference, None),
        }
    }

    /// The one value that a reference points to, read now.
    ///
    /// # Errors
    /// As [`Stores::read`], and [`Cause::Absent`] for a field that is not there.
    pub async fn resolve(&self, reference: &Reference) -> Result<SecretString, StoreError> {
        self.read(reference).await?.value(reference)
    }
}

impl Store {
    /// The fields at `path`: for Vault the path as `vault kv get` or `vault read` takes it, mount first.
    ///
    /// # Errors
    /// Why there is nothing.
    pub async fn read(&self, path: &str) -> Result<Reading, StoreError> {
        match self {
            Self::Vault(vault) => vault.read(path).await,
            Self::Embedded(embedded) => embedded.read(path),
        }
    }

    /// Has a certificate signed.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn sign_certificate(
        &self,
        request: &CertificateRequest,
    ) -> Result<IssuedCertificate, StoreError> {
        match self {
            Self::Vault(vault) => vault.sign_certificate(request).await,
            Self::Embedded(embedded) => embedded.sign_certificate(request),
        }
    }

    /// The CA certificates of a PKI mount, PEM.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn authorities(&self, mount: &str) -> Result<String, StoreError> {
        match self {
            Self::Vault(vault) => vault.authorities(mount).await,
            Self::Embedded(embedded) => embedded.authorities(),
        }
    }

    /// The revocation list of a PKI mount, PEM; none where the authority keeps none.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub async fn revocation_list(&self, mount: &str) -> Result<Option<String>, StoreError> {
        match self {
            Self::Vault(vault) => vault.revocation_list(mount).await,
            Self::Embedded(_) => Ok(None),
        }
    }

    /// Renews a lease; what comes back says for how long, from now.
    ///
    /// # Errors
    /// [`Cause::LeaseLost`] if it is gone.
    pub async fn renew(&self, lease: &Lease) -> Result<Lease, StoreError> {
        match self {
            Self::Vault(vault) => vault.renew(lease).await,
            Self::Embedded(embedded) => Err(embedded.without("leases")),
        }
    }

    /// Revokes a lease; one that is gone already is revoked.
    ///
    /// # Errors
    /// Why it may still live.
    pub async fn revoke(&self, lease: &Lease) -> Result<(), StoreError> {
        match self {
            Self::Vault(vault) => vault.revoke(lease).await,
            Self::Embedded(embedded) => Err(embedded.without("leases")),
        }
    }

    /// Signs with a key that stays in the store (Vault transit).
    ///
    /// # Errors
    /// Why there is no signature.
    pub async fn sign(
        &self,
        mount: &str,
        key: &str,
        algorithm: SigningAlgorithm,
        input: &[u8],
    ) -> Result<Signature, StoreError> {
        match self {
            Self::Vault(vault) => vault.sign(mount, key, algorithm, input).await,
            Self::Embedded(embedded) => Err(embedded.without("signing keys")),
        }
    }

    /// The public halves of a signing key, oldest first.
    ///
    /// # Errors
    /// Why they cannot be told.
    pub async fn signing_keys(&self, mount: &str, key: &str) -> Result<Vec<KeyVersion>, StoreError> {
        match self {
            Self::Vault(vault) => vault.signing_keys(mount, key).await,
            Self::Embedded(embedded) => Err(embedded.without("signing keys")),
        }
    }
}
