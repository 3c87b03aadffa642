//! The store's file on disk: read whole, replaced whole.
//!
//! `<directory>/store` is replaced by renaming `store.new` over it, both on disk before and after; `<directory>/lock` is
//! locked (`flock`) by whoever writes. The directory is made for its owner alone; one that others can write to is refused.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::Cause;

/// Where the store is.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
}

impl Disk {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(super) fn exists(&self) -> bool {
        self.path(STORE).exists()
    }

    /// The file's content; none if there is no file.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, Cause> {
        if self.metadata()?.is_none() {
            return Ok(None);
        }
        let path = self.path(STORE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed("read", &path))?,
        };
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        if bytes.len() as u64 > LARGEST {
            return Err(Cause::Local(format!("{self} is larger than {LARGEST} bytes")));
        }
        Ok(Some(bytes))
    }

    /// The right to write, for as long as the file is open; waits for whoever has it. Makes the directory.
    pub(super) fn lock(&self) -> Result<File, Cause> {
        if self.metadata()?.is_none() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
            made.map_err(failed("made", &self.directory))?;
        }
        let path = self.path("lock");
        let locked = match self.create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => existing(&path),
            created => created,
        };
        locked.and_then(|file| file.lock().map(|()| file)).map_err(failed("locked", &path))
    }

    /// Replaces the file.
    pub(super) fn replace(&self, bytes: &[u8]) -> Result<(), Cause> {
        if bytes.len() as u64 > LARGEST {
            return Err(Cause::Refused(format!("the store would be larger than {LARGEST} bytes")));
        }
        let (new, path) = (self.path("store.new"), self.path(STORE));
        let written = remove_former(&new).and_then(|()| self.create(&new)).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(failed("written", &new))?;
        fs::rename(&new, &path).map_err(failed("replaced", &path))?;
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(failed("written", &self.directory))
    }

    /// Makes a file for the owner of the directory alone; what root writes, the gateway's own user has to read. Never one that is
    /// there: in a directory of that user's it might be a link, and root would write, or give away, what the link points to.
    fn create(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let directory = fs::metadata(&self.directory)?;
        if file.metadata()?.uid() != directory.uid() {
            fchown(&file, Some(directory.uid()), Some(directory.gid()))?;
        }
        Ok(file)
    }

    /// The directory's; none if it is not there.
    fn metadata(&self) -> Result<Option<Metadata>, Cause> {
        let metadata = match fs::metadata(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(failed("read", &self.directory))?,
        };
        let directory = self.directory.display();
        if !metadata.is_dir() {
            return Err(Cause::Local(format!("`{directory}` is no directory")));
        }
        if metadata.permissions().mode() & 0o022 != 0 {
            let reason = format!("directory `{directory}` can be written by others; `chmod go-w` it");
            return Err(Cause::Local(reason));
        }
        Ok(Some(metadata))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.path(STORE).display())
    }
}

/// What an interrupted write left behind, or a link in its place.
fn remove_former(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Opens a regular file that is no link; opening alone changes nothing of what a link that came in between points to.
fn existing(path: &Path) -> io::Result<File> {
    let foreign = || io::Error::new(ErrorKind::InvalidInput, "it is a link or no regular file");
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(foreign());
    }
    let file = OpenOptions::new().write(true).open(path)?;
    let (opened, there) = (file.metadata()?, fs::symlink_metadata(path)?);
    let is_it = (opened.dev(), opened.ino()) == (there.dev(), there.ino());
    if is_it { Ok(file) } else { Err(foreign()) }
}

fn failed(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Cause {
    move |error| match error.kind() {
        ErrorKind::PermissionDenied => Cause::Denied(format!("`{}`", path.display())),
        _ => Cause::Local(format!("`{}` cannot be {verb}: {error}", path.display())),
    }
}

const STORE: &str = "store";
/// Room for some thousand values; a file that grew beyond is no store of secrets.
const LARGEST: u64 = 16 << 20;
