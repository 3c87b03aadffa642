//! Why a handshake failed, on either side; rustls's errors travel inside I/O errors.

use std::io;

use rustls::Error;

use crate::peer::{self, PeerError};

/// Why a handshake failed. The peer got the fitting alert as far as it could be reached.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer's certificate, its absence, or its missing server name.
    #[error("the peer was refused: {0}")]
    Peer(#[from] PeerError),
    /// We have no certificate to show, where one is to be shown.
    #[error("there is no certificate to show")]
    NoCredential,
    /// An ACME server was shown the proof for a name ([`crate::acme`]): nothing failed, and nothing is said on its connection.
    #[error("an ACME server looked at the proof for a name")]
    AcmeValidation,
    /// The peer ended the handshake with an alert.
    #[error("the peer ended the handshake: {0}")]
    Alert(&'static str),
    /// The peer does not speak TLS as we do.
    #[error("the handshake broke the protocol: {0}")]
    Protocol(String),
    /// The socket failed or was closed.
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

impl HandshakeError {
    /// The label of metrics and log lines: one of a closed set.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Peer(error) => error.code(),
            Self::NoCredential => "no_credential",
            Self::AcmeValidation => "acme_validation",
            Self::Alert(_) => "alert",
            Self::Protocol(_) => "protocol",
            Self::Io(_) => "io",
        }
    }
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(_) => Self::Peer(peer::from_rustls(&error)),
            Error::NoCertificatesPresented => Self::Peer(PeerError::NoCertificate),
            Error::AlertReceived(alert) => Self::Alert(alert.as_str().unwrap_or("unknown alert")),
            other => Self::Protocol(other.to_string()),
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::Io(error),
        }
    }
}
