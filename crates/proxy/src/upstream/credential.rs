//! What an upstream is shown in a field of every request.
//!
//! **Passes:** a value of visible ASCII, spaces inside and bytes above 127, as it was given. **Refused:** an empty value, one with a line end, a NUL or
//! another control character, or with white space at either end: it would be read otherwise, or as more than one field.

use std::sync::{Arc, Weak};

use http::{HeaderName, HeaderValue};
use tls::{Slot, SlotWriter};

/// A field with a secret value; its `Debug` does not show it.
#[derive(Debug)]
pub struct FieldCredential {
    name: HeaderName,
    value: HeaderValue,
}

/// Why a value is not taken; never quotes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CredentialError {
    /// Nothing to show.
    #[error("the value is empty")]
    Empty,
    /// A line end, a NUL or another control character.
    #[error("the value holds a line end or another character that no field can carry")]
    Unprintable,
    /// White space is none of a field's value (RFC 9110 section 5.5).
    #[error("the value begins or ends with white space")]
    Padded,
}

impl FieldCredential {
    /// A field of this name with this value.
    ///
    /// # Errors
    /// What the module's header says.
    pub fn new(name: HeaderName, value: &str) -> Result<Self, CredentialError> {
        if value.is_empty() {
            return Err(CredentialError::Empty);
        }
        let mut field = HeaderValue::from_str(value).map_err(|_| CredentialError::Unprintable)?;
        if value.trim_ascii().len() != value.len() {
            return Err(CredentialError::Padded);
        }
        field.set_sensitive(true);
        Ok(Self { name, value: field })
    }

    /// The field's name.
    #[must_use]
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The field's value, marked as sensitive.
    #[must_use]
    pub const fn value(&self) -> &HeaderValue {
        &self.value
    }
}

/// The writing end of a credential. Requests that began with a former one finish with it.
#[derive(Debug)]
pub struct CredentialWriter {
    slot: SlotWriter<FieldCredential>,
    current: Weak<FieldCredential>,
    former: Vec<Weak<FieldCredential>>,
}

impl CredentialWriter {
    /// Without a credential: requests to the upstream are refused until one is published.
    #[must_use]
    pub fn empty() -> Self {
        Self { slot: SlotWriter::empty(), current: Weak::new(), former: Vec::new() }
    }

    /// What [`super::Upstream::credential`] takes.
    #[must_use]
    pub fn reader(&self) -> Slot<FieldCredential> {
        self.slot.reader()
    }

    /// From now on requests carry this one, and connections that were made under a former one are not used again.
    pub fn publish(&mut self, credential: FieldCredential) {
        let credential = Arc::new(credential);
        self.former.retain(|former| former.strong_count() > 0);
        self.former.push(std::mem::replace(&mut self.current, Arc::downgrade(&credential)));
        self.slot.publish(credential);
    }

    /// From now on requests are refused.
    pub fn withdraw(&mut self) {
        self.former.push(std::mem::take(&mut self.current));
        self.slot.withdraw();
    }

    /// Whether a request or the answer to one still uses a former credential: only then may its lease not be revoked.
    #[must_use]
    pub fn is_former_in_use(&self) -> bool {
        self.former.iter().any(|former| former.strong_count() > 0)
    }
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::*;

    #[test]
    fn a_value_that_could_be_read_in_two_ways_is_refused_and_not_quoted() {
        for (value, why) in [
            ("", CredentialError::Empty),
            ("s3cret\r\nx-admin: 1", CredentialError::Unprintable),
            ("s3cret\n", CredentialError::Unprintable),
            ("s3cret\0", CredentialError::Unprintable),
            (" s3cret", CredentialError::Padded),
            ("s3cret\t", CredentialError::Padded),
        ] {
            let error = FieldCredential::new(AUTHORIZATION, value).unwrap_err();
            assert_eq!(error, why, "{value:?}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }

    #[test]
    fn a_credential_shows_nothing_of_itself() {
        let credential = FieldCredential::new(AUTHORIZATION, "Bearer s3cret").unwrap();
        assert_eq!(credential.value(), "Bearer s3cret");
        assert!(!format!("{credential:?}").contains("s3cret"));
    }

    #[test]
    fn a_former_credential_is_in_use_as_long_as_a_request_holds_it() {
        let mut writer = CredentialWriter::empty();
        let reader = writer.reader();
        let publish = |writer: &mut CredentialWriter, value: &str| {
            writer.publish(FieldCredential::new(AUTHORIZATION, value).unwrap());
        };
        publish(&mut writer, "one");
        let held = reader.load().unwrap();
        assert!(!writer.is_former_in_use(), "it is the current one");
        publish(&mut writer, "two");
        assert!(writer.is_former_in_use());
        publish(&mut writer, "three");
        assert!(writer.is_former_in_use(), "also after another swap");
        drop(held);
        assert!(!writer.is_former_in_use());
        writer.withdraw();
        assert!(reader.load().is_none() && !writer.is_former_in_use());
    }
}
