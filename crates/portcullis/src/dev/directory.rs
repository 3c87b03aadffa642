//! The directory where a development setting is made and kept: readable by its owner only, ignored by git.
//!
//! Files appear whole or not at all, so that a gateway which watches them never reads half of one.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::DevError;

/// A directory that is there, by its absolute path.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Readers {
    /// Its owner: keys and tokens.
    Owner,
    /// Whoever may enter the directory.
    All,
}

impl Directory {
    /// Opens a directory, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, DevError> {
        let failed = |reason| DevError::File { path: path.to_owned(), reason };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let directory = Self(path.canonicalize().map_err(failed)?);
        // Keys and tokens lie here, perhaps within somebody's checkout.
        directory.write_new(".gitignore", "*\n", Readers::All)?;
        Ok(directory)
    }

    /// Where the file of this name lies.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    /// What stands in a file; nothing if there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, DevError> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(reason) => Err(self.failed(name, reason)),
        }
    }

    /// Writes a file, whatever it was before.
    pub(super) fn write(&self, name: &str, text: &str, readers: Readers) -> Result<(), DevError> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|reason| self.failed(name, reason))?;
        }
        let mode = match readers {
            Readers::Owner => 0o600,
            Readers::All => 0o644,
        };
        let half = path.with_added_extension("new");
        let written = remove(&half)
            .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(mode).open(&half))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&half, &path));
        written.map_err(|reason| self.failed(name, reason))
    }

    /// Writes a file that is not there yet; one that is stays as it is.
    pub(super) fn write_new(&self, name: &str, text: &str, readers: Readers) -> Result<(), DevError> {
        if self.path(name).exists() { Ok(()) } else { self.write(name, text, readers) }
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), DevError> {
        remove(&self.path(name)).map_err(|reason| self.failed(name, reason))
    }

    fn failed(&self, name: &str, reason: io::Error) -> DevError {
        DevError::File { path: self.path(name), reason }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(reason),
        _ => Ok(()),
    }
}
