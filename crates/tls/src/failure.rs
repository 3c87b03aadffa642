//! What an I/O error of a handshake means: rustls's errors travel inside.

use std::io;

use rustls::Error;

use crate::peer::{self, PeerError};

/// The cause of a failed handshake.
pub(crate) enum Failure {
    Peer(PeerError),
    Alert(String),
    Protocol(String),
    Io(io::Error),
}

impl Failure {
    pub(crate) fn of(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error @ Error::InvalidCertificate(_)) => Self::Peer(peer::from_rustls(error)),
            Some(Error::NoCertificatesPresented) => Self::Peer(PeerError::NoCertificate),
            Some(Error::AlertReceived(alert)) => {
                Self::Alert(alert.as_str().unwrap_or("unknown alert").to_owned())
            }
            Some(other) => Self::Protocol(other.to_string()),
            None => Self::Io(error),
        }
    }
}
