//! How lists, mappings, keys, choices and absent fields are walked.

use std::cell::RefCell;
use std::marker::PhantomData;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::field::{Gone, KeyParts};
use super::{ReadError, Reader, one_of};
use crate::config::finding::{Finding, quoted};
use crate::config::problem::Span;
use crate::config::tree::{Key, Node, Value};

pub(super) struct Items<'de, 'f> {
    pub(super) reader: Reader<'de, 'f>,
    pub(super) items: std::slice::Iter<'de, Node>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader { node, ..self.reader }).map(Some)
    }
}

/// The entries of a mapping; of a struct also its fields that do not stand there, as [`Absent`] values.
pub(super) struct Pairs<'de, 'f> {
    pub(super) reader: Reader<'de, 'f>,
    pub(super) entries: std::slice::Iter<'de, (Key, Node)>,
    pub(super) fields: Option<&'static [&'static str]>,
    pub(super) absent: &'static [&'static str],
    pub(super) value: Option<Pair<'de>>,
}

pub(super) enum Pair<'de> {
    Present(&'de Node),
    Absent(&'static str),
}

impl<'de> Pairs<'de, '_> {
    fn next_entry(&mut self) -> Option<&'de (Key, Node)> {
        loop {
            let entry = self.entries.next()?;
            let key = &entry.0;
            match self.fields {
                Some(fields) if !fields.contains(&key.text.as_str()) => {
                    let finding = ReadError::unknown_field(&key.text, fields).into_finding(key.span);
                    let concealing = |finding: Finding| finding.concealing(entry.1.extent());
                    self.reader.findings.borrow_mut().extend(finding.map(concealing));
                }
                _ => return Some(entry),
            }
        }
    }

    fn next_absent(&mut self) -> Option<&'static str> {
        let Value::Mapping(entries) = &self.reader.node.value else { return None };
        loop {
            let (field, rest) = self.absent.split_first()?;
            self.absent = rest;
            if !entries.iter().any(|(key, _)| key.text == *field) {
                return Some(field);
            }
        }
    }
}

impl<'de> MapAccess<'de> for Pairs<'de, '_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        if let Some((key, value)) = self.next_entry() {
            self.value = Some(Pair::Present(value));
            return seed.deserialize(KeyReader { key, findings: self.reader.findings }).map(Some);
        }
        let Some(field) = self.next_absent() else { return Ok(None) };
        self.value = Some(Pair::Absent(field));
        seed.deserialize(field.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        match self.value.take() {
            Some(Pair::Present(node)) => seed.deserialize(Reader { node, ..self.reader }),
            Some(Pair::Absent(field)) => seed.deserialize(Absent { field, reader: self.reader }),
            None => Err(ReadError::new("a value without a key")),
        }
    }
}

/// The key of a mapping, as text or as a [`Field`].
pub(super) struct KeyReader<'de, 'f> {
    pub(super) key: &'de Key,
    pub(super) findings: &'f RefCell<Vec<Finding>>,
}

impl<'de> Deserializer<'de> for KeyReader<'de, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_borrowed_str(&self.key.text).map_err(|error: ReadError| error.at(self.key.span))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_seq(KeyParts { key: self.key, findings: self.findings, next: 0 })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple map struct enum identifier ignored_any
    }
}

/// A field that does not stand there: nothing where it may be left out, a finding where it must be there.
struct Absent<'de, 'f> {
    field: &'static str,
    pub(super) reader: Reader<'de, 'f>,
}

impl<'de> Deserializer<'de> for Absent<'de, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, ReadError> {
        Err(ReadError::missing_field(self.field))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_none()
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let span = self.reader.node.span;
        self.reader.findings.borrow_mut().extend(ReadError::missing_field(self.field).into_finding(span));
        visitor.visit_seq(Gone { span, next: 0 })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple map struct enum identifier ignored_any
    }
}

pub(super) struct Choice<'de, 'f> {
    pub(super) reader: Reader<'de, 'f>,
    pub(super) name: &'de str,
    pub(super) span: Span,
    pub(super) value: Option<&'de Node>,
}

impl<'de> EnumAccess<'de> for Choice<'de, '_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        let name: de::value::BorrowedStrDeserializer<'de, ReadError> =
            de::value::BorrowedStrDeserializer::new(self.name);
        Ok((seed.deserialize(name).map_err(|error| error.at(self.span))?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de, '_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(ReadError::expecting("found a mapping", format!("`{}` alone", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        match self.value {
            Some(node) => seed.deserialize(Reader { node, ..self.reader }),
            None => Err(ReadError::expecting(
                format!("found {} alone", quoted(self.name)),
                format!("a value behind it: `{{ {}: … }}`", self.name),
            )),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.newtype_variant_seed(PhantomData::<()>).and_then(|()| visitor.visit_unit())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            Some(node) => Reader { node, ..self.reader }.deserialize_struct("", fields, visitor),
            None => Err(ReadError::expecting(
                format!("found {} alone", quoted(self.name)),
                format!("a mapping with {}", one_of(fields)),
            )),
        }
    }
}
