//! Why a source gave nothing that may serve.

use std::time::Duration;

use secrets::{Cause, StoreError};
use tls::{CredentialError, PeerError, TrustError};

use crate::plan::Class;

/// A source gave nothing that may serve. The text never quotes a secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SourceError {
    /// The store gave nothing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store gave something that may not serve.
    #[error("what was obtained is refused: {0}")]
    Rejected(#[from] Rejection),
    /// The ACME server gave nothing.
    #[error("ACME: {reason}")]
    Acme {
        /// In words.
        reason: String,
        /// Whether somebody must act (a refused account, name or contact); else waiting helps.
        is_configuration: bool,
        /// Not asked again before this time from now, even if nothing is held.
        retry_after: Option<Duration>,
    },
    /// More new credentials within the hour than the plan needs: something makes them useless at once.
    #[error(
        "{minted} new credentials within an hour are more than the plan needs, the next is asked for later"
    )]
    Budget {
        /// How many were made.
        minted: u32,
        /// When the next one may be.
        retry_after: Duration,
    },
    /// The source has nothing new although nothing is held.
    #[error("there is nothing to serve")]
    Nothing,
    /// No key or certificate request could be made here.
    #[error("no key pair could be made: {0}")]
    Key(String),
}

/// Why something obtained may not serve.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// No whole, fitting, currently valid pair.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A name that was asked for is missing.
    #[error("the certificate does not name `{0}`")]
    Name(String),
    /// A DNS name that nobody asked for: by it the certificate would stand in the place of another one.
    #[error("the certificate names `{0}`, which was not asked for")]
    UnaskedName(String),
    /// What serves lives longer.
    #[error("the certificate ends before the one that serves")]
    EndsEarlier,
    /// What serves was issued later.
    #[error("the certificate was issued before the one that serves")]
    Older,
    /// The authorities that came with it do not vouch for it.
    #[error("the authorities that the store names do not vouch for the certificate: {0}")]
    Issuer(#[from] PeerError),
    /// No usable authorities or revocation lists.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The store has no authority.
    #[error("the store names no authority")]
    NoAuthority,
    /// A revocation list is asked for and the store has none.
    #[error("the store has no revocation list")]
    NoRevocationList,
    /// The revocation list is older than the one that serves.
    #[error("the revocation list is older than the one that serves")]
    OlderRevocationList,
    /// Values that cannot be used as what they are for.
    #[error("{0}")]
    Unfit(String),
    /// An empty value is no credential.
    #[error("the value of `{0}` is empty")]
    Empty(String),
}

impl SourceError {
    /// True when waiting will not help: somebody must change the configuration, the policy or what is stored.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::Store(error) => error.cause.is_configuration(),
            Self::Rejected(_) | Self::Key(_) => true,
            Self::Acme { is_configuration, .. } => *is_configuration,
            Self::Budget { .. } | Self::Nothing => false,
        }
    }

    /// A stable word for metrics and `status`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Store(error) => error.cause.word(),
            Self::Rejected(_) => "rejected",
            Self::Acme { .. } => "acme",
            Self::Budget { .. } => "budget",
            Self::Nothing => "nothing",
            Self::Key(_) => "key",
        }
    }

    /// When the other side wants to be asked again, from now.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Store(StoreError { cause: Cause::Throttled { retry_after }, .. })
            | Self::Acme { retry_after, .. } => *retry_after,
            Self::Budget { retry_after, .. } => Some(*retry_after),
            Self::Store(_) | Self::Rejected(_) | Self::Nothing | Self::Key(_) => None,
        }
    }

    /// How the plan goes on after it.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Store(StoreError { cause, .. }) => match cause {
                Cause::Throttled { .. } => Class::Throttled,
                Cause::LeaseLost => Class::Lost,
                Cause::Local(_) => Class::Local,
                Cause::Conflict => Class::Away,
                cause if cause.is_configuration() => Class::Configuration,
                _ => Class::Away,
            },
            Self::Rejected(_) => Class::Rejected,
            Self::Acme { is_configuration: true, .. } | Self::Key(_) => Class::Configuration,
            Self::Acme { is_configuration: false, .. } | Self::Budget { .. } | Self::Nothing => Class::Away,
        }
    }
}
