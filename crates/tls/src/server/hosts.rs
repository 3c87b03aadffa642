//! Server names to policies: exact over one wildcard label over the default, without allocating for canonical names.

use std::borrow::Cow;
use std::collections::HashMap;

use rustls_pki_types::DnsName;

use super::spec::SpecError;

/// The number of a TLS policy within its [`super::ServerTls`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PolicyId(pub(super) u16);

/// The policies of a listener by name.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<str>, PolicyId>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<Box<str>, PolicyId>,
}

impl Hosts {
    /// Adds `pattern`, exact or `*.` and a name.
    pub(super) fn add(&mut self, pattern: &str, policy: PolicyId) -> Result<(), SpecError> {
        let normal = canonical(pattern);
        let (table, name) = match normal.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent),
            None => (&mut self.exact, normal.as_ref()),
        };
        if DnsName::try_from(name).is_err() {
            return Err(SpecError::Host(pattern.to_owned()));
        }
        match table.insert(name.into(), policy) {
            None => Ok(()),
            Some(_) => Err(SpecError::DuplicateHost(pattern.to_owned())),
        }
    }

    /// The policy of `host`, if an entry matches.
    pub(super) fn find(&self, host: &str) -> Option<PolicyId> {
        let host = canonical(host);
        self.exact
            .get(host.as_ref())
            .or_else(|| parent(&host).and_then(|parent| self.wildcard.get(parent)))
            .copied()
    }
}

/// Lower case and without the final dot: `GW.test.` and `gw.test` are one name.
pub(super) fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// What a wildcard for `host` would stand above.
pub(super) fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(patterns: &[&str]) -> Hosts {
        let mut hosts = Hosts::default();
        for (number, pattern) in patterns.iter().enumerate() {
            hosts.add(pattern, PolicyId(u16::try_from(number).unwrap())).unwrap();
        }
        hosts
    }

    #[test]
    fn exact_wins_over_wildcard_and_a_wildcard_stands_for_one_label() {
        let hosts = hosts(&["gw.test", "*.test", "*.gw.test"]);
        for (host, expected) in [
            ("gw.test", Some(0)),
            ("GW.Test", Some(0)),
            ("gw.test.", Some(0)),
            ("other.test", Some(1)),
            ("a.gw.test", Some(2)),
            ("b.a.gw.test", None),
            ("test", None),
            ("", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(hosts.find(host).map(|policy| policy.0), expected, "{host}");
        }
    }

    #[test]
    fn what_is_no_name_or_stands_twice_is_refused() {
        let mut hosts = Hosts::default();
        for pattern in ["", "*", "*.", "a b.test", "x.*.test", "*.*.test", "10.0.0.1"] {
            assert_eq!(
                hosts.add(pattern, PolicyId(0)),
                Err(SpecError::Host(pattern.to_owned())),
                "{pattern}"
            );
        }
        hosts.add("gw.test", PolicyId(0)).unwrap();
        assert_eq!(hosts.add("GW.test.", PolicyId(0)), Err(SpecError::DuplicateHost("GW.test.".to_owned())));
    }
}
