//! Certificates as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::reader::{Field, Secret};
use crate::config::values::certificate::{CertificateName, CommonName, Contact};
use crate::config::values::field::{FilePath, IssuerTrust};
use crate::config::values::network::AcmeDirectory;
use crate::config::values::pattern::{Name, SniName};
use crate::config::values::quantity::Timespan;
use crate::config::values::secret::{CertificatePart, MountPath, SecretText, VaultName};

/// A certificate with its key. Whatever it comes from, it is renewed while it serves; what does not pass its check never
/// replaces one that does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(in crate::config) enum Certificate {
    /// From PEM files, which are watched and reloaded as one pair; or from two values of a store.
    Files(Field<Secret<CertificateFiles>>),
    /// Signed by a PKI mount of Vault, for a key that is made here and never leaves.
    VaultPki(Field<VaultCertificate>),
    /// Signed by the authority of the embedded store.
    Embedded(Field<EmbeddedCertificate>),
    /// Issued over ACME (RFC 8555), as Let's Encrypt does.
    Acme(Field<AcmeCertificate>),
}

/// The parts of a certificate: two paths, relative to the configuration's directory, or two references.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CertificateFiles {
    /// The certificate and its intermediates, leaf first.
    pub(in crate::config) certificate: Field<CertificatePart>,
    /// Its private key (PKCS #8, PKCS #1 or SEC 1).
    pub(in crate::config) key: Field<CertificatePart>,
}

/// A certificate that Vault signs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct VaultCertificate {
    /// A name of `secrets.stores`.
    pub(in crate::config) store: Field<Name>,
    /// The PKI mount. Default: `pki`.
    pub(in crate::config) mount: Option<Field<MountPath>>,
    /// The role of the mount that signs.
    pub(in crate::config) role: Field<VaultName>,
    /// What the certificate is for: DNS names, IP addresses, one SPIFFE id.
    pub(in crate::config) names: Field<Vec<Field<CertificateName>>>,
    /// The subject's common name. Default: the first DNS name, if any.
    pub(in crate::config) common_name: Option<Field<CommonName>>,
    /// How long it shall live, from 10s to 398d; the role may say less. Default: 24h.
    pub(in crate::config) ttl: Option<Field<Timespan>>,
    /// The kind of key: `p256` (default), `p384` or `ed25519`.
    pub(in crate::config) key: Option<Field<KeyKind>>,
}

/// A certificate that the embedded store signs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct EmbeddedCertificate {
    /// What the certificate is for: DNS names, IP addresses, one SPIFFE id.
    pub(in crate::config) names: Field<Vec<Field<CertificateName>>>,
    /// How long it shall live, from 10s to 398d. Default: 24h.
    pub(in crate::config) ttl: Option<Field<Timespan>>,
    /// The kind of key: `p256` (default), `p384` or `ed25519`.
    pub(in crate::config) key: Option<Field<KeyKind>>,
}

/// A kind of private key.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

/// A certificate that is issued over ACME.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AcmeCertificate {
    /// The URL of the authority's directory.
    pub(in crate::config) directory: Field<AcmeDirectory>,
    /// Whom the authority writes to. Default: nobody.
    pub(in crate::config) contact: Option<Field<Vec<Field<Contact>>>>,
    /// DNS names, without wildcards.
    pub(in crate::config) names: Field<Vec<Field<SniName>>>,
    /// How control over the names is proven: `tls-alpn-01` (default) or `http-01`.
    pub(in crate::config) challenge: Option<Field<AcmeChallenge>>,
    /// Who vouches for the authority's server: `system` (default), or the path of a PEM file.
    pub(in crate::config) trust: Option<Field<IssuerTrust>>,
    /// The directory that keeps the account's key and the certificate between starts.
    pub(in crate::config) state: Field<FilePath>,
    /// The account that the authority knows already, if it asks for one.
    pub(in crate::config) external_account: Option<Field<Secret<ExternalAccount>>>,
}

/// How control over a name is proven.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
pub enum AcmeChallenge {
    /// In a handshake (RFC 8737), on the TLS listeners that use the certificate; the authority comes to port 443.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By a plain request (RFC 8555 section 8.3), on every plain or redirecting listener; the authority comes to port 80.
    #[serde(rename = "http-01")]
    Http01,
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ExternalAccount {
    /// The key's id.
    pub(in crate::config) key_id: Field<String>,
    /// The MAC key in base64url, by reference.
    pub(in crate::config) key: Field<SecretText>,
}
