//! The core rule set: read with the configuration, and only when it is another one than before.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use identity::sha256;
use waf::Rules;

use super::finding::Finding;
use super::model::Config;

/// Reads the rules that `config` names.
pub(super) fn load(config: &Config, findings: &mut Vec<Finding>) -> Option<Arc<Rules>> {
    let reference = &config.waf.as_ref()?.rules;
    let found = stamp(&reference.path);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = &*known
        && known.path == reference.path
        && known.stamp == found
        && let Some(rules) = known.rules.upgrade()
    {
        return Some(rules);
    }
    match Rules::load(&reference.path) {
        Ok(rules) => {
            let rules = Arc::new(rules);
            let path = reference.path.clone();
            *known = Some(Known { path, stamp: found, rules: Arc::downgrade(&rules) });
            Some(rules)
        }
        Err(error) => {
            findings.push(Finding::error(reference.span, error.to_string()));
            None
        }
    }
}

/// Stands for what lies in a directory of rules: files that are replaced or written to make another one. What is not there counts as empty.
#[must_use]
pub fn stamp(directory: &Path) -> [u8; 32] {
    let mut files: Vec<PathBuf> = [directory.to_owned(), directory.join("rules")]
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let Ok(data) = fs::metadata(&file) else { continue };
        all.extend(sha256(file.as_os_str().as_encoded_bytes()));
        for number in
            [data.ino(), data.size(), data.mtime().cast_unsigned(), data.mtime_nsec().cast_unsigned()]
        {
            all.extend(number.to_le_bytes());
        }
    }
    sha256(&all)
}

/// Reading takes about a second of a core: a reload that does not touch the rules takes those that serve.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// Rules that were read, for as long as somebody holds them.
struct Known {
    path: PathBuf,
    stamp: [u8; 32],
    rules: Weak<Rules>,
}
