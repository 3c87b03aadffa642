//! [`Field`], the place to go on from, and [`Entries`], a section of named entries.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::UsizeDeserializer;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::access::KeyReader;
use super::{ReadError, Reader};
use crate::config::finding::Finding;
use crate::config::problem::Span;
use crate::config::tree::Key;

/// A value with its place; `None` when what stands there is wrong and has been reported.
#[derive(Clone, Debug)]
pub(in crate::config) struct Field<T> {
    pub(in crate::config) value: Option<T>,
    pub(in crate::config) span: Span,
}

/// A part of the file where secrets are named: a text there that is not what it should be is neither quoted nor shown.
#[derive(Clone, Debug)]
pub(in crate::config) struct Secret<T>(pub(in crate::config) T);

/// The named entries of a section, in the order of the file.
#[derive(Clone, Debug)]
pub(in crate::config) struct Entries<K, T>(pub(in crate::config) Vec<(Field<K>, Field<T>)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
            type Value = Field<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Field<T>, A::Error> {
                let start = parts.next_element()?.unwrap_or_default();
                let end = parts.next_element()?.unwrap_or_default();
                Ok(Field { value: parts.next_element()?, span: Span { start, end } })
            }
        }

        deserializer.deserialize_tuple_struct(FIELD, 3, FieldVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for SecretVisitor<T> {
            type Value = Secret<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Secret<T>, D::Error> {
                T::deserialize(inner).map(Secret)
            }
        }

        deserializer.deserialize_newtype_struct(SECRET, SecretVisitor(PhantomData))
    }
}

impl<'de, K: Deserialize<'de>, T: Deserialize<'de>> Deserialize<'de> for Entries<K, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<K, T>(PhantomData<(K, T)>);

        impl<'de, K: Deserialize<'de>, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<K, T> {
            type Value = Entries<K, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names to entries")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<K, T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Secret<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

impl<K: JsonSchema, T: JsonSchema> JsonSchema for Entries<K, T> {
    fn schema_name() -> Cow<'static, str> {
        Cow::Owned(format!("Entries_of_{}", T::schema_name()))
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "propertyNames": generator.subschema_for::<K>(),
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}

/// What a [`Field`] is made from: first byte, end, value. INVARIANT: an error of the value becomes a finding here.
pub(super) struct Parts<'de, 'f> {
    pub(super) reader: Reader<'de, 'f>,
    pub(super) next: u8,
}

impl<'de> SeqAccess<'de> for Parts<'de, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let span = self.reader.node.span;
        self.next += 1;
        match self.next {
            1 => seed.deserialize(UsizeDeserializer::new(span.start)).map(Some),
            2 => seed.deserialize(UsizeDeserializer::new(span.end)).map(Some),
            _ => {
                let outcome = seed.deserialize(self.reader).map_err(|error| self.reader.concealing(error));
                Ok(recover(outcome, span, self.reader.findings))
            }
        }
    }
}

pub(super) struct KeyParts<'de, 'f> {
    pub(super) key: &'de Key,
    pub(super) findings: &'f RefCell<Vec<Finding>>,
    pub(super) next: u8,
}

impl<'de> SeqAccess<'de> for KeyParts<'de, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let span = self.key.span;
        self.next += 1;
        match self.next {
            1 => seed.deserialize(UsizeDeserializer::new(span.start)).map(Some),
            2 => seed.deserialize(UsizeDeserializer::new(span.end)).map(Some),
            _ => {
                let reader = KeyReader { key: self.key, findings: self.findings };
                Ok(recover(seed.deserialize(reader), span, self.findings))
            }
        }
    }
}

pub(super) struct Gone {
    pub(super) span: Span,
    pub(super) next: u8,
}

impl<'de> SeqAccess<'de> for Gone {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        self.next += 1;
        match self.next {
            1 => seed.deserialize(UsizeDeserializer::new(self.span.start)).map(Some),
            2 => seed.deserialize(UsizeDeserializer::new(self.span.end)).map(Some),
            _ => Ok(None),
        }
    }
}

fn recover<T>(outcome: Result<T, ReadError>, span: Span, findings: &RefCell<Vec<Finding>>) -> Option<T> {
    outcome.map_err(|error| findings.borrow_mut().extend(error.into_finding(span))).ok()
}

/// The name by which [`Field`] asks a [`Reader`] for its parts.
pub(super) const FIELD: &str = "$portcullis::Field";

/// The name by which [`Secret`] tells a [`Reader`] what stands there.
pub(super) const SECRET: &str = "$portcullis::Secret";
