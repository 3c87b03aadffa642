//! What stores give, and what is asked of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;

use crate::{Cause, Reference, StoreError};

/// The fields at a path, read at one time.
#[derive(Clone, Debug)]
pub struct Reading {
    /// By name. What is no text in the store (a number, a list) is here as compact JSON. An embedded value, a file and a
    /// variable have one field, `value`.
    pub fields: BTreeMap<String, SecretString>,
    /// The version of a versioned value (KV v2).
    pub version: Option<u64>,
    /// Set when the values die with a lease (database credentials).
    pub lease: Option<Lease>,
    /// When the store changes them next by itself (static database credentials): read again after this time.
    pub changes_in: Option<Duration>,
}

impl Reading {
    /// The value that a reference into this reading means.
    ///
    /// # Errors
    /// [`Cause::Absent`] for a field that is not there.
    pub fn value(&self, reference: &Reference) -> Result<SecretString, StoreError> {
        let field = reference.field();
        self.fields.get(field).cloned().ok_or_else(|| StoreError {
            store: reference.store().to_owned(),
            cause: Cause::Absent(format!("field `{field}` at `{}`", reference.path())),
        })
    }
}

/// A lease that keeps values alive until it ends, is revoked, or the login under it ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// Opaque.
    pub id: String,
    /// From the answer on.
    pub duration: Duration,
    /// Whether it can be renewed.
    pub is_renewable: bool,
    /// The login that it was acquired with ([`crate::vault::Vault::login`]): it dies with that one's token.
    pub login: u64,
}

/// A certificate that a store is asked to sign; the private key never leaves the caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateRequest {
    /// PKI mount (Vault); ignored by the embedded CA.
    pub mount: String,
    /// Role under that mount (Vault); ignored by the embedded CA.
    pub role: String,
    /// PKCS #10 in PEM, made by the caller.
    pub csr_pem: String,
    /// Subject common name; none asks for none.
    pub common_name: Option<String>,
    /// DNS subject alternative names.
    pub dns_names: Vec<String>,
    /// IP address subject alternative names.
    pub addresses: Vec<IpAddr>,
    /// URI subject alternative names (SPIFFE ids).
    pub uris: Vec<String>,
    /// How long it should live; the store may give less.
    pub ttl: Duration,
}

/// A certificate that a store signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuedCertificate {
    /// Leaf first, then its issuers up to but without a self-signed root, each signed by the next; PEM.
    pub chain_pem: String,
    /// The issuing authorities, roots included as far as the store told; PEM.
    pub authorities_pem: String,
    /// When it ends, if the store says so itself; the certificate is what counts.
    pub expires: Option<SystemTime>,
    /// What the store warned of (a capped TTL, for instance).
    pub warnings: Vec<String>,
}

/// How a store is asked to sign the input of a JWT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SigningAlgorithm {
    /// ECDSA P-256 with SHA-256, raw `r || s` (RFC 7518 section 3.4).
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

/// A signature of a store's key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signature {
    /// The raw signature, as a JWS has it before base64url.
    pub bytes: Vec<u8>,
    /// The version of the key that signed.
    pub version: u64,
}

/// The public half of one version of a store's signing key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyVersion {
    /// Counts from 1.
    pub version: u64,
    /// SubjectPublicKeyInfo in PEM (Ed25519: as Vault gives it, base64 of the 32 bytes, turned into PEM).
    pub public_key_pem: String,
}
