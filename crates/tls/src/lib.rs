//! Credential store, accept, connect, verifiers, CRLs: everything of the house that names rustls.
//!
//! Material ([`Credential`], [`Trust`]) is read whole or not at all and published in a [`Slot`]; [`ServerTls`] and
//! [`ClientTls`] read the slots at each handshake, so that a renewal is no reload. Nothing here turns verification off, and
//! what is missing closes: an empty slot refuses, it does not let in.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::disallowed_methods,
        reason = "tests"
    )
)]

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("choose a crypto provider: feature `aws-lc-rs` or `ring`");

pub mod acme;
mod chain;
mod client;
mod credential;
mod failure;
mod peer;
mod protocol;
mod provider;
mod revocation;
mod server;
mod slot;
mod trust;
mod x509;

pub use chain::{ChainError, chain};
pub use client::{ClientSpec, ClientTls, Expect, UpstreamTrust, handshake_failure};
pub use credential::{Credential, CredentialError};
pub use failure::HandshakeError;
pub use peer::{Peer, PeerError};
pub use protocol::{Alpn, Version};
pub use provider::{install_default, provider, provider_name};
pub use rustls_pki_types::CertificateDer;
pub use server::{
    Accepted, ClientAuth, Handshake, HostSpec, PolicyId, ServerSpec, ServerTls, SpecError, WithoutSni,
};
pub use slot::{Slot, SlotWriter};
pub use tokio_rustls::{client::TlsStream as ClientStream, server::TlsStream as ServerStream};
pub use trust::{StaleCrl, Trust, TrustError, TrustOptions};
pub use x509::certificates;

/// Reader of a certificate with its key.
pub type Credentials = Slot<Credential>;
/// Reader of a trust bundle.
pub type Trusts = Slot<Trust>;
