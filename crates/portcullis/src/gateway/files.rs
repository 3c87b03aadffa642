//! The files that a configuration names: certificates, trust bundles, key sets. Read whole, judged whole.
//!
//! `check`, `run`, every reload and the watcher read them here, so that they agree.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use identity::certificate;
use identity::jwks::KeySet;
use tls::{Credential, StaleCrl, TrustOptions};
use zeroize::Zeroizing;

use crate::config::model::{CertificateFiles, Config, FileReference, Jwks, Name, NameForm, ServerTrust, Trust, WhenStale};

/// All that the files of a configuration hold.
#[derive(Debug, Default)]
pub struct Files {
    /// Certificates with their keys.
    pub credentials: BTreeMap<Name, Read<Credential>>,
    /// Trust bundles with their revocation lists.
    pub trusts: BTreeMap<Name, Read<tls::Trust>>,
    /// Key sets of issuers whose keys are in a file.
    pub keys: BTreeMap<Name, Read<KeySet>>,
}

/// A file that does not hold what it should.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {message}", reference.path.display())]
pub struct FileProblem {
    /// The file, and where the configuration names it.
    pub reference: FileReference,
    /// What is wrong; never a secret.
    pub message: String,
}

/// What files held, and a digest of it to see whether they changed.
#[derive(Debug)]
pub struct Read<T> {
    /// What they hold.
    pub value: T,
    /// SHA-256 of their bytes.
    pub digest: Digest,
}

/// SHA-256 of the bytes of some files.
pub type Digest = [u8; 32];

/// Reads every file that the configuration names.
///
/// # Errors
/// Every file that is missing or does not hold what it should.
pub fn load(config: &Config, now: SystemTime) -> Result<Files, Vec<FileProblem>> {
    let mut files = Files::default();
    let mut problems = Vec::new();
    for (name, entry) in &config.certificates {
        keep(credential(entry, now, None), name, &mut files.credentials, &mut problems);
    }
    for (name, entry) in &config.trust {
        keep(trust(name, entry, now, None), name, &mut files.trusts, &mut problems);
    }
    for (name, entry) in &config.jwt {
        if let Jwks::File(reference) = &entry.jwks {
            keep(key_set(reference, None), name, &mut files.keys, &mut problems);
        }
        if let ServerTrust::File(reference) = &entry.trust {
            problems.extend(authority(name, reference, now).err());
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

fn keep<T>(
    read: Result<Option<Read<T>>, FileProblem>,
    name: &Name,
    into: &mut BTreeMap<Name, Read<T>>,
    problems: &mut Vec<FileProblem>,
) {
    match read {
        Ok(Some(value)) => {
            into.insert(name.clone(), value);
        }
        Ok(None) => {}
        Err(problem) => problems.push(problem),
    }
}

/// A certificate with its key; none if the files still hold what they held when their digest was `seen`.
///
/// # Errors
/// A file is missing, half written, or the two do not belong together.
pub fn credential(
    files: &CertificateFiles,
    now: SystemTime,
    seen: Option<Digest>,
) -> Result<Option<Read<Credential>>, FileProblem> {
    let (chain, key) = (read(&files.certificate)?, read(&files.key)?);
    let digest = digest([chain.as_slice(), key.as_slice()]);
    if seen == Some(digest) {
        return Ok(None);
    }
    let value = Credential::from_pem(&chain, &key, now).map_err(|error| problem(&files.certificate, error))?;
    Ok(Some(Read { value, digest }))
}

/// A trust bundle with its revocation lists; none if the files still hold what they held.
///
/// # Errors
/// A file is missing, half written, or not what it should be.
pub fn trust(
    name: &Name,
    entry: &Trust,
    now: SystemTime,
    seen: Option<Digest>,
) -> Result<Option<Read<tls::Trust>>, FileProblem> {
    let ca = read(&entry.ca)?;
    let crls = entry.crl.iter().map(|crl| Ok(read(crl)?.to_vec())).collect::<Result<Vec<_>, FileProblem>>()?;
    let digest = digest([ca.as_slice()].into_iter().chain(crls.iter().map(Vec::as_slice)));
    if seen == Some(digest) {
        return Ok(None);
    }
    let names = match &entry.names {
        NameForm::Spiffe { trust_domain } => {
            certificate::NameForm::Spiffe { trust_domain: trust_domain.to_string() }
        }
        NameForm::Dns => certificate::NameForm::Dns,
        NameForm::Subject => certificate::NameForm::Subject,
    };
    let when_stale = match entry.when_stale {
        WhenStale::Accept => StaleCrl::Accept,
        WhenStale::Reject => StaleCrl::Reject,
    };
    let value = tls::Trust::from_pem(name.as_str(), &ca, &crls, TrustOptions { names, when_stale }, now)
        .map_err(|error| problem(&entry.ca, error))?;
    Ok(Some(Read { value, digest }))
}

/// The keys of a JWKS file; none if it still holds what it held.
///
/// # Errors
/// The file is missing or holds no usable key.
pub fn key_set(reference: &FileReference, seen: Option<Digest>) -> Result<Option<Read<KeySet>>, FileProblem> {
    let bytes = read(reference)?;
    let digest = digest([bytes.as_slice()]);
    if seen == Some(digest) {
        return Ok(None);
    }
    let value = KeySet::parse(&bytes).map_err(|error| problem(reference, error))?;
    Ok(Some(Read { value, digest }))
}

/// The authorities that vouch for the server which an issuer's keys are fetched from.
///
/// # Errors
/// The file is missing or holds no authority.
pub fn authority(name: &Name, reference: &FileReference, now: SystemTime) -> Result<tls::Trust, FileProblem> {
    let options = TrustOptions { names: certificate::NameForm::Dns, when_stale: StaleCrl::Reject };
    let ca = read(reference)?;
    tls::Trust::from_pem(name.as_str(), &ca, &[], options, now).map_err(|error| problem(reference, error))
}

/// Of all bytes with their lengths, so that no byte can wander from one file to the next unseen.
fn digest<B: AsRef<[u8]>>(parts: impl IntoIterator<Item = B>) -> Digest {
    let digests: Vec<u8> = parts.into_iter().flat_map(|part| identity::sha256(part.as_ref())).collect();
    identity::sha256(&digests)
}

fn problem(reference: &FileReference, error: impl std::fmt::Display) -> FileProblem {
    FileProblem { reference: reference.clone(), message: error.to_string() }
}

/// The bytes of a file, wiped after use: some are keys.
fn read(reference: &FileReference) -> Result<Zeroizing<Vec<u8>>, FileProblem> {
    read_bounded(&reference.path).map_err(|error| problem(reference, error))
}

fn read_bounded(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    if length > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    // Room for all of it at once: a buffer that grows leaves copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A revocation list of a large authority has a few megabytes.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
