//! The operator's door: metrics, probes, and the control socket.
//!
//! What passes: `GET /metrics` and `GET /jwks/<entry>` on a loopback bind, `GET /livez` and `/readyz` on a bind of their own (all with
//! `HEAD`, and with any query), and on the unix socket, for the gateway's own user and root only, `GET /status`,
//! `POST /reload`, `POST /upgrade`, `POST /drill`, and `/deny` (to see and change the deny list). Everything else is answered 404 or 405 in the error envelope. A connection carries one request.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

pub mod client;
mod readiness;
mod routes;
mod serve;
mod socket;

pub use readiness::{Pending, Readiness, Report};
pub use routes::{
    Control, Deny, DenyChange, Drill, KeySets, Reloading, control_router, metrics_router, probes_router,
};
pub use serve::serve_tcp;
pub use socket::{ControlSocket, SocketError};
