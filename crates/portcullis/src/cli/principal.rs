//! A principal as commands show it.

use std::collections::BTreeMap;

use identity::{ClaimValue, Principal};
use serde::Serialize;
use serde_json::{Value, json};

use super::out::printable;

/// Who somebody is, and what their proof says about them.
#[derive(Debug, Serialize)]
pub(super) struct PrincipalNote {
    pub(super) id: String,
    roles: Vec<String>,
    scopes: Vec<String>,
    claims: BTreeMap<String, Value>,
}

impl PrincipalNote {
    pub(super) fn new(principal: &Principal) -> Self {
        Self {
            id: principal.id.to_string(),
            roles: principal.roles.clone(),
            scopes: principal.scopes.clone(),
            claims: principal.claims.iter().map(|(name, value)| (name.clone(), claim(value))).collect(),
        }
    }

    /// The id, and a line for each thing that is said about it.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![printable(&self.id)];
        for (what, words) in [("roles", &self.roles), ("scopes", &self.scopes)] {
            if !words.is_empty() {
                lines.push(format!("{what}: {}", printable(&words.join(", "))));
            }
        }
        lines.extend(self.claims.iter().map(|(name, value)| printable(&format!("claim {name}: {value}"))));
        lines.join("\n")
    }
}

/// A claim as JSON.
pub(super) fn claim(value: &ClaimValue) -> Value {
    match value {
        ClaimValue::Bool(value) => json!(value),
        ClaimValue::Long(value) => json!(value),
        ClaimValue::String(value) => json!(value),
        ClaimValue::Strings(value) => json!(value),
    }
}
