//! What `portcullis cert inspect` shows.

use serde::Serialize;

use super::CertificateError;

/// The facts of one certificate, readable, nothing judged.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CertificateSummary {
    /// The subject as RFC 4514 writes it.
    pub subject: String,
    /// The issuer as RFC 4514 writes it.
    pub issuer: String,
    /// The serial number in upper-case hexadecimal.
    pub serial: String,
    /// When it starts to be valid (RFC 3339, UTC).
    pub not_before: String,
    /// When it ends (RFC 3339, UTC).
    pub not_after: String,
    /// The subject alternative names, each as `DNS:…`, `URI:…`, `IP:…`, `email:…` or `other:…`.
    pub names: Vec<String>,
    /// The kind of the public key.
    pub key: KeyAlgorithm,
    /// The size of the public key in bits; 0 if unknown.
    pub key_bits: usize,
    /// KeyUsage by its RFC 5280 names; `None` if the extension is absent.
    pub key_usage: Option<Vec<&'static str>>,
    /// ExtendedKeyUsage by its RFC 5280 names, others as object identifiers; `None` if absent.
    pub extended_key_usage: Option<Vec<String>>,
    /// Whether basicConstraints says CA.
    pub is_ca: bool,
    /// SHA-256 of the DER in lower-case hexadecimal.
    pub fingerprint_sha256: String,
    /// The SPIFFE id, if the certificate has exactly one URI name and that is one.
    pub spiffe: Option<String>,
}

/// The kind of a public key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAlgorithm {
    /// RSA.
    Rsa,
    /// An elliptic curve.
    Ec,
    /// Ed25519.
    Ed25519,
    /// Any other.
    Other,
}

/// Reads one certificate (DER).
///
/// # Errors
/// [`CertificateError::Malformed`] if it is none.
pub fn inspect(der: &[u8]) -> Result<CertificateSummary, CertificateError> {
    let _ = der;
    Err(CertificateError::Malformed)
}
