//! The part of the checked configuration that is about secrets and what is made from them: stores, references, sources of
//! certificates and trust, credentials for upstreams, minted tokens.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::header::HeaderName;
use secrets::embedded::Opener;
use secrets::reference::read_value;
use secrets::vault::Login;
use secrets::{Reference, StoreError};
use url::Url;

use super::model::{CertificateFiles, FileReference, Name, ServerTrust};
use super::problem::Span;
pub use super::raw::certificate::{AcmeChallenge, KeyKind};
use super::values::network::VaultAddress;
use super::values::{Misread, Word as _};

/// A secret by reference, and where the configuration names it.
#[derive(Clone, Debug)]
pub struct SecretReference {
    /// Where the secret is; the store of a `vault:` reference is configured, and there is a store for `embedded:`.
    pub reference: Reference,
    /// Where the configuration names it.
    pub span: Span,
}

impl PartialEq for SecretReference {
    fn eq(&self, other: &Self) -> bool {
        self.reference == other.reference
    }
}

impl Eq for SecretReference {}

/// Where something stands. A configuration says the same wherever it says it: all places are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct At(pub Span);

impl PartialEq for At {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for At {}

/// A store of secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretStore {
    /// A Vault or OpenBao cluster.
    Vault(Box<VaultStore>),
    /// The store on this machine.
    Embedded(EmbeddedStore),
}

/// A Vault or OpenBao cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VaultStore {
    /// Its nodes.
    pub addresses: VaultAddresses,
    /// `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// Who vouches for its servers.
    pub trust: ServerTrust,
    /// What the login shows; its references are `file:`, `env:` or `embedded:`.
    pub login: Login,
    /// The client certificate of `login: { certificate: … }`.
    pub certificate: Option<CertificateFiles>,
    /// For each request.
    pub timeout: Duration,
    /// Where the configuration says what its login shows.
    pub at: At,
}

/// Where a cluster is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum VaultAddresses {
    /// Its nodes, at least one; all `https`, or `http` to this machine.
    Nodes(Vec<Url>),
    /// A variable of the environment that holds the address.
    Variable {
        /// Its name.
        name: String,
        /// Where the configuration says it.
        at: At,
    },
}

impl VaultAddresses {
    /// The addresses, at least one; a variable is read now.
    ///
    /// # Errors
    /// A variable that is not there or holds no such address: where it is named, and why.
    pub fn resolve(&self) -> Result<Vec<Url>, (Span, String)> {
        match self {
            Self::Nodes(nodes) => Ok(nodes.clone()),
            Self::Variable { name, at } => {
                let failed = |reason: &str| (at.0, format!("variable `{name}` {reason}"));
                let text = std::env::var(name).map_err(|_| failed("is not set"))?;
                match VaultAddress::parse(&text) {
                    Ok(address) => Ok(vec![address.0]),
                    Err(Misread::Because(reason)) => Err(failed(&format!("holds no address: {reason}"))),
                    Err(Misread::Other) => Err(failed(&format!("does not hold {}", VaultAddress::EXPECTED))),
                }
            }
        }
    }
}

/// The store on this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EmbeddedStore {
    /// Its directory.
    pub directory: PathBuf,
    /// What opens it: `file:` or `env:`.
    pub opener: StoreOpener,
}

/// What opens the embedded store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreOpener {
    /// A key of 32 bytes, base64; a systemd credential is the file of its name in `$CREDENTIALS_DIRECTORY`, which stands in
    /// the path as it is where systemd has not set it.
    Key(SecretReference),
    /// A passphrase.
    Passphrase(SecretReference),
}

impl StoreOpener {
    /// Where the key or passphrase is.
    #[must_use]
    pub const fn reference(&self) -> &SecretReference {
        match self {
            Self::Key(reference) | Self::Passphrase(reference) => reference,
        }
    }

    /// The key or passphrase, read now.
    ///
    /// # Errors
    /// A file or variable that gives none.
    pub fn read(&self) -> Result<Opener, StoreError> {
        let secret = read_value(&self.reference().reference)?;
        Ok(match self {
            Self::Key(_) => Opener::Key(secret),
            Self::Passphrase(_) => Opener::Passphrase(secret),
        })
    }
}

/// Where a certificate comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateSource {
    /// Files that are watched.
    Files(CertificateFiles),
    /// Values of stores, read again while they live.
    Held {
        /// The chain, PEM, leaf first.
        certificate: SecretReference,
        /// The private key, PEM.
        key: SecretReference,
    },
    /// Signed by Vault PKI or by the embedded authority for a key that is made here.
    Pki(PkiCertificate),
    /// Issued over ACME (RFC 8555).
    Acme(AcmeCertificate),
}

/// A certificate that a store signs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PkiCertificate {
    /// The store.
    pub store: Name,
    /// The PKI mount; empty for the embedded authority.
    pub mount: String,
    /// The role; empty for the embedded authority.
    pub role: String,
    /// The subject's common name; by default the first DNS name.
    pub common_name: Option<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// URIs (SPIFFE ids).
    pub uris: Vec<String>,
    /// How long it should live.
    pub ttl: Duration,
    /// The kind of key.
    pub key: KeyKind,
    /// Where the configuration says it.
    pub at: At,
}

/// A certificate that is issued over ACME.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AcmeCertificate {
    /// The directory of the authority.
    pub directory: Url,
    /// Who vouches for its server.
    pub trust: ServerTrust,
    /// Contacts (`mailto:…`).
    pub contact: Vec<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// How control over the names is proven.
    pub challenge: AcmeChallenge,
    /// Where the account's key and the certificate are kept between starts: a directory.
    pub state: FileReference,
    /// External account binding.
    pub external_account: Option<ExternalAccount>,
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExternalAccount {
    /// The key's id.
    pub key_id: String,
    /// The MAC key, base64url.
    pub key: SecretReference,
}

/// Where trust comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TrustSource {
    /// Files that are watched.
    Files {
        /// CA certificates.
        ca: FileReference,
        /// Revocation lists.
        crl: Vec<FileReference>,
    },
    /// The authorities of a PKI mount or of the embedded authority.
    Pki {
        /// The store.
        store: Name,
        /// The mount; empty for the embedded authority.
        mount: String,
        /// Whether its revocation list is fetched and required.
        crl: bool,
        /// Where the configuration says it.
        at: At,
    },
}

/// What the gateway shows an upstream in a field of every request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UpstreamCredentials {
    /// `Authorization: Bearer …`.
    Bearer(SecretReference),
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user; both come from one reading if they are fields at one path.
        username: SecretReference,
        /// The password.
        password: SecretReference,
    },
    /// A field of its own.
    Field {
        /// Its name.
        name: HeaderName,
        /// Its value.
        value: SecretReference,
    },
}

/// Short tokens that the gateway mints for upstreams.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MintedTokens {
    /// The `iss` claim.
    pub issuer: String,
    /// What signs.
    pub signer: TokenSigner,
    /// How long a token lives at most.
    pub ttl: Duration,
    /// Scopes that policies may grant (`Action::"grant"` on `Scope::"name"`).
    pub scopes: Vec<String>,
    /// Listeners that serve the keys too, beside the admin listener.
    pub jwks_on: Vec<Name>,
    /// The path of the keys on those listeners.
    pub jwks_path: String,
}

/// What signs minted tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TokenSigner {
    /// A P-256 key that the gateway makes at its start.
    Local,
    /// A private key in PEM (PKCS #8, P-256 or Ed25519).
    Key(SecretReference),
    /// A key that stays in Vault (transit).
    Transit {
        /// The store.
        store: Name,
        /// The mount, `transit` by default.
        mount: String,
        /// The key.
        key: String,
        /// Where the configuration says it.
        at: At,
    },
}
