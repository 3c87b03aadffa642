//! The schema that policies are validated against: a fixed part, and the claims that the configuration maps.

use std::collections::BTreeMap;

use cedar_policy::Schema;

/// The type of a mapped claim.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
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

/// The schema as Cedar holds it, or what Cedar says against it.
pub(crate) fn parse(claims: &ClaimSchema) -> Result<Schema, String> {
    Schema::from_cedarschema_str(&schema_text(claims))
        .map(|(schema, _)| schema)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_any_name_and_type_make_a_schema_that_cedar_reads() {
        let claims = ClaimSchema::from([
            ("a".to_owned(), ClaimType::Bool),
            ("a \"quoted\" name\n".to_owned(), ClaimType::Long),
            ("https://example.com/claim".to_owned(), ClaimType::String),
            ("größe".to_owned(), ClaimType::Strings),
        ]);
        parse(&claims).unwrap();
        parse(&ClaimSchema::new()).unwrap();
    }
}
