//! The deny list as it is written: in its file, in what the gateway keeps itself, and on the control socket.
//!
//! **Passes:** entries that name one principal, workload, token or certificate each. **Refused:** a file of which any
//! entry is not understood: half a deny list is worse than the former one.

use std::sync::Arc;
use std::time::SystemTime;

use admin::Deny;
use identity::deny::{Denied, DenyEntry, Issued, MAX_ENTRIES};
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::finding::Finding;
use super::material::{FromFiles, MaterialError};
use super::model::FileReference;
use super::problem::{Place, Source, Span};
use super::reader::{self, Field};
use super::tree;

/// The deny list in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DenyFile(pub FileReference);

impl FromFiles for DenyFile {
    type Value = Arc<Vec<DenyEntry>>;

    fn files(&self) -> Vec<&FileReference> {
        vec![&self.0]
    }

    fn parse(&self, bytes: &[Zeroizing<Vec<u8>>], _: SystemTime) -> Result<Self::Value, MaterialError> {
        let bytes = bytes.first().ok_or_else(|| MaterialError::new(&self.0, "a file is missing"))?;
        let text = str::from_utf8(bytes).map_err(|_| MaterialError::new(&self.0, "it is not UTF-8"))?;
        parse(text).map(Arc::new).map_err(|reason| MaterialError::new(&self.0, reason))
    }
}

/// The entries of a text.
///
/// # Errors
/// The first thing that is wrong, with its line and column.
pub fn parse(text: &str) -> Result<Vec<DenyEntry>, String> {
    let mut findings = Vec::new();
    let tree = match tree::parse(text, &mut findings) {
        Ok(tree) => Some(tree),
        Err(finding) => {
            findings.push(*finding);
            None
        }
    };
    let file: Option<File> = tree.as_ref().and_then(|tree| reader::read(tree, &mut findings));
    let items = file.and_then(|file| file.denied.value).unwrap_or_default();
    let too_many = items.len() > MAX_ENTRIES;
    let mut entries = Vec::with_capacity(if too_many { 0 } else { items.len() });
    for item in items.into_iter().take(if too_many { 0 } else { MAX_ENTRIES }) {
        let span = item.span;
        let Some(item) = item.value else { continue };
        let (written, spans) = item.split();
        match entry(&written) {
            Ok(entry) => entries.push(entry),
            Err(DenyProblem { field, reason }) => {
                let at = spans.into_iter().find(|(name, _)| *name == field).map_or(span, |(_, span)| span);
                findings.push(Finding::error(at, reason));
            }
        }
    }
    if too_many {
        return Err(format!("more than {MAX_ENTRIES} entries"));
    }
    match findings.into_iter().next() {
        None => Ok(entries),
        Some(Finding { span, message, expected, .. }) => {
            let source = Arc::new(Source { name: String::new(), text: text.to_owned() });
            let Place { line, column, .. } = Place::new(&source, span, String::new());
            let expected = expected.map(|expected| format!(", expected {expected}")).unwrap_or_default();
            Err(format!("line {line}, column {column}: {message}{expected}"))
        }
    }
}

/// The file: a list under one key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    denied: Field<Vec<Field<Item>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    principal: Option<Field<String>>,
    spiffe: Option<Field<String>>,
    token: Option<Field<String>>,
    certificate: Option<Field<String>>,
    issuer: Option<Field<String>>,
    trust: Option<Field<String>>,
    until: Option<Field<String>>,
    reason: Option<Field<String>>,
}

impl Item {
    /// What it says, and where each field stands.
    fn split(self) -> (Deny, Vec<(&'static str, Span)>) {
        let mut spans = Vec::new();
        let mut take = |name, field: Option<Field<String>>| {
            let Field { value, span } = field?;
            spans.push((name, span));
            value
        };
        let deny = Deny {
            principal: take("principal", self.principal),
            spiffe: take("spiffe", self.spiffe),
            token: take("token", self.token),
            certificate: take("certificate", self.certificate),
            issuer: take("issuer", self.issuer),
            trust: take("trust", self.trust),
            until: take("until", self.until),
            reason: take("reason", self.reason),
        };
        (deny, spans)
    }
}

/// Why something that is written is no entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct DenyProblem {
    /// The field that is to blame; empty for the entry as a whole.
    pub field: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// The entry that is written.
///
/// # Errors
/// What is wrong with it.
pub fn entry(written: &Deny) -> Result<DenyEntry, DenyProblem> {
    let (field, denied) = denied(written)?;
    let until = written.until.as_deref().map(|text| {
        let time: Result<Timestamp, _> = text.parse();
        let reason = || "expected a time as in `2026-12-31T23:59:59Z`".to_owned();
        time.map(SystemTime::from).map_err(|_| DenyProblem { field: "until", reason: reason() })
    });
    let wrong =
        |field| move |error: identity::deny::DenyError| DenyProblem { field, reason: error.to_string() };
    let denied = denied.map_err(wrong(field))?;
    DenyEntry::new(denied, until.transpose()?, written.reason.as_deref()).map_err(wrong("reason"))
}

type Named = (&'static str, Result<Denied, identity::deny::DenyError>);

fn denied(written: &Deny) -> Result<Named, DenyProblem> {
    let Deny { principal, spiffe, token, certificate, issuer, trust, .. } = written;
    let problem = |field, reason: &str| DenyProblem { field, reason: reason.to_owned() };
    let alone = |field, of: &Option<String>| match of {
        Some(_) => Err(problem(field, "belongs to another kind of entry")),
        None => Ok(()),
    };
    match (principal, spiffe, token, certificate) {
        (Some(id), None, None, None) => {
            alone("issuer", issuer).and(alone("trust", trust))?;
            Ok(("principal", Denied::principal(id)))
        }
        (None, Some(id), None, None) => {
            alone("issuer", issuer).and(alone("trust", trust))?;
            Ok(("spiffe", Denied::spiffe(id)))
        }
        (None, None, Some(jti), None) => {
            alone("trust", trust)?;
            Ok(("token", Denied::token(jti, issuer.as_deref())))
        }
        (None, None, None, Some(serial)) => {
            let issued = match (trust, issuer) {
                (Some(name), None) => Issued::Under(name.clone()),
                (None, Some(name)) => Issued::By(name.clone()),
                _ => return Err(problem("certificate", "a serial number needs either `trust` or `issuer`")),
            };
            Ok(("certificate", Denied::certificate(serial, issued)))
        }
        _ => Err(problem("", "expected one of `principal`, `spiffe`, `token` and `certificate`")),
    }
}

/// The entry as it is written.
#[must_use]
pub fn written(entry: &DenyEntry) -> Deny {
    let mut deny = Deny { reason: entry.reason.clone(), ..Deny::default() };
    deny.until = entry.until.and_then(|until| Some(Timestamp::try_from(until).ok()?.to_string()));
    match &entry.denied {
        Denied::Principal(id) => deny.principal = Some(id.to_string()),
        Denied::Spiffe(id) => deny.spiffe = Some(id.to_string()),
        Denied::Token { jti, issuer } => {
            (deny.token, deny.issuer) = (Some(jti.clone()), issuer.clone());
        }
        Denied::Certificate { serial, issued } => {
            deny.certificate = Some(serial.clone());
            match issued {
                Issued::Under(name) => deny.trust = Some(name.clone()),
                Issued::By(name) => deny.issuer = Some(name.clone()),
            }
        }
    }
    deny
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
denied:
  - { principal: 'jwt:https://id.example.com#alice', until: 2026-12-31T23:59:59Z, reason: left the company }
  - spiffe: spiffe://example.org/ns/shop/sa/web
  - token: 7c1f
    issuer: https://id.example.com
  - { token: 0815 }
  - { certificate: '0a:0b', trust: mesh }
  - { certificate: 0C, issuer: CN=mesh root }
";

    #[test]
    fn what_is_written_is_read_and_written_again() {
        let entries = parse(LIST).unwrap();
        assert_eq!(entries.len(), 6);
        for one in &entries {
            assert_eq!(entry(&written(one)).as_ref(), Ok(one));
        }
        let again = serde_json::json!({ "denied": entries.iter().map(written).collect::<Vec<_>>() });
        assert_eq!(parse(&again.to_string()).unwrap(), entries);
        assert_eq!(written(&entries[3]).token.as_deref(), Some("0815"));
        assert_eq!(written(&entries[4]).certificate.as_deref(), Some("A0B"));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        for (text, place, reason) in [
            ("denied:\n  - { tokens: a }\n", "line 2", "tokens"),
            ("denied:\n  - {}\n", "line 2", "one of `principal`"),
            ("denied:\n  - { token: a, principal: b }\n", "line 2", "one of `principal`"),
            ("denied:\n  - token: a\n    until: soon\n", "line 3, column 12", "expected a time"),
            ("denied:\n  - principal: alice\n", "line 2, column 16", "as logs show it"),
            ("denied:\n  - certificate: 0a\n", "line 2", "needs either"),
            ("denied:\n  - { certificate: 0a, trust: a, issuer: b }\n", "line 2", "needs either"),
            ("denied:\n  - { spiffe: 'spiffe://a/b', trust: a }\n", "line 2", "another kind"),
            ("denie", "line 1", ""),
            ("", "", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(place) && error.contains(reason), "{text}: {error}");
        }
        assert_eq!(parse("denied: []\n"), Ok(Vec::new()));
    }
}
