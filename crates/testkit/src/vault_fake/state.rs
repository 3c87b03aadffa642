//! Everything that the fake knows, and the way of a request through it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::auth::Method;
use super::call::{Call, Given, Outcome, Refused, Reply};
use super::database::Database;
use super::kv::{Kv1, Kv2};
use super::leases::Lease;
use super::pki::Pki;
use super::policy::Policy;
use super::sys::Wrapped;
use super::tokens::Token;
use super::transit::Transit;
use crate::unix_now;

pub(super) struct State {
    /// Since the start; set before each request.
    pub(super) now: Duration,
    /// Whether the request came through the operator's door.
    pub(super) operator: bool,
    pub(super) sealed: bool,
    pub(super) standby: bool,
    pub(super) namespace: Option<String>,
    /// For how many requests more no lease is found.
    pub(super) lost_leases: usize,
    pub(super) tokens: BTreeMap<String, Token>,
    pub(super) policies: BTreeMap<String, Policy>,
    pub(super) engines: BTreeMap<String, Engine>,
    pub(super) methods: BTreeMap<String, Method>,
    pub(super) leases: BTreeMap<String, Lease>,
    pub(super) wrapped: BTreeMap<String, Wrapped>,
    /// What wall clocks said at the start.
    started: u64,
    counter: u64,
}

pub(super) enum Engine {
    Kv1(Kv1),
    Kv2(Kv2),
    Pki(Box<Pki>),
    Transit(Transit),
    Database(Database),
}

impl State {
    pub(super) fn new(root: &str) -> Self {
        let mut state = Self {
            now: Duration::ZERO,
            operator: false,
            sealed: false,
            standby: false,
            namespace: None,
            lost_leases: 0,
            tokens: BTreeMap::new(),
            policies: BTreeMap::new(),
            engines: BTreeMap::from([("secret".to_owned(), Engine::Kv2(Kv2::default()))]),
            methods: BTreeMap::new(),
            leases: BTreeMap::new(),
            wrapped: BTreeMap::new(),
            started: unix_now(),
            counter: 0,
        };
        state.tokens.insert(root.to_owned(), Token::root(root));
        state.policies.insert("default".to_owned(), Policy::default_one());
        state
    }

    pub(super) fn answer(&mut self, call: &Call) -> Reply {
        self.expire();
        let request = self.count();
        match self.outcome(call).map(|given| self.wrap(call, given).reply(request)) {
            Ok(reply) => reply,
            Err(Refused(status, error)) => Reply::errors(status, &error),
        }
    }

    /// Seconds since 1970 by the fake's clock.
    pub(super) fn unix(&self) -> u64 {
        self.started + self.now.as_secs()
    }

    /// As Vault writes times.
    pub(super) fn date(&self, at: Duration) -> String {
        // Nobody reads it closely: it has to differ when time passes.
        let seconds = self.started + at.as_secs();
        let (day, rest) = (seconds / 86400, seconds % 86400);
        let (year, month, day) = civil(day);
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
    }

    /// Counts from 1: what names are made unique with.
    pub(super) fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn outcome(&mut self, call: &Call) -> Outcome {
        if let Some(open) = self.health(call) {
            return open;
        }
        if !self.operator {
            if self.sealed {
                return refuse(503, "Vault is sealed");
            }
            if self.standby {
                return refuse(500, "local node not active but active cluster node not found");
            }
            let asked = call.namespace.as_deref().map(|namespace| namespace.trim_matches('/'));
            if asked != self.namespace.as_deref() {
                return refuse(403, "permission denied");
            }
        }
        if let Some(open) = self.open(call) {
            return open;
        }
        self.authorise(call)?;
        match call.path.split_once('/') {
            Some(("auth", below)) => self.auth(call, below),
            Some(("sys", below)) => self.sys(call, below),
            _ => self.engine(call),
        }
    }

    /// What needs no token.
    fn open(&mut self, call: &Call) -> Option<Outcome> {
        if let Some(mount) = call.path.strip_prefix("auth/").and_then(|path| path.strip_suffix("/login")) {
            return Some(self.login(call, mount));
        }
        match call.path.as_str() {
            "sys/wrapping/lookup" => return Some(self.wrapping_lookup(call)),
            "sys/wrapping/unwrap" => return Some(self.unwrap(call)),
            _ => {}
        }
        let (mount, below) = self.mounted(&call.path)?;
        let now = self.unix();
        match self.engines.get_mut(&mount) {
            Some(Engine::Pki(pki)) if pki.is_open(&below) => Some(pki.answer(call, &below, now)),
            _ => None,
        }
    }

    fn engine(&mut self, call: &Call) -> Outcome {
        let Some((mount, below)) = self.mounted(&call.path) else {
            return refuse(404, &format!("no handler for route \"{}\". route entry not found.", call.path));
        };
        let (unix, date) = (self.unix(), self.date(self.now));
        match self.engines.get_mut(&mount) {
            Some(Engine::Kv1(kv)) => kv.answer(call, &below),
            Some(Engine::Kv2(kv)) => kv.answer(call, &below, &date),
            Some(Engine::Pki(pki)) => pki.answer(call, &below, unix),
            Some(Engine::Transit(transit)) => transit.answer(call, &below, &date),
            Some(Engine::Database(_)) => self.database(call, &mount, &below),
            None => refuse(404, ""),
        }
    }

    /// The mount that a path lies below, and the rest.
    pub(super) fn mounted(&self, path: &str) -> Option<(String, String)> {
        let below = |mount: &str| {
            path.strip_prefix(mount)
                .filter(|rest| rest.is_empty() || rest.starts_with('/'))
                .map(|rest| (mount.to_owned(), rest.trim_matches('/').to_owned()))
        };
        self.engines.keys().filter_map(|mount| below(mount)).max_by_key(|(mount, _)| mount.len())
    }
}

pub(super) fn refuse(status: u16, error: &str) -> Outcome {
    Err(Refused(status, error.to_owned()))
}

pub(super) fn given(data: Value) -> Outcome {
    Given::data(data)
}

/// A list of names, or the 404 of an empty one.
pub(super) fn names(keys: impl Iterator<Item = String>) -> Outcome {
    let mut keys: Vec<String> = keys.collect();
    keys.sort();
    keys.dedup();
    if keys.is_empty() { refuse(404, "") } else { given(json!({ "keys": keys })) }
}

/// The next part of each name below `path`.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a String>, path: &str) -> Vec<String> {
    let start = if path.is_empty() { String::new() } else { format!("{}/", path.trim_matches('/')) };
    names
        .filter_map(|name| name.strip_prefix(&start))
        .map(|rest| rest.split_once('/').map_or(rest.to_owned(), |(part, _)| format!("{part}/")))
        .collect()
}

/// Days since 1970 as year, month and day (Howard Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + u64::from(month <= 2), month, date)
}
