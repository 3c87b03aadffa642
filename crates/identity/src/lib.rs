//! *Who*: SPIFFE ids, peer certificates, JWTs, and the one [`Principal`] they resolve to.
//!
//! Pure: data and `now` come in, a principal or a typed error comes out. No sockets, no clock, no environment.
//! What is presented but cannot be read is an error, never "anonymous".

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod principal;

pub use principal::{ClaimValue, Principal, PrincipalId, PrincipalKind};
