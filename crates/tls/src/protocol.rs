//! Versions and protocols, in the words of the configuration and the logs.

use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SupportedProtocolVersion};

/// A TLS version that is spoken at all.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// TLS 1.2 (RFC 5246), with ECDHE and AEAD only.
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// An application protocol (RFC 7301).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alpn {
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
    /// None was offered: HTTP/1.1 by convention.
    None,
}

impl Version {
    /// The version as the configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }

    /// This version and all above it.
    pub(crate) fn and_above(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => ALL,
            Self::Tls13 => NEWEST,
        }
    }

    pub(crate) fn negotiated(version: Option<ProtocolVersion>) -> Self {
        if version == Some(ProtocolVersion::TLSv1_3) { Self::Tls13 } else { Self::Tls12 }
    }
}

impl Alpn {
    /// Protocol names as they are offered.
    pub(crate) fn wire_list(protocols: &[Self]) -> Vec<Vec<u8>> {
        let wire = |protocol: &Self| match protocol {
            Self::Http1 => Some(b"http/1.1".to_vec()),
            Self::Http2 => Some(b"h2".to_vec()),
            Self::None => None,
        };
        protocols.iter().filter_map(wire).collect()
    }

    pub(crate) fn negotiated(protocol: Option<&[u8]>) -> Self {
        match protocol {
            Some(b"h2") => Self::Http2,
            Some(_) => Self::Http1,
            None => Self::None,
        }
    }
}

static ALL: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
static NEWEST: &[&SupportedProtocolVersion] = &[&TLS13];
