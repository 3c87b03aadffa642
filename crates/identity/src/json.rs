//! JSON in which a member name stands once.
//!
//! serde keeps the last of two members of one name, other readers the first: a text that has two readings is refused, at
//! any depth. Strings are borrowed where they hold no escape.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The members of an object.
pub(crate) type Object<'a> = BTreeMap<Cow<'a, str>, Json<'a>>;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    /// A number that is an integer of 64 bits with sign.
    Integer(i64),
    /// Any other number, always finite.
    Number(f64),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Object<'a>),
}

impl<'a> Json<'a> {
    /// Reads a text that is one object and nothing else; `None` if it is not.
    pub(crate) fn parse_object(text: &'a [u8]) -> Option<Object<'a>> {
        match serde_json::from_slice(text) {
            Ok(Self::Object(members)) => Some(members),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The texts of an array that holds only strings.
    pub(crate) fn as_strings(&self) -> Option<Vec<&str>> {
        match self {
            Self::Array(values) => values.iter().map(Self::as_str).collect(),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON in which every member name stands once")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Json::Number(value as f64), Json::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Json::Number(value))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::String(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = array.next_element()? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members = Object::new();
        while let Some((Name(name), value)) = object.next_entry()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member name stands twice"));
            }
        }
        Ok(Json::Object(members))
    }
}

/// A member's name, borrowed where it can be: serde's own `Cow` never borrows.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::String(name) => Ok(Self(name)),
            _ => Err(D::Error::custom("a member name is a string")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_name_that_stands_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"a":2}}"#, r#"{"b":[{"a":1,"\u0061":2}]}"#] {
            assert_eq!(Json::parse_object(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn only_one_object_is_read() {
        for text in ["", "[]", "1", "null", "{} {}", "{}x", "\u{feff}{}", "{\"a\":\"\u{1}\"}"] {
            assert_eq!(Json::parse_object(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Json::parse_object(b"{\"a\":\"\xff\"}"), None);
        assert!(Json::parse_object(b" {\"a\":[null,true,-1,1.5,\"x\"]}\n").is_some());
    }

    #[test]
    fn deep_nesting_is_refused_without_exhausting_the_stack() {
        let text = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(Json::parse_object(text.as_bytes()), None);
    }

    #[test]
    fn integers_stay_exact_and_large_numbers_become_inexact() {
        let members = Json::parse_object(br#"{"a":9223372036854775807,"b":9223372036854775808}"#).unwrap();
        assert_eq!(members["a"], Json::Integer(i64::MAX));
        assert_eq!(members["b"], Json::Number(9_223_372_036_854_775_808.0));
    }
}
