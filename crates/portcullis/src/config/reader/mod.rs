//! Reads serde types from a [`Node`] without stopping at the first problem.
//!
//! Every [`Field`] is a place to go on from: what is wrong inside it becomes a finding, the field is `None`, and the
//! fields beside it are still read. Unknown keys and missing fields are findings too. The types that are read consist of
//! `Field<T>` (must be there) and `Option<Field<T>>` (may be left out; written without a value is an error).

mod access;
mod field;

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, Deserializer, Error as _, Expected, Unexpected, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

pub(super) use field::{Entries, Field, Secret};

use self::access::{Choice, Items, Pairs};
use self::field::{FIELD, Parts, SECRET};
use super::finding::{Finding, UNSHOWN, quoted};
use super::problem::{Span, closest};
use super::tree::{Node, Value};

/// Reads `T` from the whole tree.
pub(super) fn read<'de, T: Deserialize<'de>>(root: &'de Node, findings: &mut Vec<Finding>) -> Option<T> {
    let collected = RefCell::new(Vec::new());
    let field = Field::<T>::deserialize(Reader { node: root, findings: &collected, secret: false });
    let value = match field {
        Ok(field) => field.value,
        Err(error) => {
            collected.borrow_mut().extend(error.into_finding(root.span));
            None
        }
    };
    findings.extend(collected.into_inner());
    value
}

/// Why a value could not be read.
#[derive(Debug)]
pub(super) struct ReadError {
    /// None for what has been reported already.
    message: Option<String>,
    expected: Option<String>,
    suggestion: Option<String>,
    span: Option<Span>,
    concealed: Option<Span>,
}

impl ReadError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::reported() }
    }

    const fn reported() -> Self {
        Self { message: None, expected: None, suggestion: None, span: None, concealed: None }
    }

    fn expecting(message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { expected: Some(expected.into()), ..Self::new(message) }
    }

    fn into_finding(self, here: Span) -> Option<Finding> {
        let finding = Finding::error(self.span.unwrap_or(here), self.message?).suggesting(self.suggestion);
        Some(Finding { expected: self.expected, concealed: self.concealed, ..finding })
    }

    fn at(self, here: Span) -> Self {
        Self { span: self.span.or(Some(here)), ..self }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or_default())
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Str(text) => quoted(text),
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            other => other.to_string(),
        };
        Self::expecting(format!("found {found}"), expected.to_string())
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self {
            suggestion: closest(variant, expected.iter().copied()),
            ..Self::expecting(format!("found {}", quoted(variant)), one_of(expected))
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self {
            suggestion: closest(field, expected.iter().copied()),
            ..Self::expecting(format!("unknown key {}", quoted(field)), one_of(expected))
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` is missing"))
    }
}

#[derive(Clone, Copy)]
struct Reader<'de, 'f> {
    node: &'de Node,
    findings: &'f RefCell<Vec<Finding>>,
    /// Whether this is within a [`Secret`].
    secret: bool,
}

impl<'de> Reader<'de, '_> {
    /// An error of the value here, none of which can then be known not to be a secret; a word by itself is quoted anyway.
    fn concealing(self, error: ReadError) -> ReadError {
        let is_word = matches!(self.node.value, Value::Scalar(_) | Value::Nothing);
        let concealed = (self.secret || !is_word).then(|| self.node.extent());
        ReadError { concealed: concealed.or(error.concealed), ..error }
    }

    fn found(self, expected: &str) -> ReadError {
        let unexpected = match &self.node.value {
            Value::Nothing => Unexpected::Unit,
            Value::Scalar(_) if self.secret => Unexpected::Other(UNSHOWN),
            Value::Scalar(text) => Unexpected::Str(text),
            Value::Sequence(_) => Unexpected::Seq,
            Value::Mapping(_) => Unexpected::Map,
            Value::Reported => return ReadError::reported(),
        };
        ReadError::invalid_type(unexpected, &expected)
    }

    fn any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Scalar(text) => visitor.visit_borrowed_str(text),
            Value::Sequence(items) => visitor.visit_seq(Items { reader: self, items: items.iter() }),
            Value::Mapping(entries) => visitor.visit_map(Pairs {
                reader: self,
                entries: entries.iter(),
                fields: None,
                absent: &[],
                value: None,
            }),
            Value::Nothing => visitor.visit_unit(),
            Value::Reported => Err(self.found("")),
        }
    }

    fn whole<T: std::str::FromStr>(self, expected: &str) -> Result<T, ReadError> {
        let Value::Scalar(text) = &self.node.value else { return Err(self.found(expected)) };
        text.parse().map_err(|_| self.found(expected))
    }
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.any(visitor).map_err(|error| error.at(self.node.span))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_bool(self.whole("`true` or `false`")?)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_u16(self.whole("a whole number")?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_u64(self.whole("a whole number")?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Scalar(text) => visitor.visit_borrowed_str(text),
            _ => Err(self.found(&(&visitor as &dyn Expected).to_string())),
        }
        .map_err(|error| error.at(self.node.span))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    /// A key that stands there is a value, also when nothing stands behind it: `methods:` alone does not mean any method.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Sequence(_) => self.deserialize_any(visitor),
            _ => Err(self.found("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Mapping(_) => self.deserialize_any(visitor),
            _ => Err(self.found("a mapping of names to entries")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let Value::Mapping(entries) = &self.node.value else {
            return Err(self.found(&format!("a mapping with {}", one_of(fields))));
        };
        let pairs = Pairs {
            reader: self,
            entries: entries.iter(),
            fields: Some(fields),
            absent: fields,
            value: None,
        };
        visitor.visit_map(pairs).map_err(|error| error.at(self.node.span))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let choice = match &self.node.value {
            Value::Scalar(text) if self.secret && !variants.contains(&text.as_str()) => {
                return Err(self.found(&one_of(variants)));
            }
            Value::Scalar(text) => Choice { reader: self, name: text, span: self.node.span, value: None },
            Value::Mapping(entries) => match entries.as_slice() {
                [(key, value)] => {
                    Choice { reader: self, name: &key.text, span: key.span, value: Some(value) }
                }
                _ => return Err(self.found(&format!("exactly one of {}", list(variants)))),
            },
            _ => return Err(self.found(&one_of(variants))),
        };
        let span = choice.span;
        visitor.visit_enum(choice).map_err(|error| error.at(span))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == FIELD {
            visitor.visit_seq(Parts { reader: self, next: 0 })
        } else {
            self.deserialize_any(visitor)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == SECRET {
            let reader = Reader { secret: true, ..self };
            visitor.visit_newtype_struct(reader).map_err(|error| reader.concealing(error))
        } else {
            self.deserialize_any(visitor)
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple identifier ignored_any
    }
}

fn one_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [word] => format!("`{word}`"),
        words => format!("one of {}", list(words)),
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
