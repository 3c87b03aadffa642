//! The crate from outside: certificates made here, handshakes against real rustls clients and servers over a pipe.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod accept;
mod acme;
mod authority;
mod connect;
mod credential;
mod handshake;
mod rejudge;
mod revocation;
mod tickets;
mod trust;
