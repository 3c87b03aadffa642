//! A store for tests, at the seam of [`Lender`]: it runs by the paused clock and can be made to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use secrets::{Cause, Lease, Reading, Reference, StoreError};

use super::Lender;
use crate::Clock;
use crate::script::clock;

/// A store with database credentials at `db/creds/app` and a value at `kv/app`, which can be made to fail.
#[derive(Clone)]
pub(super) struct Fake(Arc<Mutex<State>>, pub(super) Clock);

pub(super) struct State {
    pub(super) leases: BTreeMap<String, Granted>,
    pub(super) minted: u64,
    pub(super) revoked: Vec<String>,
    pub(super) reads: u64,
    pub(super) value: String,
    pub(super) changes_in: Option<u64>,
    pub(super) login: u64,
    pub(super) ttl: Duration,
    pub(super) max_ttl: Duration,
    pub(super) renewable: bool,
    /// Lost at once, in the sense that no renewal finds it.
    pub(super) forgets: bool,
    pub(super) failing: Option<Cause>,
    pub(super) failing_revocation: bool,
}

pub(super) struct Granted {
    pub(super) user: String,
    pub(super) issued: SystemTime,
    pub(super) ends: SystemTime,
    pub(super) login: u64,
}

impl Fake {
    pub(super) fn new(ttl: u64, max_ttl: u64) -> Self {
        let state = State {
            leases: BTreeMap::new(),
            minted: 0,
            revoked: Vec::new(),
            reads: 0,
            value: "first".to_owned(),
            changes_in: None,
            login: 1,
            ttl: Duration::from_secs(ttl),
            max_ttl: Duration::from_secs(max_ttl),
            renewable: true,
            forgets: false,
            failing: None,
            failing_revocation: false,
        };
        Self(Arc::new(Mutex::new(state)), clock())
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.1)()
    }

    /// Whether this user could log in now.
    pub(super) fn is_alive(&self, user: &str) -> bool {
        self.with(|state| {
            state.leases.values().any(|granted| granted.user == user && granted.ends > (self.1)())
        })
    }

    /// The former login's token ends, and what was acquired with it.
    pub(super) fn end_login(&self, login: u64) {
        self.with(|state| state.leases.retain(|_, granted| granted.login > login));
    }
}

fn error(cause: Cause) -> StoreError {
    StoreError { store: "main".to_owned(), cause }
}

impl State {
    fn check(&self) -> Result<(), StoreError> {
        self.failing.clone().map_or(Ok(()), |cause| Err(error(cause)))
    }

    fn mint(&mut self, now: SystemTime) -> (String, Lease) {
        self.minted += 1;
        let (id, user) = (format!("lease-{}", self.minted), format!("user-{}", self.minted));
        let duration = self.ttl.min(self.max_ttl);
        let granted = Granted { user: user.clone(), issued: now, ends: now + duration, login: self.login };
        self.leases.insert(id.clone(), granted);
        (user, Lease { id, duration, is_renewable: self.renewable, login: self.login })
    }
}

impl Lender for Fake {
    async fn read(&self, reference: &Reference) -> Result<Reading, StoreError> {
        let now = self.now();
        self.with(|state| {
            state.check()?;
            state.reads += 1;
            if reference.path() == "kv/gone" {
                return Err(error(Cause::Timeout));
            }
            let (fields, lease, changes_in) = if reference.path() == "kv/app" {
                (vec![("value", state.value.clone())], None, state.changes_in)
            } else {
                let (user, lease) = state.mint(now);
                (vec![("password", format!("of {user}")), ("username", user)], Some(lease), None)
            };
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            Ok(Reading { fields, version: None, lease, changes_in: changes_in.map(Duration::from_secs) })
        })
    }

    async fn renew(&self, _store: &str, lease: &Lease) -> Result<Lease, StoreError> {
        let now = self.now();
        self.with(|state| {
            state.check()?;
            let (ttl, max_ttl, forgets) = (state.ttl, state.max_ttl, state.forgets);
            let granted = state.leases.get_mut(&lease.id).filter(|granted| granted.ends > now && !forgets);
            let granted = granted.ok_or_else(|| error(Cause::LeaseLost))?;
            granted.ends = (now + ttl).min(granted.issued + max_ttl);
            Ok(Lease { duration: granted.ends.duration_since(now).unwrap(), ..lease.clone() })
        })
    }

    async fn revoke(&self, _store: &str, lease: &Lease) -> Result<(), StoreError> {
        self.with(|state| {
            state.check()?;
            if state.failing_revocation {
                return Err(error(Cause::Server { status: 500 }));
            }
            state.leases.remove(&lease.id);
            state.revoked.push(lease.id.clone());
            Ok(())
        })
    }

    fn login(&self, _store: &str) -> u64 {
        self.with(|state| state.login)
    }
}
