//! A certificate chain with its private key: a whole pair or nothing.
//!
//! Passes: a PEM chain with the leaf first and each certificate signed by the next, valid now, and one unencrypted
//! key that fits the leaf. Everything else (half-written files, a key that came before its certificate, a wrong order) is
//! an error that says what was expected, so that the caller keeps the pair that it has.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use identity::certificate::inspect;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::{self, PemObject};
use x509_parser::prelude::{GeneralName, X509Certificate};
use zeroize::Zeroize;

use crate::provider::signing_key;
use crate::x509::{certificates, parse, system_time};

/// A certificate chain with its key, checked; what a listener shows and a client presents.
pub struct Credential {
    certified: Arc<CertifiedKey>,
    dns_names: Vec<Box<str>>,
    addresses: Vec<IpAddr>,
    uris: Vec<Box<str>>,
    not_before: SystemTime,
    not_after: SystemTime,
    serial: String,
    fingerprint: String,
}

/// Why a pair is not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CredentialError {
    /// The certificate file is not PEM to its end.
    #[error("the certificate file is not whole PEM ({0}): expected `CERTIFICATE` sections")]
    CertificatePem(String),
    /// The certificate file has no certificate.
    #[error("the certificate file has no `CERTIFICATE` section")]
    NoCertificate,
    /// A certificate of the chain cannot be read.
    #[error("certificate {position} of the chain cannot be read")]
    Certificate {
        /// Position in the file, from 1.
        position: usize,
    },
    /// The chain's order or content is wrong.
    #[error(
        "certificate {position} of the chain (`{subject}`) is not signed by the next one (`{next}`): \
         expected the leaf first and each issuer after what it issued"
    )]
    ChainOrder {
        /// Position in the file, from 1.
        position: usize,
        /// Its subject.
        subject: String,
        /// The subject of the certificate after it.
        next: String,
    },
    /// The leaf's time is over.
    #[error("the certificate expired at {0}")]
    Expired(String),
    /// The leaf's time has not begun.
    #[error("the certificate is not valid before {0}")]
    NotYetValid(String),
    /// The key file is not PEM to its end.
    #[error("the key file is not whole PEM: expected one private key (PKCS#8, PKCS#1 or SEC 1)")]
    KeyPem,
    /// The key file has no private key.
    #[error("the key file has no private key: expected one in PKCS#8, PKCS#1 or SEC 1")]
    NoKey,
    /// The key is encrypted.
    #[error(
        "the private key is encrypted: expected an unencrypted key in a file that only this program can read"
    )]
    EncryptedKey,
    /// More than one key in the file.
    #[error("the key file has more than one private key")]
    SeveralKeys,
    /// The provider cannot sign with this key.
    #[error(
        "the private key is of an unsupported kind: expected RSA of at least 2048 bits, ECDSA P-256 or P-384, or Ed25519"
    )]
    UnsupportedKey,
    /// The key is another certificate's.
    #[error("the private key does not belong to the certificate (serial `{serial}`)")]
    KeyMismatch {
        /// Serial number of the leaf, hexadecimal.
        serial: String,
    },
}

impl Credential {
    /// Reads a chain and its key, both PEM, as of `now`.
    ///
    /// # Errors
    /// Whatever is not a whole, fitting, currently valid pair.
    pub fn from_pem(chain: &[u8], key: &[u8], now: SystemTime) -> Result<Self, CredentialError> {
        let chain =
            certificates(chain).map_err(|error| CredentialError::CertificatePem(error.to_string()))?;
        let parsed = parse(&chain).map_err(|position| CredentialError::Certificate { position })?;
        check_order(&parsed)?;
        let leaf = parsed.first().ok_or(CredentialError::NoCertificate)?;
        let validity = leaf.validity();
        let (not_before, not_after) = (system_time(validity.not_before), system_time(validity.not_after));
        if now > not_after {
            return Err(CredentialError::Expired(validity.not_after.to_string()));
        }
        if now < not_before {
            return Err(CredentialError::NotYetValid(validity.not_before.to_string()));
        }
        let summary = inspect(leaf.as_raw()).map_err(|_| CredentialError::Certificate { position: 1 })?;
        let SubjectNames { dns_names, addresses, uris } = SubjectNames::of(leaf);
        let certified = CertifiedKey::new(chain, read_key(key)?);
        // Also a key whose public half the provider cannot tell is refused: nothing would prove the pair.
        certified
            .keys_match()
            .map_err(|_| CredentialError::KeyMismatch { serial: summary.serial.clone() })?;
        Ok(Self {
            certified: Arc::new(certified),
            dns_names,
            addresses,
            uris,
            not_before,
            not_after,
            serial: summary.serial,
            fingerprint: summary.fingerprint_sha256,
        })
    }

    /// DNS names of the leaf, lower case, wildcards as `*.example.com`.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.dns_names.iter().map(AsRef::as_ref)
    }

    /// IP addresses of the leaf.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// URIs of the leaf (SPIFFE ids), as they stand there.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.uris.iter().map(AsRef::as_ref)
    }

    /// When the leaf begins to be valid.
    #[must_use]
    pub const fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the leaf ends to be valid.
    #[must_use]
    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Serial number of the leaf, upper-case hexadecimal as `openssl x509 -serial` prints it.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// SHA-256 of the leaf's DER, lower-case hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The pair as rustls wants it.
    pub(crate) const fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Whether the leaf names exactly `name` (lower case).
    pub(crate) fn names(&self, name: &str) -> bool {
        self.dns_names.iter().any(|own| **own == *name)
    }

    /// Whether the leaf names `*.parent` (lower case).
    pub(crate) fn names_wildcard(&self, parent: &str) -> bool {
        self.dns_names.iter().any(|own| own.strip_prefix("*.") == Some(parent))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("dns_names", &self.dns_names)
            .field("serial", &self.serial)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

fn check_order(chain: &[X509Certificate<'_>]) -> Result<(), CredentialError> {
    for (index, pair) in chain.windows(2).enumerate() {
        let [issued, issuer] = pair else { continue };
        if issued.issuer().as_raw() != issuer.subject().as_raw()
            || issued.verify_signature(Some(issuer.public_key())).is_err()
        {
            return Err(CredentialError::ChainOrder {
                position: index + 1,
                subject: issued.subject().to_string(),
                next: issuer.subject().to_string(),
            });
        }
    }
    Ok(())
}

/// The subject alternative names that a leaf is asked for by.
#[derive(Default)]
struct SubjectNames {
    dns_names: Vec<Box<str>>,
    addresses: Vec<IpAddr>,
    uris: Vec<Box<str>>,
}

impl SubjectNames {
    fn of(leaf: &X509Certificate<'_>) -> Self {
        let mut own = Self::default();
        let Ok(Some(names)) = leaf.subject_alternative_name() else { return own };
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(name) => own.dns_names.push(name.to_ascii_lowercase().into()),
                GeneralName::URI(uri) => own.uris.push((*uri).into()),
                GeneralName::IPAddress(bytes) => {
                    if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
                        own.addresses.push(v4.into());
                    } else if let Ok(v6) = <[u8; 16]>::try_from(*bytes) {
                        own.addresses.push(v6.into());
                    }
                }
                _ => {}
            }
        }
        own
    }
}

fn read_key(pem: &[u8]) -> Result<Arc<dyn rustls::sign::SigningKey>, CredentialError> {
    if pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err(CredentialError::EncryptedKey);
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(pem);
    let mut key: PrivateKeyDer<'static> = match keys.next() {
        Some(Ok(key)) => key,
        Some(Err(pem::Error::NoItemsFound)) | None => return Err(CredentialError::NoKey),
        // The parser's own words may quote the file.
        Some(Err(_)) => return Err(CredentialError::KeyPem),
    };
    let signing = signing_key(&key);
    key.zeroize();
    match keys.next() {
        None => signing.map_err(|_| CredentialError::UnsupportedKey),
        Some(Ok(mut second)) => {
            second.zeroize();
            Err(CredentialError::SeveralKeys)
        }
        Some(Err(_)) => Err(CredentialError::KeyPem),
    }
}

/// Stands in the header of every encrypted key: PKCS#8 (`ENCRYPTED PRIVATE KEY`) and the old form (`Proc-Type: 4,ENCRYPTED`).
const ENCRYPTED: &[u8] = b"ENCRYPTED";
