//! What values need of stores: the seam at which tests put a store of their own.

use std::sync::Arc;

use secrets::{Cause, Lease, Reading, Reference, Store, StoreError, Stores};

/// Gives values, some of them with a lease.
pub trait Lender: Send + Sync {
    /// All fields of what the reference points into.
    fn read(&self, reference: &Reference) -> impl Future<Output = Result<Reading, StoreError>> + Send;

    /// Renews a lease of this store.
    fn renew(&self, store: &str, lease: &Lease) -> impl Future<Output = Result<Lease, StoreError>> + Send;

    /// Revokes a lease of this store.
    fn revoke(&self, store: &str, lease: &Lease) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The number of this store's present login; leases of former ones end soon.
    fn login(&self, store: &str) -> u64;
}

impl Lender for Arc<Stores> {
    async fn read(&self, reference: &Reference) -> Result<Reading, StoreError> {
        Stores::read(self, reference).await
    }

    async fn renew(&self, store: &str, lease: &Lease) -> Result<Lease, StoreError> {
        self.named(store)?.renew(lease).await
    }

    async fn revoke(&self, store: &str, lease: &Lease) -> Result<(), StoreError> {
        match self.named(store) {
            Ok(store) => store.revoke(lease).await,
            // The store left the configuration; its login and so its leases end with it.
            Err(StoreError { cause: Cause::Absent(_), .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn login(&self, store: &str) -> u64 {
        match self.named(store) {
            Ok(Store::Vault(vault)) => *vault.login().borrow(),
            Ok(Store::Embedded(_)) | Err(_) => 0,
        }
    }
}
