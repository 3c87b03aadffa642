//! Ports for servers that cannot be told "any free port".

use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// A loopback port that nothing listens on. It lies below those that the system gives to connections, so that a server
/// that was killed finds it free when it comes back; another process may still take it, hence servers are started anew
/// on another one if they do not come up.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Test processes that run side by side begin at different places.
    let next =
        NEXT.get_or_init(|| AtomicU16::new(RandomState::new().hash_one("port").to_le_bytes()[0].into()));
    (0..SPAN)
        .map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed).wrapping_mul(STEP) % SPAN)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("some port is free")
}

const FIRST: u16 = 12_000;
const SPAN: u16 = 20_000;
/// A port and those that servers take beside it (Vault: the next one) do not come one after the other.
const STEP: u16 = 77;
