//! *How*: listener → connection → [`handle::handle`] → upstream; refusals and the snapshot.
//!
//! The request path cannot name the secret store: this crate knows who, how often, may and TLS, and nothing of
//! where material comes from.
//!
//! One current-thread runtime per core: a connection stays on the core that serves it, with that core's caches and
//! upstream pools, so that nothing on the request path locks or waits for another thread.

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

mod addresses;
pub mod authenticate;
pub mod body;
mod challenge;
pub mod compress;
pub mod connection;
pub mod core;
pub mod cors;
mod deny;
mod forward;
mod grpc;
pub mod handle;
pub mod idempotency;
pub mod inspect;
pub mod lease;
pub mod limits;
pub mod listener;
pub mod mirror;
pub mod normalize;
mod record;
pub mod refusal;
mod respond;
pub mod route;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod token;
mod token_cache;
mod tunnel;
pub mod upgrade;
pub mod upstream;
pub mod validate;

pub use crate::addresses::Addresses;
pub use crate::core::{Command, CoreHandle, CoreSpec};
pub use snapshot::{Bounds, Listener, Snapshot};
