//! References: how a configuration names a secret without holding it.
//!
//! **Passes:** `vault:<store>/<path>#<field>`, `embedded:<name>`, `file:<path>`, `env:<NAME>`. **Refused:** everything else,
//! with the form that was expected; the refused text may be a secret written inline and is never quoted. A file or variable
//! that is empty, too large, no text or (directory, pipe, device) no regular file is refused, never read as an empty secret.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use secrecy::SecretString;
use tracing::warn;
use zeroize::Zeroizing;

use crate::embedded::Embedded;
use crate::{Cause, Reading, StoreError};

/// Where a secret is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reference {
    /// A field at a path of a Vault store: `vault:<store>/<path>#<field>`.
    Vault {
        /// The store's name in the configuration.
        store: String,
        /// Mount and path, as `vault kv get` takes them.
        path: String,
        /// The field.
        field: String,
    },
    /// A value of the embedded store: `embedded:<name>`.
    Embedded {
        /// Its name; may hold `/`.
        name: String,
    },
    /// A file's content without the line end: `file:<path>`.
    File {
        /// Joined to the configuration's directory by whoever parsed the reference.
        path: PathBuf,
    },
    /// A variable of the gateway's environment: `env:<NAME>`.
    Env {
        /// Its name.
        name: String,
    },
}

/// Why a text is no reference; never quotes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// No known prefix: perhaps a secret that stands there itself.
    #[error(
        "not a reference: expected `vault:<store>/<path>#<field>`, `embedded:<name>`, `file:<path>` or `env:<NAME>`"
    )]
    Unknown,
    /// `vault:` without store, path or field.
    #[error("expected `vault:<store>/<path>#<field>`")]
    Vault,
    /// An empty or odd name.
    #[error("expected `embedded:<name>`: letters, digits, `.`, `_`, `-` and `/`")]
    Embedded,
    /// No path.
    #[error("expected `file:<path>`")]
    File,
    /// No variable's name.
    #[error("expected `env:<NAME>`: letters, digits and `_`")]
    Env,
}

impl Reference {
    /// Reads a reference; a relative `file:` path is joined to `directory`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, ReferenceError> {
        let (kind, rest) = text.split_once(':').ok_or(ReferenceError::Unknown)?;
        match kind {
            "vault" => vault(rest),
            "embedded" if is_name(rest) => Ok(Self::Embedded { name: rest.to_owned() }),
            "embedded" => Err(ReferenceError::Embedded),
            "file" if rest.is_empty() || rest.contains('\0') => Err(ReferenceError::File),
            "file" => Ok(Self::File { path: directory.join(rest) }),
            "env" if is_variable(rest) => Ok(Self::Env { name: rest.to_owned() }),
            "env" => Err(ReferenceError::Env),
            _ => Err(ReferenceError::Unknown),
        }
    }

    /// The store's name as errors call it.
    #[must_use]
    pub fn store(&self) -> &str {
        match self {
            Self::Vault { store, .. } => store,
            Self::Embedded { .. } => "embedded",
            Self::File { .. } => "file",
            Self::Env { .. } => "env",
        }
    }

    /// Where in the store.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Vault { path, .. } => path.clone(),
            Self::Embedded { name } | Self::Env { name } => name.clone(),
            Self::File { path } => path.display().to_string(),
        }
    }

    /// Whether one reading answers both: they differ in the field at most.
    #[must_use]
    pub fn shares_reading(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Vault { store, path, .. }, Self::Vault { store: its_store, path: its_path, .. }) => {
                store == its_store && path == its_path
            }
            _ => self == other,
        }
    }

    /// The field of the reading that is meant.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::Vault { field, .. } => field,
            Self::Embedded { .. } | Self::File { .. } | Self::Env { .. } => VALUE,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault { store, path, field } => write!(f, "vault:{store}/{path}#{field}"),
            Self::Embedded { name } => write!(f, "embedded:{name}"),
            Self::File { path } => write!(f, "file:{}", path.display()),
            Self::Env { name } => write!(f, "env:{name}"),
        }
    }
}

/// Reads what lies on this machine, a file, a variable or a value of `embedded`, as a reading with the one field `value`.
///
/// # Errors
/// As [`read_value`] and [`Embedded::read`].
pub fn read_local(reference: &Reference, embedded: Option<&Embedded>) -> Result<Reading, StoreError> {
    if let (Reference::Embedded { name }, Some(embedded)) = (reference, embedded) {
        return embedded.read(name);
    }
    let fields = [(VALUE.to_owned(), read_value(reference)?)].into();
    Ok(Reading { fields, version: None, lease: None, changes_in: None })
}

/// The value of a file or a variable. One line end at the end of a file is not part of it.
///
/// # Errors
/// A file or variable that is not there, cannot be read, is empty, too large or no text; a reference into a store.
pub fn read_value(reference: &Reference) -> Result<SecretString, StoreError> {
    let value = match reference {
        Reference::File { path } => file(path),
        Reference::Env { name } => variable(name, std::env::var_os(name)),
        Reference::Vault { .. } | Reference::Embedded { .. } => {
            Err(Cause::Refused(format!("`{reference}` is neither a file nor a variable")))
        }
    };
    value.map_err(|cause| StoreError { store: reference.store().to_owned(), cause })
}

/// The only field of a reading that has one value.
pub(crate) const VALUE: &str = "value";

/// No secret is larger; Vault's own limit for a whole answer is 32 MiB, and a chain with its key has a few KiB.
pub(crate) const LARGEST: usize = 1 << 20;

fn file(path: &Path) -> Result<SecretString, Cause> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => Cause::Absent(format!("file `{}`", path.display())),
        ErrorKind::PermissionDenied => Cause::Denied(format!("file `{}`", path.display())),
        _ => Cause::Local(format!("file `{}` cannot be read: {error}", path.display())),
    };
    let unusable = |reason: &str| Cause::Local(format!("file `{}` {reason}", path.display()));
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(unusable("is no regular file"));
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(LARGEST);
    // Room for what the file has, so that no half of it stays behind in memory when the buffer moves.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LARGEST {
        return Err(unusable(&format!("is larger than {LARGEST} bytes")));
    }
    let text = str::from_utf8(&bytes).map_err(|_| unusable("is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(Cause::Absent(format!("value in file `{}`: it is empty", path.display())));
    }
    warn_of_readers(path, &metadata);
    Ok(SecretString::from(text))
}

fn variable(name: &str, value: Option<OsString>) -> Result<SecretString, Cause> {
    let value = value.ok_or_else(|| Cause::Absent(format!("variable `{name}`")))?;
    match value.into_string() {
        Ok(text) if text.is_empty() => Err(Cause::Absent(format!("value in variable `{name}`: it is empty"))),
        Ok(text) => Ok(SecretString::from(text)),
        Err(_) => Err(Cause::Local(format!("variable `{name}` is not UTF-8 text"))),
    }
}

/// Once for each file: everybody on this machine can read it.
fn warn_of_readers(path: &Path, metadata: &fs::Metadata) {
    static WARNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if metadata.permissions().mode() & 0o004 != 0
        && WARNED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned())
    {
        warn!(path = %path.display(), "everybody on this machine can read a file that holds a secret");
    }
}

fn vault(rest: &str) -> Result<Reference, ReferenceError> {
    let (place, field) = rest.rsplit_once('#').ok_or(ReferenceError::Vault)?;
    let (store, path) = place.split_once('/').ok_or(ReferenceError::Vault)?;
    let plain = |text: &str| !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    let whole = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !is_name(store) || !plain(path) || !plain(field) || !whole || path.contains(['?', '#', '%', '\\']) {
        return Err(ReferenceError::Vault);
    }
    Ok(Reference::Vault { store: store.to_owned(), path: path.to_owned(), field: field.to_owned() })
}

pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    text.split('/').all(allowed)
}

fn is_variable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests;
