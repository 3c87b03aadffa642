//! What a cluster answered: Vault's JSON envelope, or its refusal.

use std::ops::Deref;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroize;

use crate::{Cause, Lease, StoreError};

/// What requests are counted by.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Operation {
    Kv,
    Pki,
    Transit,
    Database,
    Lease,
    Token,
    Login,
    Health,
}

/// The answer to a request that was done: status 2xx.
pub(super) struct Answer {
    /// The login whose token asked; 0 where none of ours did.
    pub(super) login: u64,
    /// The whole body; `null` if it was empty.
    pub(super) body: Wiped,
}

/// The answer to a request that the cluster understood and refused: 400, 404, 405 and their like (never 403, 412, 429, 5xx).
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The texts of `errors`, without control characters and of bounded length.
    pub(super) errors: Vec<String>,
    /// The whole body: a deleted version of KV v2 is a 404 with one.
    pub(super) body: Wiped,
    pub(super) login: u64,
    store: String,
    path: String,
}

/// Why there is no [`Answer`].
pub(super) enum Failure {
    /// For the endpoint to sort; what it does not know becomes [`Cause::Absent`] (404) or [`Cause::Refused`] by `?`.
    Refused(Box<Refusal>),
    /// Sorted.
    Store(StoreError),
}

/// JSON that may hold secrets: its texts are wiped when it is dropped, and it has no readable `Debug`.
#[derive(Default)]
pub(super) struct Wiped(Value);

impl Operation {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Pki => "pki",
            Self::Transit => "transit",
            Self::Database => "database",
            Self::Lease => "lease",
            Self::Token => "token",
            Self::Login => "login",
            Self::Health => "health",
        }
    }
}

impl Answer {
    /// `data`, `null` if there is none.
    pub(super) fn data(&self) -> &Value {
        self.body.get("data").unwrap_or(&Value::Null)
    }

    /// `data` as a type.
    ///
    /// # Errors
    /// An answer that is not what such an answer is: `what` says so.
    pub(super) fn data_as<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, Cause> {
        T::deserialize(self.data()).map_err(|_| Cause::Answer(what))
    }

    /// A part of the body (`auth`, `wrap_info`) as a type.
    ///
    /// # Errors
    /// As [`Answer::data_as`].
    pub(super) fn part_as<T: DeserializeOwned>(&self, part: &str, what: &'static str) -> Result<T, Cause> {
        T::deserialize(self.body.get(part).unwrap_or(&Value::Null)).map_err(|_| Cause::Answer(what))
    }

    /// The lease of the answer, if it has one.
    pub(super) fn lease(&self) -> Option<Lease> {
        let id = self.body.get("lease_id")?.as_str().filter(|id| !id.is_empty())?;
        Some(Lease {
            id: id.to_owned(),
            duration: lifetime(self.body.get("lease_duration")?.as_u64()?),
            is_renewable: self.body.get("renewable")?.as_bool()?,
            login: self.login,
        })
    }

    /// What the cluster warned of.
    pub(super) fn warnings(&self) -> Vec<String> {
        texts(&self.body, "warnings")
    }
}

impl Refusal {
    pub(super) fn new(store: &str, path: &str, status: u16, body: Wiped, login: u64) -> Self {
        let errors = texts(&body, "errors");
        Self { status, errors, body, login, store: store.to_owned(), path: path.to_owned() }
    }

    /// Whether one of the errors has this text in it.
    pub(super) fn says(&self, text: &str) -> bool {
        self.errors.iter().any(|error| error.contains(text))
    }

    /// Leaves out texts that repeat a secret.
    pub(super) fn hide(&mut self, secret: &SecretString) {
        let raw = self.body.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (shown, raw) in self.errors.iter_mut().zip(raw.iter().filter_map(Value::as_str)) {
            if raw.contains(secret.expose_secret()) {
                "(a text that repeats a secret)".clone_into(shown);
            }
        }
    }

    /// As a cause: 404 is an absence, all others a refusal in the cluster's own words.
    pub(super) fn cause(&self) -> Cause {
        match self.status {
            403 => Cause::Denied(format!("`{}`", self.path)),
            404 => Cause::Absent(format!("`{}`", self.path)),
            status if self.errors.is_empty() => {
                Cause::Refused(format!("status {status} for `{}`", self.path))
            }
            _ => Cause::Refused(format!("`{}`: {}", self.path, self.errors.join("; "))),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self { cause: refusal.cause(), store: refusal.store },
            Failure::Store(error) => error,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    /// Whether it is a 403 that nobody has sorted yet.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 403)
    }

    /// As a cause, without the store's name.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Refused(refusal) => refusal.cause(),
            Self::Store(error) => error.cause.clone(),
        }
    }
}

impl Wiped {
    /// Reads a body; an empty one is `null`.
    ///
    /// # Errors
    /// What is not JSON to its end, or has more values than there is room for.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Cause> {
        if body.is_empty() {
            return Ok(Self(Value::Null));
        }
        if !is_small(body) {
            return Err(Cause::Answer("it has too many values"));
        }
        serde_json::from_slice(body).map(Self).map_err(|_| Cause::Answer("it is not whole JSON"))
    }
}

impl Deref for Wiped {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether JSON has at most [`VALUES`] values. A value of two bytes takes dozens once it is read: 32 MiB of them would be more than
/// a gigabyte.
fn is_small(body: &[u8]) -> bool {
    let (mut is_text, mut is_escaped, mut values) = (false, false, 0);
    for byte in body {
        match (is_text, is_escaped, byte) {
            (true, true, _) => is_escaped = false,
            (true, false, b'\\') => is_escaped = true,
            (_, _, b'"') => is_text = !is_text,
            (false, _, b',' | b'[' | b'{') => values += 1,
            _ => {}
        }
    }
    values <= VALUES
}

/// A list of texts in a body, each fit for a log line.
fn texts(body: &Value, field: &str) -> Vec<String> {
    let items = body.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).take(TEXTS).map(quotable).collect()
}

/// A server's text in one line of bounded length.
pub(super) fn quotable(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT);
    line.collect::<String>().trim().to_owned()
}

/// A time that a server tells, in seconds: cut at a hundred years, so that adding it to a clock never overflows.
pub(super) fn lifetime(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(LONGEST))
}

/// Seconds.
const LONGEST: u64 = 100 * 365 * 24 * 3600;
/// No answer that we ask for comes near.
const VALUES: usize = 1 << 18;
/// How many texts of a list are kept.
const TEXTS: usize = 8;
/// How many characters of a text are kept.
const TEXT: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<(), Cause> {
        Wiped::parse(body.as_bytes()).map(drop)
    }

    #[test]
    fn an_answer_that_would_be_a_gigabyte_once_read_is_refused_unread() {
        for value in ["0,", "[],", "{},"] {
            let many = format!("[{}0]", value.repeat(VALUES + 1));
            assert_eq!(parse(&many), Err(Cause::Answer("it has too many values")), "{value}");
        }
        assert_eq!(parse(&format!("[{}0]", "0,".repeat(VALUES / 2))), Ok(()));
        let text = r#",[{\"\\"#.repeat(VALUES);
        assert_eq!(parse(&format!(r#"{{"data":{{"csv":"{text}"}}}}"#)), Ok(()), "texts may hold anything");
    }
}
