//! `portcullis drill vault-down`: the gateway's own path to Vault is cut for a time, and it says what ends before that.

use std::time::{Duration, SystemTime};

use admin::Drill;
use secrets::Store;
use serde_json::{Value, json};

use super::reload::Reloader;
use super::status::{left, timestamp};

/// Begins a drill (or ends one, with zero seconds), and forecasts from what is held now.
///
/// # Errors
/// A store that there is not, no Vault store at all, or a time that is too long.
pub(super) fn begin(reloader: &Reloader, drill: &Drill, now: SystemTime) -> Result<Value, Vec<String>> {
    if drill.seconds > LONGEST {
        return Err(vec![format!("a drill lasts at most {LONGEST} seconds")]);
    }
    let stores: Vec<_> = reloader
        .living
        .stores
        .iter()
        .filter(|(name, _)| drill.store.as_deref().is_none_or(|wanted| wanted == name.as_str()))
        .filter_map(|(name, living)| match &living.store {
            Store::Vault(vault) => Some((name, living.id, vault)),
            Store::Embedded(_) => None,
        })
        .collect();
    if stores.is_empty() {
        return Err(vec![match &drill.store {
            Some(name) => format!("there is no Vault store `{name}`"),
            None => "the configuration has no Vault store".to_owned(),
        }]);
    }
    for (name, _, vault) in &stores {
        vault.cut(Duration::from_secs(drill.seconds));
        // That it is open again is told where it happens, however it comes to that.
        if drill.seconds > 0 {
            tracing::warn!(store = %name, seconds = drill.seconds, "drill: the path to Vault is cut on request");
        }
    }
    let until = now + Duration::from_secs(drill.seconds);
    let material = reloader
        .living
        .jobs
        .iter()
        .filter(|(_, job)| job.stores.iter().any(|store| stores.iter().any(|(_, id, _)| id == store)));
    let material = material.map(|((kind, name), job)| {
        let ends = job.ends();
        json!({
            "kind": kind.as_str(),
            "name": name.to_string(),
            "ends": ends.and_then(timestamp),
            "seconds_left": ends.map(|ends| left(ends, now)),
            "ends_within": !job.is_held() || ends.is_some_and(|ends| ends < until),
        })
    });
    Ok(json!({
        "stores": stores.iter().map(|(name, ..)| name.to_string()).collect::<Vec<_>>(),
        "seconds": drill.seconds,
        "until": timestamp(until),
        "material": material.collect::<Vec<_>>(),
        "signs_with_vault": reloader.living.signs_with(&stores.iter().map(|(_, id, _)| *id).collect::<Vec<_>>()),
    }))
}

/// Longer than that is no exercise: whoever forgets it is saved by the clock.
const LONGEST: u64 = 24 * 3600;
