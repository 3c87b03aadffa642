//! What is known about the other side of a connection, and why a peer is refused.

use std::sync::Arc;

use identity::certificate::{CertificateError, PeerCertificate};
use rustls::{CertificateError as Verdict, Error, OtherError};
use rustls_pki_types::CertificateDer;

/// A client that proved a certificate.
#[derive(Debug)]
pub struct Peer {
    /// The certificate as its trust entry reads it.
    pub certificate: Arc<PeerCertificate>,
    /// The chain as the client sent it, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The name of the trust entry that it was proven under.
    pub trust: Arc<str>,
    /// The generation of that trust entry's slot.
    pub generation: u64,
}

/// Why a peer's certificate is not accepted, now or any more.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PeerError {
    /// A certificate is required and none was presented.
    #[error("no certificate was presented")]
    NoCertificate,
    /// The trust entries hold no material: nothing can be proven, so nothing is accepted.
    #[error("there is no trust material to judge certificates by")]
    NoTrust,
    /// A server name is required and none was sent.
    #[error("no server name was sent")]
    NoServerName,
    /// No path of valid signatures leads to a trusted root.
    #[error("the certificate is not issued by a trusted authority")]
    Untrusted,
    /// The leaf, an intermediate or the root is past its end.
    #[error("a certificate of the chain has expired")]
    Expired,
    /// The leaf or an intermediate has not begun to be valid.
    #[error("a certificate of the chain is not valid yet")]
    NotYetValid,
    /// The leaf or an intermediate stands on its issuer's CRL.
    #[error("a certificate of the chain is revoked")]
    Revoked,
    /// The issuer has CRLs, but none that speaks about this certificate.
    #[error("no CRL of the issuer covers the certificate")]
    RevocationUnknown,
    /// The issuer's CRL is past its `nextUpdate`.
    #[error("the issuer's CRL is stale")]
    StaleCrl,
    /// The path breaks a rule of RFC 5280.
    #[error("the certificate breaks the rules: {0}")]
    Rules(&'static str),
    /// The leaf does not say who this is, in the one form that the trust entry asks for.
    #[error(transparent)]
    Identity(#[from] CertificateError),
    /// The certificate is for another name than the expected one.
    #[error("the certificate is for another name")]
    WrongName,
    /// The connection's TLS version is below today's minimum.
    #[error("the TLS version is below the minimum")]
    OldVersion,
    /// By today's trust entries the certificate names somebody else.
    #[error("the certificate names somebody else by now")]
    Changed,
}

impl PeerError {
    /// The label of metrics and log lines: one of a closed set.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::NoTrust => "no_trust",
            Self::NoServerName => "unknown_sni",
            Self::Untrusted => "untrusted",
            Self::Expired | Self::NotYetValid => "expired",
            Self::Revoked => "revoked",
            Self::RevocationUnknown | Self::StaleCrl => "revocation_unknown",
            Self::Rules(_) | Self::Identity(_) => "bad_certificate",
            Self::WrongName => "wrong_name",
            Self::OldVersion => "protocol",
            Self::Changed => "changed",
        }
    }
}

impl From<webpki::Error> for PeerError {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error as E;
        match error {
            E::UnknownIssuer | E::InvalidSignatureForPublicKey | E::CertDistrusted => Self::Untrusted,
            E::CertExpired { .. } | E::InvalidCertValidity => Self::Expired,
            E::CertNotValidYet { .. } => Self::NotYetValid,
            E::CertRevoked => Self::Revoked,
            E::UnknownRevocationStatus => Self::RevocationUnknown,
            E::CrlExpired { .. } => Self::StaleCrl,
            E::CertNotValidForName(_) => Self::WrongName,
            E::CaUsedAsEndEntity => Self::Rules("a CA certificate stands as the leaf"),
            E::EndEntityUsedAsCa => Self::Rules("an issuer is not a CA that may sign certificates"),
            E::PathLenConstraintViolated => Self::Rules("more authorities than a path length allows"),
            E::NameConstraintViolation | E::UnsupportedNameType => {
                Self::Rules("a name is outside the name constraints of its authority")
            }
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => {
                Self::Rules("the extended key usage does not allow this use")
            }
            E::UnsupportedCertVersion => Self::Rules("it is not of X.509 version 3"),
            E::UnsupportedCriticalExtension => Self::Rules("an unknown critical extension"),
            E::MaximumPathDepthExceeded
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumSignatureChecksExceeded
            | E::MaximumNameConstraintComparisonsExceeded => Self::Rules("a chain that takes too much work"),
            E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                Self::Rules("a signature algorithm or key that is not accepted")
            }
            // The enum is open: whatever else webpki finds is a certificate that cannot be read.
            _ => Self::Rules("it cannot be read"),
        }
    }
}

impl From<PeerError> for Error {
    /// The variant decides the alert that the peer gets; the cause travels along where rustls has no word for it.
    fn from(error: PeerError) -> Self {
        Self::InvalidCertificate(match error {
            PeerError::Untrusted | PeerError::NoTrust => Verdict::UnknownIssuer,
            PeerError::Expired => Verdict::Expired,
            PeerError::NotYetValid => Verdict::NotValidYet,
            PeerError::Revoked => Verdict::Revoked,
            PeerError::RevocationUnknown => Verdict::UnknownRevocationStatus,
            PeerError::StaleCrl => Verdict::ExpiredRevocationList,
            PeerError::WrongName => Verdict::NotValidForName,
            PeerError::NoCertificate
            | PeerError::NoServerName
            | PeerError::OldVersion
            | PeerError::Changed
            | PeerError::Rules(_)
            | PeerError::Identity(_) => Verdict::Other(OtherError(Arc::new(error))),
        })
    }
}

/// What rustls says about a peer's certificate, in our words; ours travel inside.
pub(crate) fn from_rustls(error: &Error) -> PeerError {
    let Error::InvalidCertificate(verdict) = error else { return PeerError::Rules("it cannot be read") };
    match verdict {
        Verdict::UnknownIssuer => PeerError::Untrusted,
        Verdict::BadSignature => PeerError::Rules("its key was not proven"),
        Verdict::Expired | Verdict::ExpiredContext { .. } => PeerError::Expired,
        Verdict::NotValidYet | Verdict::NotValidYetContext { .. } => PeerError::NotYetValid,
        Verdict::Revoked => PeerError::Revoked,
        Verdict::UnknownRevocationStatus => PeerError::RevocationUnknown,
        Verdict::ExpiredRevocationList | Verdict::ExpiredRevocationListContext { .. } => PeerError::StaleCrl,
        Verdict::NotValidForName | Verdict::NotValidForNameContext { .. } => PeerError::WrongName,
        Verdict::InvalidPurpose | Verdict::InvalidPurposeContext { .. } => {
            PeerError::Rules("the extended key usage does not allow this use")
        }
        Verdict::Other(OtherError(other)) => {
            other.downcast_ref::<PeerError>().cloned().unwrap_or(PeerError::Rules("it cannot be read"))
        }
        _ => PeerError::Rules("it cannot be read"),
    }
}
