//! Bodies on their way through: a request body that is bounded in size and slowness, and a response body that owns
//! its permit as a lease.

mod progress;
mod request;
mod response;

pub use progress::Progress;
pub use request::{Pace, RequestBody};
pub(crate) use request::{Upload, discard, next_frame};
pub use response::{ResponseBody, Streamed};

use crate::lease::LeaseEnd;
use crate::upstream::ExchangeError;

/// The stable code, in the access log and in a gRPC call's trailers, of an answer that its upstream did not bring to an end.
pub(crate) const BROKE_OFF: &str = "UPSTREAM_BROKE_OFF";
/// The same for one whose upstream fell silent.
pub(crate) const UPSTREAM_STALLED: &str = "UPSTREAM_STALLED";
/// The same for one that could not be compressed.
pub(crate) const COMPRESSION_FAILED: &str = "COMPRESSION_FAILED";

/// Why a body was cut off; the peer sees an aborted message, or the status of a gRPC call, never a complete one.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The authority under which it streamed has ended.
    #[error("the permit ended")]
    LeaseEnded(LeaseEnd),
    /// The client took nothing of it for too long.
    #[error("the client takes nothing")]
    Stalled,
    /// The upstream sent nothing of it for too long.
    #[error("the upstream sends nothing")]
    Silent,
    /// It is larger than allowed.
    #[error("the body is too large")]
    TooLarge,
    /// It arrives too slowly.
    #[error("the body arrives too slowly")]
    TooSlow,
    /// Nobody waits for it any more; the reason of its stream's end.
    #[error("the request was given up")]
    GivenUp(#[source] h2::Error),
    /// An upstream over HTTP/1.1 broke off.
    #[error("the upstream broke off")]
    Upstream(#[source] ExchangeError),
    /// What compresses it failed.
    #[error("it cannot be compressed")]
    Compression(#[source] std::io::Error),
    /// The client, or an upstream over HTTP/2, broke off.
    #[error("the other side broke off")]
    Transport(#[from] hyper::Error),
}
