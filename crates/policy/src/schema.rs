//! The schema that policies are validated against: a fixed part, and the claims that the configuration maps.

use std::collections::BTreeMap;

/// The type of a mapped claim.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ClaimType {
    /// `Bool`.
    Bool,
    /// `Long`.
    Long,
    /// `String`.
    String,
    /// `Set<String>`.
    Strings,
}

/// The mapped claims by name: `principal.claims.<name>`, each of them optional.
pub type ClaimSchema = BTreeMap<String, ClaimType>;

/// The whole schema in Cedar's schema syntax.
#[must_use]
pub fn schema_text(claims: &ClaimSchema) -> String {
    let mut text = String::from(include_str!("schema.cedarschema"));
    text.push_str("type Claims = {\n");
    for (name, kind) in claims {
        let kind = match kind {
            ClaimType::Bool => "Bool",
            ClaimType::Long => "Long",
            ClaimType::String => "String",
            ClaimType::Strings => "Set<String>",
        };
        text.push_str(&format!("  \"{}\"?: {kind},\n", name.escape_default()));
    }
    text.push_str("};\n");
    text
}
