//! *Who*: SPIFFE ids, peer certificates, JWTs, and the one [`Principal`] they resolve to.
//!
//! Pure: data and `now` come in, a principal or a typed error comes out. No sockets, no clock, no environment.
//! What is presented but cannot be read is an error, never "anonymous".

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        reason = "tests"
    )
)]

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("choose a crypto provider: feature `aws-lc-rs` or `ring`");

pub mod certificate;
pub mod deny;
mod digest;
mod json;
pub mod jwks;
pub mod jwt;
pub mod mint;
mod principal;
mod spiffe;

pub use digest::{sha1, sha256};
pub use principal::{ClaimValue, Principal, PrincipalId, PrincipalKind};
pub use spiffe::{SpiffeId, SpiffeIdError};
