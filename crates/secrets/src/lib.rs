//! Secret stores: Vault and OpenBao, the embedded store, files and the environment.
//!
//! The only crate that speaks the Vault API, and (with vaultrs) the only one with reqwest. Nothing here decides when
//! something is renewed: that is `rotation`; nothing here is reachable from the request path: `proxy` may not import it.
//!
//! **Passes:** values, signed certificates, signatures and leases as the store gave them, whole. **Refused:** the rest, as a
//! [`StoreError`] whose [`Cause`] says whether the configuration is wrong or the store is away; no message quotes a secret.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests"
    )
)]

pub mod embedded;
mod error;
mod reading;
pub mod reference;
mod store;
pub mod vault;

pub use secrecy::{ExposeSecret, SecretString};

pub use self::error::{Cause, StoreError};
pub use self::reading::{
    CertificateRequest, IssuedCertificate, KeyVersion, Lease, Reading, Signature, SigningAlgorithm,
};
pub use self::reference::Reference;
pub use self::store::{Store, Stores};
