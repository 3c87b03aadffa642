//! Values at paths: key-value secrets of both versions, and every other path that can be read.
//!
//! **Passes:** `<mount>/<path>` as `vault kv get` and `vault read` take it; what is no text comes as compact JSON. **Refused:** a path
//! that holds nothing, a version that was deleted or destroyed, writes that do not hold the version they were made from.

use std::collections::BTreeMap;

use rustify_derive::Endpoint;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use vaultrs::api::kv1::requests::GetSecretRequest;
use vaultrs::api::kv2::requests::{
    ReadSecretMetadataRequest, ReadSecretRequest, SetSecretRequest as WriteVersion, SetSecretRequestOptions,
};

use super::Vault;
use super::answer::{Answer, Failure, Operation, Refusal};
use super::mounts::{Engine, Mount};
use crate::{Cause, Reading, StoreError};

/// Which state of a value a write replaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replaces {
    /// Whatever is there.
    Anything,
    /// Exactly this version; 0 is a path that never had one. KV v2 only.
    Version(u64),
}

/// What KV v2 knows about a path beside its values.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Metadata {
    /// Also counts versions that were deleted since; what [`Replaces::Version`] is compared with.
    pub current_version: u64,
    /// The oldest version that is still there; 0 as long as none was dropped.
    #[serde(default)]
    pub oldest_version: u64,
    /// What people attached to the path.
    #[serde(default, deserialize_with = "none_is_empty")]
    pub custom_metadata: BTreeMap<String, String>,
}

// LIST is spelled as a query: middleboxes drop verbs that they don't know.
#[derive(Endpoint)]
#[endpoint(path = "{self.path}", response = "Value")]
struct List {
    #[endpoint(skip)]
    path: String,
    #[endpoint(query)]
    list: bool,
}

#[derive(Endpoint)]
#[endpoint(path = "{self.path}", method = "POST", response = "Value")]
struct Write {
    #[endpoint(skip)]
    path: String,
    #[endpoint(raw)]
    fields: Vec<u8>,
}

impl Vault {
    pub(crate) async fn read(&self, path: &str) -> Result<Reading, StoreError> {
        let read = match self.mount_of(path).await? {
            Some(mount @ Mount { engine: Engine::Kv2, .. }) => self.read_version(&mount, path).await,
            Some(mount @ Mount { engine: Engine::Database, .. }) => self.read_database(&mount, path).await,
            Some(_) | None => self.read_plainly(path).await,
        };
        if read.as_ref().is_err_and(|error| error.cause.is_configuration()) {
            self.mounts.forget(path);
        }
        read
    }

    /// Stores the fields at a path in place of those that are there; KV v2 gives the new version.
    ///
    /// # Errors
    /// [`Cause::Conflict`] if another version is there than `replaces` says.
    pub async fn write(
        &self,
        path: &str,
        fields: &BTreeMap<String, SecretString>,
        replaces: Replaces,
    ) -> Result<Option<u64>, StoreError> {
        let fields: Map<String, Value> =
            fields.iter().map(|(name, value)| (name.clone(), json!(value.expose_secret()))).collect();
        let mount = self.mount_of(path).await?;
        if let Some((mount, below)) = versioned(mount.as_ref(), path) {
            return self.write_version(mount, below, fields, replaces).await.map(Some);
        }
        if replaces != Replaces::Anything {
            let why = format!("`{path}` has no versions that a write could be compared with");
            return Err(self.error(Cause::Refused(why)));
        }
        let fields = Value::Object(fields).to_string().into_bytes();
        self.call(Operation::Kv, &Write { path: path.to_owned(), fields }).await?;
        Ok(None)
    }

    /// Replaces some fields at a path of KV v2 and keeps the others, whoever writes meanwhile; gives the new version.
    ///
    /// # Errors
    /// [`Cause::Conflict`] if somebody else wrote meanwhile; nothing is changed then.
    pub async fn patch(
        &self,
        path: &str,
        fields: &BTreeMap<String, SecretString>,
    ) -> Result<Option<u64>, StoreError> {
        let mount = self.mount_of(path).await?;
        let Some((mount, below)) = versioned(mount.as_ref(), path) else {
            let why = format!("`{path}` has no versions that a write could be compared with");
            return Err(self.error(Cause::Refused(why)));
        };
        // The answer itself, not a reading of it: numbers and lists stay what they are.
        let answer = self.call(Operation::Kv, &version(mount, below)).await?;
        let read = read_version(&answer).map_err(|cause| self.error(cause))?;
        let mut merged = answer.data().get("data").and_then(Value::as_object).cloned().unwrap_or_default();
        merged.extend(fields.iter().map(|(name, value)| (name.clone(), json!(value.expose_secret()))));
        let replaces = Replaces::Version(read.version.unwrap_or_default());
        self.write_version(mount, below, merged, replaces).await.map(Some)
    }

    /// What KV v2 knows about a path; also about one whose values are deleted.
    ///
    /// # Errors
    /// [`Cause::Absent`] if it never had a value, or is not in a mount of KV v2.
    pub async fn metadata(&self, path: &str) -> Result<Metadata, StoreError> {
        let mount = self.mount_of(path).await?;
        let Some((mount, below)) = versioned(mount.as_ref(), path) else {
            return Err(self.error(Cause::Absent(format!("metadata of `{path}`"))));
        };
        let request = ReadSecretMetadataRequest { mount: mount.path.clone(), path: below.to_owned() };
        let answer = self.call(Operation::Kv, &request).await?;
        metadata(&answer).map_err(|cause| self.error(cause))
    }

    /// The names below a path, sorted; those that end in `/` have names below themselves. A path without any has none.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub async fn list(&self, path: &str) -> Result<Vec<String>, StoreError> {
        let mount = self.mount_of(path).await?;
        let place = match mount.as_ref().filter(|mount| mount.engine == Engine::Kv2) {
            Some(mount) => format!("{}/metadata/{}", mount.path, mount.below(path).unwrap_or_default()),
            None => path.to_owned(),
        };
        let place = place.trim_end_matches('/').to_owned();
        match self.call(Operation::Kv, &List { path: place, list: true }).await {
            Ok(answer) => keys(&answer).map_err(|cause| self.error(cause)),
            Err(Failure::Refused(refusal)) if refusal.status == 404 && refusal.errors.is_empty() => {
                Ok(Vec::new())
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// A path as it is.
    pub(super) async fn read_plainly(&self, path: &str) -> Result<Reading, StoreError> {
        let (mount, below) = path.split_once('/').unwrap_or((path, ""));
        let request = GetSecretRequest { mount: mount.to_owned(), path: below.to_owned() };
        let answer = match self.call(Operation::Kv, &request).await {
            Ok(answer) => answer,
            Err(Failure::Refused(refusal)) if refusal.status == 404 => {
                return Err(self.error(Cause::Absent(format!("`{path}`{}", no_mount(&refusal)))));
            }
            Err(failure) => return Err(failure.into()),
        };
        read_plainly(&answer).map_err(|cause| self.error(cause))
    }

    async fn read_version(&self, mount: &Mount, path: &str) -> Result<Reading, StoreError> {
        let below = mount.below(path).unwrap_or_default();
        let answer = match self.call(Operation::Kv, &version(mount, below)).await {
            Ok(answer) => answer,
            Err(Failure::Refused(refusal)) if refusal.status == 404 => {
                return Err(self.error(Cause::Absent(format!("`{path}`{}", gone(&refusal, mount, below)))));
            }
            Err(Failure::Store(StoreError { cause: Cause::Denied(denied), .. })) => {
                return Err(self.error(Cause::Denied(format!("{denied}{}", needless_data(mount, below)))));
            }
            Err(failure) => return Err(failure.into()),
        };
        read_version(&answer).map_err(|cause| self.error(cause))
    }

    async fn write_version(
        &self,
        mount: &Mount,
        below: &str,
        fields: Map<String, Value>,
        replaces: Replaces,
    ) -> Result<u64, StoreError> {
        let options = match replaces {
            Replaces::Anything => None,
            Replaces::Version(version) => Some(SetSecretRequestOptions {
                cas: u32::try_from(version).map_err(|_| self.error(Cause::Conflict))?,
            }),
        };
        let request = WriteVersion {
            mount: mount.path.clone(),
            path: below.to_owned(),
            data: Value::Object(fields),
            options,
        };
        match self.call(Operation::Kv, &request).await {
            Ok(answer) => written(&answer).map_err(|cause| self.error(cause)),
            Err(Failure::Refused(refusal)) if refusal.says("check-and-set parameter did not match") => {
                Err(self.error(Cause::Conflict))
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

/// The fields of `data`, with the lease that they die with.
pub(super) fn read_plainly(answer: &Answer) -> Result<Reading, Cause> {
    let fields = fields(answer.data())?;
    Ok(Reading { fields, version: None, lease: answer.lease(), changes_in: None })
}

/// The fields and the version of KV v2.
pub(super) fn read_version(answer: &Answer) -> Result<Reading, Cause> {
    let (data, metadata) = (answer.data().get("data"), answer.data().get("metadata"));
    let version = metadata.and_then(|metadata| metadata.get("version")).and_then(Value::as_u64);
    let (Some(data), Some(version)) = (data, version) else {
        return Err(Cause::Answer("it has no versioned value"));
    };
    Ok(Reading { fields: fields(data)?, version: Some(version), lease: None, changes_in: None })
}

/// The version that a write made.
pub(super) fn written(answer: &Answer) -> Result<u64, Cause> {
    answer
        .data()
        .get("version")
        .and_then(Value::as_u64)
        .ok_or(Cause::Answer("it does not name the new version"))
}

/// What KV v2 knows about a path.
pub(super) fn metadata(answer: &Answer) -> Result<Metadata, Cause> {
    answer.data_as("it has no metadata")
}

/// The names of a list.
pub(super) fn keys(answer: &Answer) -> Result<Vec<String>, Cause> {
    #[derive(Deserialize)]
    struct Data {
        keys: Vec<String>,
    }
    let mut data: Data = answer.data_as("it has no list of names")?;
    data.keys.sort();
    Ok(data.keys)
}

/// What a 404 of KV v2 says beside that there is nothing: its body tells when a version was deleted or destroyed.
pub(super) fn gone(refusal: &Refusal, mount: &Mount, below: &str) -> String {
    let metadata = refusal.body.get("data").and_then(|data| data.get("metadata"));
    let field = |name: &str| metadata.and_then(|metadata| metadata.get(name));
    if field("destroyed").and_then(Value::as_bool) == Some(true) {
        return ": its latest version is destroyed".to_owned();
    }
    if field("deletion_time").and_then(Value::as_str).is_some_and(|time| !time.is_empty()) {
        return ": its latest version is deleted".to_owned();
    }
    needless_data(mount, below)
}

/// A value of a JSON object as text.
pub(super) fn text(value: &Value) -> SecretString {
    match value {
        Value::String(text) => SecretString::from(text.as_str()),
        other => SecretString::from(other.to_string()),
    }
}

fn fields(data: &Value) -> Result<BTreeMap<String, SecretString>, Cause> {
    let fields = data.as_object().ok_or(Cause::Answer("it has no fields"))?;
    Ok(fields.iter().map(|(name, value)| (name.clone(), text(value))).collect())
}

fn version(mount: &Mount, below: &str) -> ReadSecretRequest {
    ReadSecretRequest { mount: mount.path.clone(), path: below.to_owned(), version: None }
}

/// The mount and what is below it, for a mount of KV v2.
fn versioned<'a>(mount: Option<&'a Mount>, path: &'a str) -> Option<(&'a Mount, &'a str)> {
    let mount = mount.filter(|mount| mount.engine == Engine::Kv2)?;
    Some((mount, mount.below(path)?))
}

/// The commonest mistake with KV v2: the path of the API instead of the one that people use.
fn needless_data(mount: &Mount, below: &str) -> String {
    match below.strip_prefix("data/") {
        Some(below) => format!(" (without `data/`, as `vault kv get` takes it: `{}/{below}`)", mount.path),
        None => String::new(),
    }
}

fn no_mount(refusal: &Refusal) -> &'static str {
    if refusal.says("no handler for route") { ": nothing is mounted there" } else { "" }
}

fn none_is_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::answers::tests::{answer, refusal};

    fn mount() -> Mount {
        Mount { path: "kv".to_owned(), engine: Engine::Kv2 }
    }

    #[test]
    fn what_is_no_text_comes_as_compact_json() {
        let body = json!({ "data": { "data": { "a": "x", "n": 1.5, "o": { "l": [1, null] } },
            "metadata": { "version": 3 } } });
        let reading = read_version(&answer(&body)).unwrap();
        let field = |name: &str| reading.fields[name].expose_secret().to_owned();
        assert_eq!(
            (field("a"), field("n"), field("o")),
            ("x".into(), "1.5".into(), r#"{"l":[1,null]}"#.into())
        );
        assert_eq!(reading.version, Some(3));
    }

    #[test]
    fn a_deleted_and_a_destroyed_version_say_so() {
        let body = |destroyed| {
            json!({ "data": { "data": null, "metadata": { "deletion_time": "2026-11-22T02:38:15Z",
                "destroyed": destroyed, "version": 1 } } })
        };
        assert_eq!(gone(&refusal(404, &body(false)), &mount(), "x"), ": its latest version is deleted");
        assert_eq!(gone(&refusal(404, &body(true)), &mount(), "x"), ": its latest version is destroyed");
    }

    #[test]
    fn the_path_of_the_api_gets_a_hint() {
        let empty = refusal(404, &json!({ "errors": [] }));
        assert_eq!(
            gone(&empty, &mount(), "data/x"),
            " (without `data/`, as `vault kv get` takes it: `kv/x`)"
        );
        assert_eq!(gone(&empty, &mount(), "x"), "");
    }

    #[test]
    fn a_value_without_a_version_or_without_fields_is_no_value() {
        for data in [json!(null), json!({ "data": {} }), json!({ "data": 1, "metadata": { "version": 1 } })] {
            assert!(read_version(&answer(&json!({ "data": data }))).is_err());
        }
        assert!(read_plainly(&answer(&json!({ "data": [1] }))).is_err());
    }
}
