//! When: obtain, check, publish, overlap, retire.
//!
//! A [`Source`] obtains a candidate and checks it, a [`Sink`] takes what passed, a [`Keeper`] does both again and again at the times
//! that [`plan`] names, for ever. **Published:** a candidate that passed its check. **Not published:** everything else; what was
//! published before stays until its own end and after it (whoever reads it judges the time), the failure is told to the sink
//! and to [`Progress`], and the next try is planned: with backoff and jitter, faster near the end, never past it.
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

pub mod acme;
mod certificate;
mod error;
mod held;
mod keeper;
pub mod plan;
mod recovery;
#[cfg(test)]
mod script;
mod source;
mod trust;
mod values;

pub use self::certificate::{KeyKind, PkiCertificate};
pub use self::error::{Rejection, SourceError};
pub use self::held::HeldCertificate;
pub use self::keeper::{Clock, Failure, Keeper, Progress};
pub use self::recovery::follow;
pub use self::source::{Life, Obtained, Sink, Source};
pub use self::trust::PkiTrust;
pub use self::values::{Lender, Values, ValuesSpec};
