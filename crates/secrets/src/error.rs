//! Why a store gave nothing, and what follows from it.

use std::time::Duration;

/// A store gave nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("store `{store}`: {cause}")]
pub struct StoreError {
    /// The store's name in the configuration; `file` or `env` for those.
    pub store: String,
    /// Why.
    pub cause: Cause,
}

/// Why a store gave nothing. The text never quotes a secret, a token or a server's whole answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Cause {
    /// The store answered: there is no such value, path, mount, role, key, file or variable.
    #[error("there is no {0}")]
    Absent(String),
    /// The store answered 403 and the token lives: its policy does not allow this.
    #[error("permission denied for {0}")]
    Denied(String),
    /// The store refused what the login showed.
    #[error("the login is refused: {0}")]
    LoginRefused(String),
    /// The store understood and refused the request (400, 405 and the like).
    #[error("refused: {0}")]
    Refused(String),
    /// Somebody else changed it first (check-and-set).
    #[error("changed by somebody else meanwhile")]
    Conflict,
    /// The lease (or the token under it) is gone: acquire anew.
    #[error("the lease is lost")]
    LeaseLost,
    /// Sealed: it answers nothing until somebody unseals it.
    #[error("sealed")]
    Sealed,
    /// Never initialised.
    #[error("not initialised")]
    Uninitialised,
    /// No active node right now.
    #[error("no active node")]
    Standby,
    /// Too many requests; the store may have said when to come again.
    #[error("asked too often")]
    Throttled {
        /// From the moment of the answer.
        retry_after: Option<Duration>,
    },
    /// A node that has not caught up yet (412).
    #[error("the node has not caught up")]
    Inconsistent,
    /// Another error of the server.
    #[error("answered status {status}")]
    Server {
        /// The HTTP status.
        status: u16,
    },
    /// Its name does not resolve.
    #[error("the name `{0}` does not resolve")]
    Dns(String),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The server does not prove who it is, or refuses our certificate.
    #[error("TLS: {0}")]
    Tls(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// An answer that is cut off, too large, or does not say what such an answer says.
    #[error("the answer cannot be used: {0}")]
    Answer(&'static str),
    /// Not asked: it failed a moment ago and has not been seen to answer since.
    #[error("away: {0}")]
    Away(Box<Cause>),
    /// Cut off by `portcullis drill`.
    #[error("cut off by a drill")]
    Drill,
    /// The embedded store cannot be opened or written; or a file cannot be read.
    #[error("{0}")]
    Local(String),
}

impl Cause {
    /// True when the store answered and waiting will not help: somebody must change the configuration, the policy or what
    /// is stored. False when the store is away: the outage contract decides.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::Absent(_)
            | Self::Denied(_)
            | Self::LoginRefused(_)
            | Self::Refused(_)
            | Self::Conflict
            | Self::Local(_) => true,
            Self::LeaseLost
            | Self::Sealed
            | Self::Uninitialised
            | Self::Standby
            | Self::Throttled { .. }
            | Self::Inconsistent
            | Self::Server { .. }
            | Self::Dns(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Timeout
            | Self::Answer(_)
            | Self::Away(_)
            | Self::Drill => false,
        }
    }

    /// A stable word for metrics and `status`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Absent(_) => "absent",
            Self::Denied(_) => "denied",
            Self::LoginRefused(_) => "login_refused",
            Self::Refused(_) => "refused",
            Self::Conflict => "conflict",
            Self::LeaseLost => "lease_lost",
            Self::Sealed => "sealed",
            Self::Uninitialised => "uninitialised",
            Self::Standby => "standby",
            Self::Throttled { .. } => "throttled",
            Self::Inconsistent => "inconsistent",
            Self::Server { .. } => "server",
            Self::Dns(_) => "dns",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::Answer(_) => "answer",
            Self::Away(_) => "away",
            Self::Drill => "drill",
            Self::Local(_) => "local",
        }
    }
}
