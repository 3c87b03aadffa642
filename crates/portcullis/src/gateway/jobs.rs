//! Jobs of a running gateway: what keeps material from stores fresh, one for each entry.

use std::time::SystemTime;

/// Keeps the material of one entry fresh until it is dropped.
#[derive(Debug)]
pub(super) struct LivingJob {
    /// The slot that it publishes into.
    pub(super) slot: u64,
    /// The stores that it asks.
    pub(super) stores: Vec<u64>,
}

impl LivingJob {
    /// Whether there is material.
    pub(super) fn is_held(&self) -> bool {
        false
    }

    /// When what is held ends, whatever the gateway does.
    pub(super) fn ends(&self) -> Option<SystemTime> {
        None
    }
}
