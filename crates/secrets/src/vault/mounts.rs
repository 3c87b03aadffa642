//! What is mounted at a path: which engine, and which version of key-value secrets.
//!
//! `sys/internal/ui/mounts/<path>` tells it to every token that may do anything below the mount; what it said is remembered until a
//! read below the mount fails. Where it says nothing, the path is read plainly, and the answer to that says what is wrong.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustify_derive::Endpoint;
use serde::Deserialize;
use serde_json::Value;

use super::Vault;
use super::answer::{Answer, Operation};
use crate::{Cause, StoreError};

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Mounts(Mutex<Vec<Mount>>);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Mount {
    /// Without `/` at the end.
    pub(super) path: String,
    pub(super) engine: Engine,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Engine {
    /// Key-value without versions.
    Kv1,
    /// Key-value with versions.
    Kv2,
    Database,
    Other,
}

#[derive(Endpoint)]
#[endpoint(path = "sys/internal/ui/mounts/{self.path}", response = "Value")]
struct ReadMount {
    #[endpoint(skip)]
    path: String,
}

impl Vault {
    /// The mount that a path lies below; none if the cluster does not tell (there is none, or the token may do nothing there).
    pub(super) async fn mount_of(&self, path: &str) -> Result<Option<Mount>, StoreError> {
        if let Some(mount) = self.mounts.over(path) {
            return Ok(Some(mount));
        }
        let answer = match self.call(Operation::Kv, &ReadMount { path: path.to_owned() }).await {
            Ok(answer) => answer,
            Err(failure) => {
                return match failure.cause() {
                    Cause::Denied(_) | Cause::Absent(_) | Cause::Refused(_) => Ok(None),
                    _ => Err(failure.into()),
                };
            }
        };
        let mount = mount(&answer, path).map_err(|cause| self.error(cause))?;
        self.mounts.remember(mount.clone());
        Ok(Some(mount))
    }
}

impl Mounts {
    /// Asks anew the next time: a mount may have been replaced.
    pub(super) fn forget(&self, path: &str) {
        self.lock().retain(|mount| !mount.covers(path));
    }

    fn over(&self, path: &str) -> Option<Mount> {
        self.lock().iter().filter(|mount| mount.covers(path)).max_by_key(|mount| mount.path.len()).cloned()
    }

    fn remember(&self, mount: Mount) {
        let mut mounts = self.lock();
        mounts.retain(|other| other.path != mount.path);
        mounts.push(mount);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Mount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mount {
    /// The part of `path` below the mount.
    pub(super) fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.path.as_str())?.strip_prefix('/')
    }

    fn covers(&self, path: &str) -> bool {
        self.path == path || self.below(path).is_some()
    }
}

/// Reads what is mounted over `path`.
pub(super) fn mount(answer: &Answer, path: &str) -> Result<Mount, Cause> {
    #[derive(Deserialize)]
    struct Data {
        path: String,
        r#type: String,
        options: Option<Value>,
    }
    let data: Data = answer.data_as("it does not say what is mounted")?;
    let version = data.options.as_ref().and_then(|options| options.get("version")).and_then(Value::as_str);
    let engine = match (data.r#type.as_str(), version) {
        ("kv", Some("2")) => Engine::Kv2,
        ("kv" | "generic", _) => Engine::Kv1,
        ("database", _) => Engine::Database,
        _ => Engine::Other,
    };
    let mount = Mount { path: data.path.trim_end_matches('/').to_owned(), engine };
    if mount.path.is_empty() || !mount.covers(path) {
        return Err(Cause::Answer("it tells of another mount"));
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::answers::tests::answer;

    fn told(path: &str, r#type: &str, options: &Value, asked: &str) -> Result<Mount, Cause> {
        let data = serde_json::json!({ "path": path, "type": r#type, "options": options });
        mount(&answer(&serde_json::json!({ "data": data })), asked)
    }

    #[test]
    fn the_version_of_key_value_secrets_is_read_from_the_options() {
        let engine = |options: &Value| told("kv/", "kv", options, "kv/a").unwrap().engine;
        assert_eq!(engine(&serde_json::json!({ "version": "2" })), Engine::Kv2);
        assert_eq!(engine(&serde_json::json!({ "version": "1" })), Engine::Kv1);
        assert_eq!(engine(&Value::Null), Engine::Kv1);
        assert_eq!(told("d/", "database", &Value::Null, "d/creds/x").unwrap().engine, Engine::Database);
        assert_eq!(told("p/", "pki", &Value::Null, "p/x").unwrap().engine, Engine::Other);
    }

    #[test]
    fn an_answer_about_another_mount_is_refused() {
        assert!(told("kv/", "kv", &Value::Null, "kv2/a").is_err());
        assert!(told("", "kv", &Value::Null, "kv/a").is_err());
    }

    #[test]
    fn the_innermost_mount_that_is_known_counts_until_it_is_forgotten() {
        let mounts = Mounts::default();
        mounts.remember(Mount { path: "a".to_owned(), engine: Engine::Kv1 });
        mounts.remember(Mount { path: "a/b".to_owned(), engine: Engine::Kv2 });
        assert_eq!(mounts.over("a/b/c").unwrap().engine, Engine::Kv2);
        assert_eq!(mounts.over("a/bc").unwrap().engine, Engine::Kv1);
        mounts.forget("a/b/c");
        assert_eq!(mounts.over("a/b/c"), None);
    }
}
