//! Peer certificates: what path validation leaves open, and the name that a certificate proves.
//!
//! Run after webpki has validated the path, and again for every resumed session, whose certificates webpki does not see.
//! Passes: a leaf for client (or server) authentication with `digitalSignature`, issuers that may sign certificates, all
//! within their validity, and exactly one name of the form that the trust entry asks for. One form never stands in for
//! another. Refused: everything else, each with its own [`CertificateError`]. Signatures, name constraints and revocation
//! are not looked at: they are webpki's.

mod distinguished_name;
mod summary;
#[cfg(test)]
mod tests;
mod vet;

use std::sync::Arc;
use std::time::SystemTime;

use crate::{Principal, SpiffeId, SpiffeIdError};

pub use summary::{CertificateSummary, KeyAlgorithm, inspect};
pub use vet::{vet_client, vet_server};

/// Which name of a client certificate is the caller's; a trust entry's `names`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NameForm {
    /// The one URI SAN, a SPIFFE id of a workload in this trust domain.
    Spiffe {
        /// The only trust domain that is accepted, lower case.
        trust_domain: String,
    },
    /// The one DNS SAN.
    Dns,
    /// The distinguished name of the subject.
    Subject,
}

/// Whom an upstream must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerIdentity {
    /// A DNS name, which webpki has compared already.
    Dns(String),
    /// Exactly this SPIFFE id.
    Spiffe(SpiffeId),
}

/// A client certificate that was vetted: who it is, and the facts that logs, policies and headers show.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerCertificate {
    /// Whom the certificate names.
    pub principal: Arc<Principal>,
    /// The leaf's serial number in upper-case hexadecimal, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// When the leaf starts to be valid.
    pub not_before: SystemTime,
    /// When the first of the presented certificates ends: the end of everything that this proof allows.
    pub not_after: SystemTime,
    /// SHA-256 of the leaf's DER; also what RFC 8705 calls `x5t#S256`.
    pub fingerprint_sha256: [u8; 32],
    /// The subject as RFC 4514 writes it, in printable ASCII only: everything else is escaped.
    pub subject: String,
    /// The leaf's issuer, likewise.
    pub issuer: String,
    /// The URI SAN, if there is exactly one and it is printable ASCII.
    pub uri: Option<String>,
    /// The DNS SANs that are host names or wildcards over one, in lower case; others could match nothing and are left out.
    pub dns: Vec<String>,
}

/// Why a certificate is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// No certificate, where one is vetted.
    #[error("no certificate was presented")]
    Missing,
    /// More certificates than a path may have.
    #[error("more than {} certificates were presented", vet::MAX_CHAIN)]
    ChainTooLong,
    /// Not a DER certificate, or one that carries more after its end.
    #[error("certificate cannot be read")]
    Malformed,
    /// One extension stands twice (RFC 5280 section 4.2).
    #[error("certificate has an extension twice")]
    DuplicateExtension,
    /// An extension that decides about usage or names cannot be read.
    #[error("certificate has an extension that cannot be read")]
    MalformedExtension,
    /// `notAfter` of a presented certificate has passed.
    #[error("certificate has expired")]
    Expired,
    /// `notBefore` of a presented certificate is still to come.
    #[error("certificate is not valid yet")]
    NotYetValid,
    /// The leaf is a CA certificate (X.509-SVID section 4.1).
    #[error("peer certificate is a certificate authority's")]
    LeafIsAuthority,
    /// The leaf's KeyUsage lacks `digitalSignature` (RFC 5280 section 4.2.1.3).
    #[error("peer certificate's key usage lacks digitalSignature")]
    KeyUsage,
    /// The leaf's ExtendedKeyUsage lacks the purpose it is presented for (RFC 5280 section 4.2.1.12).
    #[error("peer certificate's extended key usage does not allow this side of the connection")]
    ExtendedKeyUsage,
    /// An RSA key of fewer than 2048 bits.
    #[error("peer certificate's key is too small")]
    WeakKey,
    /// An issuer without `basicConstraints CA:TRUE` (RFC 5280 section 4.2.1.9).
    #[error("an issuing certificate is not a certificate authority's")]
    IssuerNotAuthority,
    /// An issuer that may not sign certificates (RFC 5280 section 4.2.1.3).
    #[error("an issuing certificate's key usage lacks keyCertSign")]
    IssuerKeyUsage,
    /// No name of the form that the trust entry asks for.
    #[error("certificate has no name of the form that its trust entry asks for")]
    NameMissing,
    /// Several names where exactly one may stand.
    #[error("certificate has several names of the form that its trust entry asks for")]
    NameAmbiguous,
    /// The URI SAN is not a workload's SPIFFE id.
    #[error("certificate's URI name is refused: {0}")]
    Spiffe(#[from] SpiffeIdError),
    /// A SPIFFE id of another trust domain.
    #[error("certificate's spiffe id is of another trust domain")]
    TrustDomain,
    /// The DNS SAN is a wildcard or no valid host name.
    #[error("certificate's DNS name cannot be an identity")]
    DnsName,
    /// The subject is longer than a principal's name may be.
    #[error("certificate's subject is too long")]
    SubjectTooLong,
    /// A server that is not the expected one.
    #[error("certificate names another server than the expected one")]
    WrongServer,
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
