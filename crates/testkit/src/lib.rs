//! What the end-to-end tests stand on: a certificate authority, token issuers, upstreams, real clients and servers,
//! and the launcher of the gateway itself. For tests only; nothing here is reachable from product code.
//!
//! Everything listens on a port that the system chose, lives in a directory of its own and ends when it is dropped, so
//! tests may run side by side. Nothing sleeps for a fixed time: [`eventually`] polls until a fact holds.
//! Functions here panic where a test could not go on: the panic is the test's failure.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "support for tests: a panic is a failed test, what is printed explains it"
)]

mod authority;
mod client;
mod curl;
mod digest;
mod gateway;
mod haproxy;
mod key_server;
mod kubernetes;
mod middle;
mod nginx;
mod patience;
mod pebble;
mod port;
mod postgres;
mod process;
mod server;
#[cfg(test)]
mod tests;
mod token;
mod upstream;
mod vault;
mod vault_client;
mod vault_cluster;
mod vault_fake;
mod websocket;
mod wire;

pub use authority::{Authority, Issued, Leaf};
pub use client::{Ask, Connection, Protocol, Reply, Streaming, Trust, was_not_sent};
pub use curl::{Curl, CurlReply};
pub use digest::sha256;
pub use gateway::{Gateway, Resources, Site, binary};
pub use haproxy::Haproxy;
pub use key_server::{KeyServer, Mood};
pub use kubernetes::KubernetesApi;
pub use middle::{Meddling, Middle};
pub use nginx::Nginx;
pub use patience::{eventually, patience, unix_now};
pub use pebble::{Pebble, Pebbling};
pub use port::free_port;
pub use postgres::Postgres;
pub use process::{Finished, Service, python, run};
pub use server::ServerTls;
pub use token::{Algorithm, TokenKey, claims, jwks};
pub use upstream::Upstream;
pub use vault::Vault;
pub use vault_client::{VaultClient, base64};
pub use vault_cluster::VaultCluster;
pub use vault_fake::{Asked, Fault, VaultFake};
pub use websocket::{Http2, Message, WebSocket, WebSockets};
pub use wire::{Wire, exchange};

use std::sync::Arc;

/// The provider that this build was made with (feature `aws-lc-rs` or `ring`).
#[must_use]
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}
