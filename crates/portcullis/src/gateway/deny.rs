//! The deny list of a running gateway: what the file says and what `portcullis deny` said, as one.
//!
//! The file is watched like all material: what makes no whole leaves the former list in force. What `portcullis deny` said
//! counts at once; with a state file it is on disk, too, before it is answered, and survives a restart. INVARIANT: an entry
//! that counts is never lost to a failure to write it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use admin::DenyChange;
use identity::deny::{Denied, DenyEntry, DenyList, MAX_ENTRIES};
use serde_json::{Value, json};
use telemetry::{Material as Kind, Metrics};
use tls::{Slot, SlotWriter};

use super::generation::Living;
use crate::config::denied::{self, written};
use crate::config::material::Loaded;

/// All that is denied, and where it was said; there is one.
#[derive(Debug)]
pub(super) struct DenyLists {
    list: SlotWriter<DenyList>,
    /// What the file said last.
    from_file: Arc<Vec<DenyEntry>>,
    /// What `portcullis deny` said.
    told: BTreeMap<Denied, DenyEntry>,
    /// Where that is kept.
    state: Option<PathBuf>,
    /// The last writing failed: it is tried again.
    is_unwritten: bool,
}

/// What a state file held that is to be used from now on.
#[derive(Debug)]
pub(super) struct Kept {
    state: Option<PathBuf>,
    entries: Vec<DenyEntry>,
}

impl DenyLists {
    pub(super) fn new() -> Self {
        Self {
            list: SlotWriter::empty(),
            from_file: Arc::default(),
            told: BTreeMap::new(),
            state: None,
            is_unwritten: false,
        }
    }

    /// What the cores read.
    pub(super) fn reader(&self) -> Slot<DenyList> {
        self.list.reader()
    }

    /// Reads the state file that the next generation names, if it is another one.
    ///
    /// # Errors
    /// A file that is there and cannot be used: whoever it denies would be let in.
    pub(super) fn open(&self, state: Option<&Path>) -> Result<Kept, String> {
        let none = Kept { state: state.map(Path::to_owned), entries: Vec::new() };
        let Some(path) = state.filter(|path| self.state.as_deref() != Some(*path)) else { return Ok(none) };
        let failed = |reason: String| format!("`identity.denied.state`: `{}`: {reason}", path.display());
        let entries = match fs::read_to_string(path) {
            Ok(text) => denied::parse(&text).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(format!("cannot be read: {error}"))),
        };
        Ok(Kept { entries, ..none })
    }

    /// Goes on with what was kept; before the generation that names it serves.
    pub(super) fn adopt(&mut self, kept: Kept, living: &Living, metrics: &Metrics, now: SystemTime) {
        let Kept { state, entries } = kept;
        let is_elsewhere = state.is_some() && state != self.state;
        self.state = state;
        let is_more = !self.told.is_empty();
        for entry in entries {
            self.told.entry(entry.denied.clone()).or_insert(entry);
        }
        self.is_unwritten |= is_elsewhere && is_more;
        self.from_file = from_file(living);
        self.publish(metrics);
        self.look(living, metrics, now);
    }

    /// Takes what the file says by now, forgets what is over, and writes what could not be written.
    pub(super) fn look(&mut self, living: &Living, metrics: &Metrics, now: SystemTime) {
        let from_file = from_file(living);
        let count = self.told.len();
        self.told.retain(|_, entry| !entry.is_over(now));
        let is_shorter = self.told.len() < count;
        if is_shorter || !Arc::ptr_eq(&from_file, &self.from_file) {
            self.from_file = from_file;
            self.publish(metrics);
        }
        if (is_shorter || self.is_unwritten)
            && let Err(reason) = self.write()
        {
            tracing::warn!(reason, "the deny list in force is not on disk: a restart would forget it");
        }
    }

    /// Does what `portcullis deny` says.
    ///
    /// # Errors
    /// An entry that names nothing, or is not there, or is one too many.
    pub(super) fn change(
        &mut self,
        change: DenyChange,
        metrics: &Metrics,
        now: SystemTime,
    ) -> Result<Value, Vec<String>> {
        let entry = |deny| denied::entry(&deny).map_err(|problem| vec![problem.to_string()]);
        match change {
            DenyChange::List => Ok(self.listed()),
            DenyChange::Add(deny) => {
                let entry = entry(deny)?;
                if entry.is_over(now) {
                    return Err(vec!["its end has passed: it would deny nothing".to_owned()]);
                }
                if self.told.len() + self.from_file.len() >= MAX_ENTRIES {
                    return Err(vec![format!("the deny list has {MAX_ENTRIES} entries: no more fit")]);
                }
                tracing::warn!(entry = %entry.denied, "denied on request");
                self.told.insert(entry.denied.clone(), entry);
                Ok(self.changed(metrics))
            }
            DenyChange::Remove(deny) => {
                let entry = entry(deny)?;
                if self.told.remove(&entry.denied).is_none() {
                    let where_else = if self.from_file.iter().any(|known| known.denied == entry.denied) {
                        ": it stands in the file `identity.denied.file`, remove it there"
                    } else {
                        ""
                    };
                    return Err(vec![format!("no such entry{where_else}")]);
                }
                tracing::warn!(entry = %entry.denied, "no longer denied on request");
                Ok(self.changed(metrics))
            }
        }
    }

    /// How many entries there are, and whether those of `portcullis deny` survive a restart.
    pub(super) fn status(&self) -> Value {
        json!({ "file": self.from_file.len(), "socket": self.told.len(), "kept": self.is_kept() })
    }

    fn is_kept(&self) -> bool {
        self.state.is_some() && !self.is_unwritten
    }

    fn listed(&self) -> Value {
        let listed = |source: &'static str| move |entry: &DenyEntry| json!({ "source": source, "entry": written(entry) });
        let entries: Vec<Value> = self
            .from_file
            .iter()
            .map(listed("file"))
            .chain(self.told.values().map(listed("socket")))
            .collect();
        json!({ "entries": entries, "kept": self.is_kept() })
    }

    /// In force first, then on disk.
    fn changed(&mut self, metrics: &Metrics) -> Value {
        self.publish(metrics);
        self.is_unwritten = true;
        let reason = match self.write() {
            Ok(()) if self.state.is_some() => None,
            Ok(()) => Some("no `identity.denied.state` is configured".to_owned()),
            Err(reason) => Some(reason),
        };
        json!({ "entries": self.told.len() + self.from_file.len(), "kept": reason.is_none(), "reason": reason })
    }

    fn publish(&mut self, metrics: &Metrics) {
        let list = DenyList::new(self.from_file.iter().chain(self.told.values()));
        if list.is_empty() {
            self.list.withdraw();
        } else {
            self.list.publish(Arc::new(list));
        }
        let count = |entries: usize| u64::try_from(entries).unwrap_or(u64::MAX);
        metrics.deny_entries(vec![("file", count(self.from_file.len())), ("socket", count(self.told.len()))]);
    }

    /// Writes what `portcullis deny` said to the state file, if there is one: whole or not at all.
    fn write(&mut self) -> Result<(), String> {
        if let Some(state) = &self.state {
            let text = json!({ "denied": self.told.values().map(written).collect::<Vec<_>>() });
            let done = replace(state, format!("{text:#}\n").as_bytes());
            done.map_err(|error| format!("`{}` cannot be written: {error}", state.display()))?;
        }
        self.is_unwritten = false;
        Ok(())
    }
}

fn from_file(living: &Living) -> Arc<Vec<DenyEntry>> {
    living.denied.as_ref().and_then(|held| held.reader().load()).unwrap_or_default()
}

/// Publishes the list that was loaded with the configuration.
pub(super) fn publish_file(
    living: &Living,
    loaded: Option<&Loaded<Arc<Vec<DenyEntry>>>>,
    metrics: &Metrics,
    now: SystemTime,
) {
    if let (Some(held), Some(loaded)) = (&living.denied, loaded) {
        if !held.holds(&loaded.digest) {
            held.publish(Arc::clone(&loaded.value), loaded.digest);
        }
        metrics.material_loaded(Kind::DenyList, NAME, now, None);
    }
}

/// What the file is called where each file has a name.
pub(super) const NAME: &str = "denied";

/// A reader sees the former file or this one, also after a power cut.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let half = path.with_extension(format!("{}.half", std::process::id()));
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half).and_then(
            |mut file| {
                file.write_all(bytes)?;
                file.sync_all()?;
                fs::rename(&half, path)
            },
        );
    if written.is_err() {
        // It may be gone already.
        let _ = fs::remove_file(&half);
    }
    written?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;
