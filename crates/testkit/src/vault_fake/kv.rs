//! Key-value secrets of both versions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::call::{Call, Given, Outcome};
use super::state::{given, listed, names, refuse};

#[derive(Debug, Default)]
pub(super) struct Kv1(BTreeMap<String, Value>);

#[derive(Debug, Default)]
pub(super) struct Kv2(BTreeMap<String, Versions>);

#[derive(Debug, Default)]
struct Versions {
    /// The first is version 1.
    all: Vec<Version>,
    custom: Value,
}

#[derive(Debug)]
struct Version {
    data: Value,
    created: String,
    deleted: String,
    destroyed: bool,
}

impl Kv1 {
    pub(super) fn answer(&mut self, call: &Call, path: &str) -> Outcome {
        match call.method.as_str() {
            "GET" => self.0.get(path).map_or_else(|| refuse(404, ""), |data| given(data.clone())),
            "LIST" => names(listed(self.0.keys(), path).into_iter()),
            "DELETE" => {
                self.0.remove(path);
                Given::nothing()
            }
            _ => {
                self.0.insert(path.to_owned(), call.body.clone());
                Given::nothing()
            }
        }
    }
}

impl Kv2 {
    pub(super) fn answer(&mut self, call: &Call, path: &str, date: &str) -> Outcome {
        let (part, path) = path.split_once('/').unwrap_or((path, ""));
        match (call.method.as_str(), part) {
            ("GET", "data") => self.read(path),
            ("POST" | "PUT", "data") => self.write(call, path, date),
            ("DELETE", "data") => self.mark(path, |version| version.deleted = date.to_owned()),
            ("POST" | "PUT", "destroy") => self.mark(path, |version| version.destroyed = true),
            ("LIST", "metadata") => names(listed(self.0.keys(), path).into_iter()),
            ("GET", "metadata") => self.metadata(path),
            ("POST" | "PUT", "metadata") => {
                self.0.entry(path.to_owned()).or_default().custom = call.body["custom_metadata"].clone();
                Given::nothing()
            }
            ("DELETE", "metadata") => {
                self.0.remove(path);
                Given::nothing()
            }
            _ => Ok(Given { gone: true, warnings: vec![NO_PART.to_owned()], ..Given::default() }),
        }
    }

    fn read(&self, path: &str) -> Outcome {
        let Some(versions) = self.0.get(path).filter(|versions| !versions.all.is_empty()) else {
            return refuse(404, "");
        };
        let last = &versions.all[versions.all.len() - 1];
        let gone = last.destroyed || !last.deleted.is_empty();
        let data = if gone { Value::Null } else { last.data.clone() };
        Ok(Given { data: json!({ "data": data, "metadata": versions.told() }), gone, ..Given::default() })
    }

    fn write(&mut self, call: &Call, path: &str, date: &str) -> Outcome {
        let current = self.0.get(path).map_or(0, |versions| versions.all.len() as u64);
        if call.body["options"]["cas"].as_u64().is_some_and(|cas| cas != current) {
            return refuse(400, "check-and-set parameter did not match the current version");
        }
        if !call.body["data"].is_object() {
            return refuse(400, "no data provided");
        }
        let versions = self.0.entry(path.to_owned()).or_default();
        let data = call.body["data"].clone();
        let version = Version { data, created: date.to_owned(), deleted: String::new(), destroyed: false };
        versions.all.push(version);
        given(versions.told())
    }

    fn mark(&mut self, path: &str, mark: impl FnOnce(&mut Version)) -> Outcome {
        if let Some(last) = self.0.get_mut(path).and_then(|versions| versions.all.last_mut()) {
            mark(last);
        }
        Given::nothing()
    }

    fn metadata(&self, path: &str) -> Outcome {
        let Some(versions) = self.0.get(path) else { return refuse(404, "") };
        given(json!({
            "current_version": versions.all.len(), "oldest_version": 0, "custom_metadata": versions.custom,
            "cas_required": false, "max_versions": 0, "delete_version_after": "0s",
        }))
    }
}

impl Versions {
    fn told(&self) -> Value {
        let last = &self.all[self.all.len() - 1];
        json!({ "created_time": last.created, "custom_metadata": self.custom, "deletion_time": last.deleted,
            "destroyed": last.destroyed, "version": self.all.len() })
    }
}

const NO_PART: &str = "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API \
    endpoints to use. If using the Vault CLI, use 'vault kv get' for this operation.";
