//! Credentials for upstreams of a running gateway: from values of stores to the field that every request carries.
//!
//! **Published:** a value that a field can carry, whole. **Refused:** everything else; what was there stays. Requests that began with
//! the former credential finish with it, and only then its lease is given back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName};
use proxy::upstream::{CredentialWriter, FieldCredential};
use secrets::{ExposeSecret as _, SecretString};
use tls::Slot;
use zeroize::Zeroizing;

use super::jobs::{JobKey, MaterialSink, Tell};
use super::slots::next_id;
use crate::config::model::{SecretReference, UpstreamCredentials};

/// The credential of an upstream; lives on while its definition stays the same.
#[derive(Debug)]
pub(super) struct HeldCredential {
    /// Never given twice in this process.
    pub(super) id: u64,
    pub(super) definition: UpstreamCredentials,
    writer: Mutex<CredentialWriter>,
}

impl HeldCredential {
    /// Nothing is held: requests to the upstream are refused until something is.
    pub(super) fn new(definition: UpstreamCredentials) -> Self {
        Self { id: next_id(), definition, writer: Mutex::new(CredentialWriter::empty()) }
    }

    /// What [`proxy::upstream::Upstream::credential`] takes.
    pub(super) fn reader(&self) -> Slot<FieldCredential> {
        self.lock().reader()
    }

    fn publish(&self, values: &[SecretString]) -> Result<(), String> {
        let credential = credential(&self.definition, values)?;
        self.lock().publish(credential);
        Ok(())
    }

    /// Refuses requests to the upstream until something new is published: the lease of what was there has ended.
    pub(super) fn withdraw(&self) {
        let mut writer = self.lock();
        if writer.reader().load().is_some() {
            writer.withdraw();
        }
    }

    /// A panic elsewhere leaves the writer as it was: each of its states is whole.
    fn lock(&self) -> MutexGuard<'_, CredentialWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the values of a credential are, in the order in which [`credential`] takes them.
pub(super) fn references(definition: &UpstreamCredentials) -> Vec<&SecretReference> {
    match definition {
        UpstreamCredentials::Bearer(value) | UpstreamCredentials::Field { value, .. } => vec![value],
        UpstreamCredentials::Basic { username, password } => vec![username, password],
    }
}

/// The field that a credential stands in: no client may set it, except its own `Authorization`.
pub(super) fn field(definition: &UpstreamCredentials) -> &HeaderName {
    match definition {
        UpstreamCredentials::Bearer(_) | UpstreamCredentials::Basic { .. } => &AUTHORIZATION,
        UpstreamCredentials::Field { name, .. } => name,
    }
}

/// The field of these values.
///
/// # Errors
/// Why no request can carry it; never quotes a value.
pub(super) fn credential(
    definition: &UpstreamCredentials,
    values: &[SecretString],
) -> Result<FieldCredential, String> {
    let value = match (definition, values) {
        (UpstreamCredentials::Bearer(_), [token]) => Zeroizing::new(format!("Bearer {}", bearer(token)?)),
        (UpstreamCredentials::Basic { .. }, [username, password]) => basic(username, password)?,
        (UpstreamCredentials::Field { .. }, [value]) => Zeroizing::new(value.expose_secret().to_owned()),
        _ => return Err("another number of values than the credential has".to_owned()),
    };
    FieldCredential::new(field(definition).clone(), &value).map_err(|error| error.to_string())
}

/// RFC 6750 section 2.1.
fn bearer(token: &SecretString) -> Result<&str, String> {
    let token = token.expose_secret();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    match token.is_empty() || !token.bytes().all(is_token) {
        true => Err("the value is no bearer token: it holds white space or another character".to_owned()),
        false => Ok(token),
    }
}

/// RFC 7617 section 2: a colon ends the user, and control characters stand in neither.
fn basic(username: &SecretString, password: &SecretString) -> Result<Zeroizing<String>, String> {
    let (username, password) = (username.expose_secret(), password.expose_secret());
    if username.contains(':') {
        return Err("the user name holds a colon".to_owned());
    }
    if username.contains(char::is_control) || password.contains(char::is_control) {
        return Err("the user name or password holds a line end or another control character".to_owned());
    }
    let pair = Zeroizing::new(format!("{username}:{password}"));
    Ok(Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
}

/// Publishes the values of a credential's job, and tells the job when the former may be given back.
pub(super) fn sink(key: JobKey, held: &Arc<HeldCredential>, tell: Tell) -> MaterialSink<Vec<SecretString>> {
    let (taker, asked) = (Arc::clone(held), Arc::clone(held));
    let sink = MaterialSink::new(key, tell, move |values: Vec<SecretString>| taker.publish(&values));
    MaterialSink { is_former_in_use: Box::new(move || asked.lock().is_former_in_use()), ..sink }
}

#[cfg(test)]
mod tests {
    use secrets::Reference;

    use super::*;
    use crate::config::Span;

    fn reference() -> SecretReference {
        SecretReference { reference: Reference::Env { name: "A".to_owned() }, span: Span::default() }
    }

    fn made(definition: &UpstreamCredentials, values: &[&str]) -> Result<String, String> {
        let values: Vec<SecretString> = values.iter().map(|value| SecretString::from(*value)).collect();
        credential(definition, &values).map(|made| made.value().to_str().unwrap().to_owned())
    }

    fn basic() -> UpstreamCredentials {
        UpstreamCredentials::Basic { username: reference(), password: reference() }
    }

    #[test]
    fn each_kind_is_written_as_its_standard_says() {
        let bearer = UpstreamCredentials::Bearer(reference());
        assert_eq!(made(&bearer, &["abc.DEF-1~+/="]).unwrap(), "Bearer abc.DEF-1~+/=");
        // The example of RFC 7617 section 2.
        assert_eq!(
            made(&basic(), &["Aladdin", "open sesame"]).unwrap(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        let name = HeaderName::from_static("x-api-key");
        let field = UpstreamCredentials::Field { name, value: reference() };
        assert_eq!(made(&field, &["k 1"]).unwrap(), "k 1");
    }

    #[test]
    fn what_no_field_can_carry_is_refused_and_not_quoted() {
        let bearer = UpstreamCredentials::Bearer(reference());
        for value in ["", "s3cret token", "s3cret\r\nx: y", "s3cret\0"] {
            assert!(!made(&bearer, &[value]).unwrap_err().contains("s3cret"), "{value:?}");
        }
        for (username, password) in [("a:s3cret", "b"), ("a", "s3cret\n"), ("s3cret\r", "b")] {
            assert!(!made(&basic(), &[username, password]).unwrap_err().contains("s3cret"));
        }
        assert!(made(&basic(), &["a"]).is_err());
    }

    #[test]
    fn a_credential_whose_lease_has_ended_is_shown_no_longer_until_there_is_another() {
        let held = HeldCredential::new(UpstreamCredentials::Bearer(reference()));
        let reader = held.reader();
        held.publish(&["one".into()]).unwrap();
        held.withdraw();
        held.withdraw();
        assert!(reader.load().is_none());
        held.publish(&["two".into()]).unwrap();
        assert_eq!(reader.load().unwrap().value(), "Bearer two");
    }

    #[test]
    fn a_value_that_is_refused_leaves_the_former() {
        let held = HeldCredential::new(UpstreamCredentials::Bearer(reference()));
        let reader = held.reader();
        assert!(reader.load().is_none());
        held.publish(&["one".into()]).unwrap();
        held.publish(&["two\n".into()]).unwrap_err();
        assert_eq!(reader.load().unwrap().value(), "Bearer one");
    }
}
