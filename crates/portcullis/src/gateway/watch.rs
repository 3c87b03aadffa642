//! What changes on disk: the configuration with its policies, and the files of material.
//!
//! notify tells soon, a look every two seconds tells for certain: events get lost on some mounts, and a symlink swap
//! (Kubernetes' `..data`) shows as a change of nothing that is watched.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::config::policies;

/// Watches directories.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
    /// The names of what counts in them; a log that grows beside the configuration does not.
    names: Arc<Mutex<BTreeSet<OsString>>>,
    /// Told when something may have changed.
    pub(super) changed: Arc<Notify>,
}

impl Watch {
    /// Watches nothing yet. Without a watcher the regular look has to do.
    pub(super) fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let tell = changed.clone();
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let known = names.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| counts(&event, &known)) {
                tell.notify_one();
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "no file events here: changes are seen within {} seconds", POLL.as_secs());
        }
        Self { watcher: watcher.ok(), directories: BTreeSet::new(), names, changed }
    }

    /// Watches the directories of these files, and no others.
    pub(super) fn watch(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let files: Vec<PathBuf> = files.into_iter().collect();
        let wanted: BTreeSet<PathBuf> =
            files.iter().filter_map(|file| Some(directory(file)?.to_owned())).collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) =
            files.iter().filter_map(|file| Some(file.file_name()?.to_owned())).collect();
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.directories.difference(&wanted) {
            // It may be gone from the disk as well.
            drop(watcher.unwatch(gone));
        }
        for new in wanted.difference(&self.directories) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::debug!(directory = %new.display(), %error, "not watched");
            }
        }
        self.directories = wanted;
    }
}

/// True for a change of a file that is named, of a policy, or of what a volume's files are links to. Reading is no
/// change: otherwise every look would lead to the next.
fn counts(event: &notify::Event, names: &Mutex<BTreeSet<OsString>>) -> bool {
    let names = names.lock().unwrap_or_else(PoisonError::into_inner);
    let is_ours = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "cedar")
            || path.file_name().is_none_or(|name| names.contains(name) || name == "..data")
    };
    !event.kind.is_access() && event.paths.iter().any(is_ours)
}

/// How often files are looked at without an event.
pub(super) const POLL: Duration = Duration::from_secs(2);

/// How long to wait after an event: writers write several files, and each in several steps.
pub(super) const SETTLE: Duration = Duration::from_millis(100);

/// The fingerprint of the configuration, its policies and its core rule set as they lie there now; what can't be read counts as empty.
pub(super) fn fingerprint(file: &Path, directory: Option<&Path>, rules: Option<&Path>) -> [u8; 32] {
    let sources = directory.and_then(|directory| policies::read(directory).ok()).unwrap_or_default();
    policies::fingerprint(&std::fs::read_to_string(file).unwrap_or_default(), &sources, rules)
}

fn directory(file: &Path) -> Option<&Path> {
    if file.is_dir() {
        return Some(file);
    }
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}
