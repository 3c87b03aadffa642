//! What the files that a configuration names hold: certificates with keys, trust bundles with revocation lists, key
//! sets. The same functions read them at start, at every check and whenever a file changes, so that all agree.
//!
//! **Passes:** a pair that fits, a bundle whose lists are signed by its authorities, a key set with a usable key.
//! **Refused:** the rest, with a reason that never quotes what a file holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use identity::certificate::NameForm as CertificateNames;
use identity::deny::DenyEntry;
use identity::jwks::KeySet;
use identity::sha256;
use tls::{Credential, StaleCrl, TrustOptions};
use zeroize::Zeroizing;

use super::denied::DenyFile;
use super::finding::Finding;
use super::model::{
    CertificateFiles, CertificateSource, Config, FileReference, Jwks, Name, NameForm, ServerTrust, Trust,
    TrustSource, WhenStale,
};
use super::problem::Span;

/// Everything that files gave, by entry.
#[derive(Debug, Default)]
pub struct Material {
    /// Certificates with their keys.
    pub certificates: BTreeMap<Name, Loaded<Arc<Credential>>>,
    /// Trust bundles.
    pub trust: BTreeMap<Name, Loaded<Arc<tls::Trust>>>,
    /// Key sets of issuers whose keys are in a file.
    pub keys: BTreeMap<Name, Loaded<KeySet>>,
    /// The entries of the deny list's file.
    pub denied: Option<Loaded<Arc<Vec<DenyEntry>>>>,
}

/// Material, and a digest of the bytes that it was read from: the same bytes need not be read again.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The material.
    pub value: T,
    /// Of all its files.
    pub digest: [u8; 32],
}

/// Why files gave no material.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct MaterialError {
    /// The reference that is to blame, as far as can be told.
    pub reference: FileReference,
    /// What is wrong; quotes no content.
    pub reason: String,
}

/// Something that is made from files as a whole.
pub trait FromFiles {
    /// What it is made into.
    type Value;

    /// The files, in the order in which [`FromFiles::parse`] takes them.
    fn files(&self) -> Vec<&FileReference>;

    /// Makes it from the files' bytes.
    ///
    /// # Errors
    /// Bytes that do not make a whole.
    fn parse(&self, bytes: &[Zeroizing<Vec<u8>>], now: SystemTime) -> Result<Self::Value, MaterialError>;
}

/// The bytes of files, wiped when dropped, since they may be keys.
pub struct Bytes {
    files: Vec<Zeroizing<Vec<u8>>>,
    /// Of all of them.
    pub digest: [u8; 32],
}

/// A trust entry and its name, which the principals of its certificates carry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedTrust {
    /// The name.
    pub name: Name,
    /// The entry.
    pub entry: Trust,
}

/// The authorities that vouch for a server which the gateway itself asks: a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustFile(pub FileReference);

/// A key set in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyFile(pub FileReference);

impl Bytes {
    /// Reads the files of something.
    ///
    /// # Errors
    /// Every file that cannot be read; at least one.
    pub fn read(of: &impl FromFiles) -> Result<Self, Vec<MaterialError>> {
        let (read, errors): (Vec<_>, Vec<_>) = of.files().into_iter().map(read).partition(Result::is_ok);
        if !errors.is_empty() {
            return Err(errors.into_iter().filter_map(Result::err).collect());
        }
        let files: Vec<_> = read.into_iter().flatten().collect();
        let digest = digest(&files);
        Ok(Self { files, digest })
    }

    /// Makes it of these bytes.
    ///
    /// # Errors
    /// Bytes that do not make a whole.
    pub fn parse<F: FromFiles>(&self, of: &F, now: SystemTime) -> Result<Loaded<F::Value>, MaterialError> {
        Ok(Loaded { value: of.parse(&self.files, now)?, digest: self.digest })
    }
}

impl Material {
    /// Loads what `config` names; what does not load is a finding.
    pub(super) fn load(config: &Config, now: SystemTime) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut material = Self::default();
        for (name, source) in &config.certificates {
            let CertificateSource::Files(files) = source else { continue };
            material.certificates.extend(load(name, files, now, &mut findings));
        }
        for (name, entry) in &config.trust {
            let TrustSource::Files { .. } = entry.source else { continue };
            let named = NamedTrust { name: name.clone(), entry: entry.clone() };
            material.trust.extend(load(name, &named, now, &mut findings));
        }
        for (name, issuer) in &config.jwt {
            if let Jwks::File(reference) = &issuer.jwks {
                material.keys.extend(load(name, &KeyFile(reference.clone()), now, &mut findings));
            }
            if let ServerTrust::File(reference) = &issuer.trust
                && let Err(error) = server_trust(reference, now)
            {
                findings.push(finding(error));
            }
        }
        if let Some(reference) = &config.denied.file {
            material.denied = take(&DenyFile(reference.clone()), now, &mut findings);
        }
        (material, findings)
    }
}

impl FromFiles for CertificateFiles {
    type Value = Arc<Credential>;

    fn files(&self) -> Vec<&FileReference> {
        vec![&self.certificate, &self.key]
    }

    fn parse(&self, bytes: &[Zeroizing<Vec<u8>>], now: SystemTime) -> Result<Arc<Credential>, MaterialError> {
        let (chain, key) = match bytes {
            [chain, key] => (chain, key),
            _ => return Err(MaterialError::new(&self.certificate, "a file is missing")),
        };
        Credential::from_pem(chain, key, now).map(Arc::new).map_err(|error| {
            MaterialError::new(&self.certificate, format!("with {}: {error}", shown(&self.key)))
        })
    }
}

impl FromFiles for NamedTrust {
    type Value = Arc<tls::Trust>;

    fn files(&self) -> Vec<&FileReference> {
        match &self.entry.source {
            TrustSource::Files { ca, crl } => std::iter::once(ca).chain(crl).collect(),
            TrustSource::Pki { .. } => Vec::new(),
        }
    }

    fn parse(&self, bytes: &[Zeroizing<Vec<u8>>], now: SystemTime) -> Result<Arc<tls::Trust>, MaterialError> {
        let (files, bytes) = (self.files(), bytes.split_first());
        let nothing = FileReference { path: PathBuf::new(), span: Span::default() };
        let file = files.first().copied().unwrap_or(&nothing);
        let (ca, lists) = bytes.ok_or_else(|| MaterialError::new(file, "a file is missing"))?;
        let lists: Vec<Vec<u8>> = lists.iter().map(|list| list.to_vec()).collect();
        let trust = tls::Trust::from_pem(self.name.as_str(), ca, &lists, trust_options(&self.entry), now);
        trust.map(Arc::new).map_err(|error| MaterialError::new(file, error.to_string()))
    }
}

/// What a trust entry asks of certificates and lists, wherever they come from.
#[must_use]
pub fn trust_options(entry: &Trust) -> TrustOptions {
    TrustOptions {
        names: match &entry.names {
            NameForm::Spiffe { trust_domain } => {
                CertificateNames::Spiffe { trust_domain: trust_domain.to_string() }
            }
            NameForm::Dns => CertificateNames::Dns,
            NameForm::Subject => CertificateNames::Subject,
        },
        when_stale: match entry.when_stale {
            WhenStale::Reject => StaleCrl::Reject,
            WhenStale::Accept => StaleCrl::Accept,
        },
    }
}

impl FromFiles for TrustFile {
    type Value = Arc<tls::Trust>;

    fn files(&self) -> Vec<&FileReference> {
        vec![&self.0]
    }

    fn parse(&self, bytes: &[Zeroizing<Vec<u8>>], now: SystemTime) -> Result<Arc<tls::Trust>, MaterialError> {
        let pem = bytes.first().ok_or_else(|| MaterialError::new(&self.0, "a file is missing"))?;
        let options = TrustOptions { names: CertificateNames::Dns, when_stale: StaleCrl::Reject };
        let trust = tls::Trust::from_pem("server", pem, &[], options, now);
        trust.map(Arc::new).map_err(|error| MaterialError::new(&self.0, error))
    }
}

impl FromFiles for KeyFile {
    type Value = KeySet;

    fn files(&self) -> Vec<&FileReference> {
        vec![&self.0]
    }

    fn parse(&self, bytes: &[Zeroizing<Vec<u8>>], _: SystemTime) -> Result<KeySet, MaterialError> {
        let json = bytes.first().ok_or_else(|| MaterialError::new(&self.0, "a file is missing"))?;
        KeySet::parse(json).map_err(|error| MaterialError::new(&self.0, error.to_string()))
    }
}

impl MaterialError {
    pub(crate) fn new(reference: &FileReference, reason: impl std::fmt::Display) -> Self {
        Self { reference: reference.clone(), reason: format!("{}: {reason}", shown(reference)) }
    }
}

/// The authorities of a [`TrustFile`], read now.
///
/// # Errors
/// A file that cannot be read or holds no authority.
pub fn server_trust(reference: &FileReference, now: SystemTime) -> Result<Arc<tls::Trust>, MaterialError> {
    TrustFile(reference.clone()).parse(&[read(reference)?], now)
}

fn load<F: FromFiles>(
    name: &Name,
    of: &F,
    now: SystemTime,
    findings: &mut Vec<Finding>,
) -> Option<(Name, Loaded<F::Value>)> {
    Some((name.clone(), take(of, now, findings)?))
}

fn take<F: FromFiles>(of: &F, now: SystemTime, findings: &mut Vec<Finding>) -> Option<Loaded<F::Value>> {
    let loaded = Bytes::read(of).and_then(|bytes| bytes.parse(of, now).map_err(|error| vec![error]));
    match loaded {
        Ok(loaded) => Some(loaded),
        Err(errors) => {
            findings.extend(errors.into_iter().map(finding));
            None
        }
    }
}

/// The bytes of a file; they are wiped when dropped, since they may be a key.
fn read(reference: &FileReference) -> Result<Zeroizing<Vec<u8>>, MaterialError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = open(&reference.path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| MaterialError::new(reference, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(MaterialError::new(reference, format!("larger than {LARGEST} bytes")));
    }
    Ok(bytes)
}

/// A directory or a pipe in the place of a file would hang or err later and less clearly.
fn open(path: &Path) -> std::io::Result<File> {
    if path.metadata()?.is_file() { File::open(path) } else { Err(std::io::Error::other("it is no file")) }
}

fn finding(error: MaterialError) -> Finding {
    Finding::error(error.reference.span, error.reason)
}

fn shown(reference: &FileReference) -> String {
    format!("`{}`", reference.path.display())
}

/// Each file with its length, so that bytes cannot move from one to the next unseen.
fn digest(files: &[Zeroizing<Vec<u8>>]) -> [u8; 32] {
    let mut all = Zeroizing::new(Vec::new());
    for bytes in files {
        all.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        all.extend_from_slice(bytes);
    }
    sha256(&all)
}

/// Larger than any bundle or revocation list that is in use, small enough to be read in one go.
const LARGEST: u64 = 32 << 20;
