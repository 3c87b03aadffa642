//! The words of the configuration that are more than text, each parsed where it stands: [`quantity`] (times, sizes,
//! rates), [`network`] (addresses, URLs), [`endpoint`] (how endpoints are found), [`pattern`] (hosts, paths, names), [`field`] (header fields and templates),
//! [`rule`] (what routes make of
//! requests and answers), [`secret`] (references), [`certificate`] (what certificates say), [`token`] (what minted tokens say).

pub(super) mod certificate;
pub(super) mod endpoint;
pub(super) mod field;
pub(super) mod network;
pub(super) mod pattern;
pub(super) mod quantity;
pub(super) mod rule;
pub(super) mod secret;
pub(super) mod token;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Visitor};

/// A type that is written as one word.
pub(super) trait Word: Sized {
    /// What is expected, with an example: it follows "expected".
    const EXPECTED: &'static str;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`Misread::Other`] if the text is something else altogether, [`Misread::Because`] with a reason that helps more
    /// than the bare expectation. A reason does not quote a text that may be a secret.
    fn parse(text: &str) -> Result<Self, Misread>;
}

/// Why a text is not the word that was expected.
#[derive(Debug)]
pub(super) enum Misread {
    /// It is something else; the message quotes it.
    Other,
    /// It is almost one; the message gives this reason.
    Because(Cow<'static, str>),
}

impl From<&'static str> for Misread {
    fn from(reason: &'static str) -> Self {
        Self::Because(Cow::Borrowed(reason))
    }
}

impl From<String> for Misread {
    fn from(reason: String) -> Self {
        Self::Because(Cow::Owned(reason))
    }
}

/// Reads a [`Word`] by serde; [`words!`] calls it.
pub(super) struct WordVisitor<T>(pub(super) PhantomData<T>);

impl<T: Word> Visitor<'_> for WordVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(|misread| match misread {
            Misread::Other => E::invalid_value(de::Unexpected::Str(text), &T::EXPECTED),
            Misread::Because(reason) => E::custom(reason),
        })
    }
}

/// Serde for [`Word`]s, and the JSON Schema that editors check them by: a pattern, or a schema of its own.
macro_rules! words {
    ($($type:ident: $schema:tt),* $(,)?) => { $(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(crate::config::values::WordVisitor(std::marker::PhantomData))
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut schema = crate::config::values::word_schema!($schema);
                schema.insert("description".to_owned(), <Self as crate::config::values::Word>::EXPECTED.into());
                schema
            }
        }
    )* };
}
pub(super) use words;

macro_rules! word_schema {
    ($pattern:literal) => { schemars::json_schema!({ "type": "string", "pattern": $pattern }) };
    ($schema:tt) => { schemars::json_schema!($schema) };
}
pub(super) use word_schema;
