//! Named sections: which names there are, and which of them something uses.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::config::finding::{Finding, UNSHOWN, quoted};
use crate::config::problem::{Span, closest};
use crate::config::reader::{Entries, Field};
use crate::config::values::pattern::Name;

/// The names of one section of the file.
pub(super) struct Section {
    /// One of its entries, as a message calls it.
    what: &'static str,
    entries: BTreeMap<Name, Entry>,
}

struct Entry {
    span: Span,
    used: Cell<bool>,
}

impl Section {
    pub(super) fn new<T>(what: &'static str, section: Option<&Field<Entries<Name, T>>>) -> Self {
        let entries = section.and_then(|field| field.value.as_ref()).map(|entries| entries.0.as_slice());
        let named = entries.unwrap_or_default().iter().filter_map(|(key, _)| {
            Some((key.value.clone()?, Entry { span: key.span, used: Cell::new(false) }))
        });
        Self { what, entries: named.collect() }
    }

    /// Where an entry is named.
    pub(super) fn span(&self, name: &Name) -> Option<Span> {
        self.entries.get(name).map(|entry| entry.span)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.entries.keys()
    }

    /// Marks an entry as used; false if there is none.
    pub(super) fn take(&self, name: &Name) -> bool {
        let entry = self.entries.get(name);
        entry.inspect(|entry| entry.used.set(true)).is_some()
    }

    /// The name, if there is such an entry.
    pub(super) fn resolve(&self, name: Name, span: Span, findings: &mut Vec<Finding>) -> Option<Name> {
        if self.take(&name) {
            return Some(name);
        }
        let known = self.entries.keys().map(Name::as_str);
        findings.push(dangling(name.as_str(), span, self.what, known));
        None
    }

    /// A warning for each entry that nothing uses.
    pub(super) fn unused(&self) -> impl Iterator<Item = Finding> {
        let idle = self.entries.iter().filter(|(_, entry)| !entry.used.get());
        idle.map(|(name, entry)| {
            Finding::warning(entry.span, format!("nothing uses the {} `{name}`", self.what))
        })
    }
}

/// A name that nothing carries.
pub(super) fn dangling<'a>(
    name: &str,
    span: Span,
    what: &str,
    known: impl Iterator<Item = &'a str>,
) -> Finding {
    let known: Vec<&str> = known.collect();
    let suggestion = closest(name, known.iter().copied());
    let expected = match known.as_slice() {
        [] => format!("a {what}, and none is configured"),
        known => {
            format!("one of {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
    };
    let message = match quoted(name) {
        hidden if hidden == UNSHOWN => {
            format!("there is no {what} of this name, which is not shown since it may be a secret")
        }
        shown => format!("there is no {what} {shown}"),
    };
    Finding::error(span, message).expecting(expected).suggesting(suggestion)
}
