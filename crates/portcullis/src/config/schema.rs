//! The JSON Schema of the configuration, and the reference that is made from it.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::raw::File;

/// The schema, from the very types that read the file.
#[must_use]
pub fn json() -> Value {
    schemars::schema_for!(File).to_value()
}

/// The reference as Markdown: a section for each mapping, a row for each key.
#[must_use]
pub fn markdown() -> String {
    let schema = json();
    let mut text = String::from(
        "# The configuration file\n\nMade by `portcullis schema --markdown` from the types that read the file; a test \
         keeps it up to date.\nA key without a default is required unless its text says otherwise.\n",
    );
    section(&mut text, "The file", &schema, &schema);
    let definitions = schema.get("$defs").and_then(Value::as_object).into_iter().flatten();
    for (name, definition) in definitions.filter(|(_, definition)| has_section(definition)) {
        section(&mut text, name, definition, &schema);
    }
    text
}

/// Words are said where they stand; mappings and choices have a section of their own.
fn has_section(definition: &Value) -> bool {
    definition.get("properties").is_some() || definition.get("oneOf").is_some()
}

fn section(text: &mut String, title: &str, schema: &Value, root: &Value) {
    let described = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    // Writing to a string does not fail.
    let _ = write!(text, "\n## {title}\n\n{}\n", one_line(described));
    if let Some(Value::Object(properties)) = schema.get("properties") {
        let _ = writeln!(text, "\n| key | value | required | meaning |\n| --- | --- | --- | --- |");
        for (key, property) in properties {
            let required = schema
                .get("required")
                .and_then(Value::as_array)
                .is_some_and(|list| list.contains(&key.as_str().into()));
            let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default();
            let _ = writeln!(
                text,
                "| `{key}` | {} | {} | {} |",
                kind(property, root),
                if required { "yes" } else { "" },
                one_line(meaning)
            );
        }
    }
    if let Some(Value::Array(choices)) = schema.get("oneOf") {
        let _ = writeln!(text, "\n| value | meaning |\n| --- | --- |");
        for choice in choices {
            let meaning = choice.get("description").and_then(Value::as_str).unwrap_or_default();
            let _ = writeln!(text, "| {} | {} |", kind(choice, root), one_line(meaning));
        }
    }
}

/// What may stand there, in a few words; other sections by link.
fn kind(schema: &Value, root: &Value) -> String {
    let Value::Object(schema) = schema else { return String::new() };
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        let definition = root.get("$defs").and_then(|all| all.get(name)).unwrap_or(&Value::Null);
        if has_section(definition) {
            return format!("[{name}](#{})", name.to_lowercase());
        }
        let described = definition.get("description").and_then(Value::as_str);
        return described.map_or_else(|| kind(definition, root), one_line);
    }
    if let Some(Value::Array(choices)) = schema.get("anyOf") {
        return kind(choices.first().unwrap_or(&Value::Null), root);
    }
    if let Some(value) = schema.get("const") {
        return format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    if let Some(Value::Array(values)) = schema.get("enum") {
        return values
            .iter()
            .filter_map(Value::as_str)
            .map(|value| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    match schema_type(schema) {
        Some("array") => {
            format!("list of {}", schema.get("items").map(|item| kind(item, root)).unwrap_or_default())
        }
        Some("object") => match schema.get("properties") {
            Some(Value::Object(properties)) => {
                let inner = properties.iter().map(|(key, value)| format!("`{key}:` {}", kind(value, root)));
                inner.collect::<Vec<_>>().join(", ")
            }
            _ => format!(
                "name: {}",
                schema.get("additionalProperties").map(|entry| kind(entry, root)).unwrap_or_default()
            ),
        },
        Some(other) => other.to_owned(),
        None => String::new(),
    }
}

/// The type, without the `null` that an optional field may be.
fn schema_type(schema: &Map<String, Value>) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/CONFIG.md");
        if std::env::var_os("UPDATE_CONFIG_MD").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "run `UPDATE_CONFIG_MD=1 cargo test -p portcullis up_to_date`");
    }

    #[test]
    fn every_key_of_the_schema_says_what_it_means() {
        let schema = json();
        let definitions = schema["$defs"].as_object().unwrap().iter();
        for (name, definition) in definitions.chain([(&"File".to_owned(), &schema)]) {
            let properties = definition.get("properties").and_then(Value::as_object).into_iter().flatten();
            for (key, property) in properties {
                assert!(property["description"].is_string(), "{name}.{key} has no description");
            }
        }
    }
}
