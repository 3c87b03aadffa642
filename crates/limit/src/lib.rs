//! *How often*: GCRA buckets with bounded memory, and concurrency caps.
//!
//! What passes: a caller that has something left in its bucket, or a request that finds a free slot. What is
//! refused: the rest, with the time to wait. Nothing here waits, allocates per check or speaks to the network;
//! one [`Buckets`] is shared by all cores, so a limit is one limit and not one per core.
//!
//! **The seam.** Callers see a key that can be hashed and a [`Verdict`]. A store that is shared between
//! replicas is later another `StateStore` behind the same [`Buckets::check`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod buckets;
mod concurrency;
mod fields;
mod quota;
mod table;
mod verdict;

pub use buckets::Buckets;
pub use concurrency::{Concurrency, Slot};
pub use fields::fields;
pub use quota::{Quota, QuotaError};
pub use verdict::Verdict;
