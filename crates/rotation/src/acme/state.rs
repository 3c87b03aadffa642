//! The directory in which accounts and certificates are kept: 0700, its files 0600, each replaced whole.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::AcmeError;

/// The directory; made when something is written to it.
#[derive(Debug)]
pub(super) struct State(PathBuf);

impl State {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// What is kept under `name`, if anything is.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, AcmeError> {
        let path = self.0.join(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("cannot be read", &path, &error)),
        };
        // The parser's own words may quote the file.
        serde_json::from_slice(&bytes).map(Some).map_err(|_| {
            AcmeError::State(format!("`{}` is not what was written there: remove it", path.display()))
        })
    }

    /// Keeps `value` under `name`: after a crash there is the old one or the new one.
    pub(super) fn write(&self, name: &str, value: &impl Serialize) -> Result<(), AcmeError> {
        self.make()?;
        let path = self.0.join(name);
        let text = serde_json::to_vec_pretty(value).map(Zeroizing::new);
        let text = text.map_err(|error| AcmeError::State(error.to_string()))?;
        let half = self.0.join(format!(".{name}.{:016x}", fastrand::u64(..)));
        let written = write_new(&half, &text)
            .and_then(|()| std::fs::rename(&half, &path))
            .and_then(|()| File::open(&self.0)?.sync_all());
        written.map_err(|error| {
            // Half a file helps nobody; it may not even be there.
            let _ = std::fs::remove_file(&half);
            failed("cannot be written", &path, &error)
        })
    }

    /// Forgets what is kept under `name`.
    pub(super) fn remove(&self, name: &str) -> Result<(), AcmeError> {
        let path = self.0.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("cannot be removed", &path, &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Waits for the lock `name`, which one holder in all processes has until it drops it.
    pub(super) async fn lock(&self, name: &str) -> Result<File, AcmeError> {
        self.make()?;
        let path = self.0.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| failed("cannot be opened", &path, &error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(TryLockError::Error(error)) => return Err(failed("cannot be locked", &path, &error)),
            }
        }
    }

    fn make(&self) -> Result<(), AcmeError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|error| failed("cannot be made", &self.0, &error))
    }
}

/// A file name that tells any two texts apart.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => slug.push(char::from(byte)),
            _ => slug.push_str(&format!("_{byte:02x}")),
        }
    }
    slug
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed(what: &str, path: &Path, error: &io::Error) -> AcmeError {
    AcmeError::State(format!("`{}` {what}: {error}", path.display()))
}

/// Another process orders for minutes; its certificate is worth the wait.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_readable_for_its_owner_only_and_leaves_nothing_half_written() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().join("acme"));
        assert_eq!(state.read::<String>("x.json").unwrap(), None);
        for value in ["one", "two"] {
            state.write("x.json", &value).unwrap();
            assert_eq!(state.read::<String>("x.json").unwrap().as_deref(), Some(value));
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state.0), 0o700);
        assert_eq!(mode(&state.0.join("x.json")), 0o600);
        assert_eq!(std::fs::read_dir(&state.0).unwrap().count(), 1);
        state.remove("x.json").unwrap();
        state.remove("x.json").unwrap();
        assert_eq!(state.read::<String>("x.json").unwrap(), None);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_named_and_not_quoted() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("x.json"), "canary").unwrap();
        let error = State::new(directory.path().to_owned()).read::<u64>("x.json").unwrap_err().to_string();
        assert!(error.contains("x.json") && !error.contains("canary"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_to_come_waits_for_the_first_to_drop_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().to_owned());
        let first = state.lock("x.lock").await.unwrap();
        let second = State::new(directory.path().to_owned());
        let waiting = tokio::time::timeout(Duration::from_secs(60), second.lock("x.lock"));
        assert!(waiting.await.is_err());
        drop(first);
        second.lock("x.lock").await.unwrap();
    }

    #[test]
    fn two_names_never_share_a_file() {
        let slugs = ["a/b", "a_b", "a-b", "A-b", "a_2fb"].map(slug);
        assert_eq!(slugs, ["a_2fb", "a_5fb", "a-b", "_41-b", "a_5f2fb"]);
    }
}
