//! Leases: the right to go on after the head of an answer, and where a core finds those that are in use.
//!
//! A lease ends by time on its own: with the token, the certificate's proof, or the time for the whole request. What else ends
//! it (a policy that no longer permits, a route that is gone, a key or an issuer that no longer stands behind the token, the
//! deny list) the core finds out: whatever outlives the head of its answer is enlisted as [`Live`], with the request as it was
//! decided. When something has changed that a decision rests on, every live lease is looked at again (`reconsider`), so
//! many at each tick as fit into [`BUDGET`]: found by what it holds (principal, `jti`, certificate, route), not by an index that
//! every short answer would pay for.
//!
//! A body is enlisted when somebody is waited for (`body::response`); a tunnel holds a [`LeaseInUse`].

mod reconsider;

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::fmt::Debug;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use policy::Permit;
use slab::Slab;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::core::Core;
use crate::record::Record;
use crate::snapshot::Snapshot;
use reconsider::reconsider;

/// The right to stream: the permit, until the earliest of its ends.
#[derive(Debug)]
pub struct Lease {
    ends: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    _permit: Permit,
}

impl Lease {
    /// The lease of a request that began at `began`, which the clock on the wall calls `now`: it ends with the permit, or
    /// when the request has taken for `whole` if that is earlier.
    #[must_use]
    pub fn new(permit: Permit, now: SystemTime, began: Instant, whole: Option<Duration>) -> Self {
        let of_permit = permit.ends().map(|ends| ends.duration_since(now).unwrap_or_default());
        let lasts = match (of_permit, whole) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        let ends = lasts.and_then(|lasts| began.checked_add(lasts));
        Self { ends, timer: None, _permit: permit }
    }

    /// When it ends; never, unless its permit or the upstream says when.
    #[must_use]
    pub const fn ends(&self) -> Option<Instant> {
        self.ends
    }

    /// Whether its time is over; wakes who asks when it is.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ends) = self.ends else { return false };
        self.timer.get_or_insert_with(|| Box::pin(sleep_until(ends))).as_mut().poll(cx).is_ready()
    }
}

/// Why a lease ended before its answer did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaseEnd {
    /// Its time is over: the token, the certificate's proof, or the time for the whole request.
    Time,
    /// The principal, token or certificate is on the deny list.
    Denied,
    /// The policies that are in force now do not permit it.
    Policy,
    /// There is no such route any more, or the request would take another one.
    Route,
    /// The route asks for other proofs now, or the token's key or issuer no longer stands.
    Proof,
    /// The connection that it came on counts no longer.
    Connection,
}

impl LeaseEnd {
    /// The word for it in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Denied => "denied",
            Self::Policy => "policy",
            Self::Route => "route",
            Self::Proof => "proof",
            Self::Connection => "connection",
        }
    }
}

/// The stable code in the access log of an answer that its lease cut short.
pub(crate) const LEASE_ENDED: &str = "LEASE_ENDED";

/// What uses a lease after the head of its answer: a body on its way, a tunnel.
pub(crate) trait Live: Debug {
    /// The request, as it was decided.
    fn record(&self) -> Ref<'_, Record>;

    /// Looks at its clocks, at every tick.
    fn judge(&self, snapshot: &Snapshot, now: Instant, wall: SystemTime);

    /// Its authority has ended: it must, too. Wakes whoever moves its bytes, frees what it holds of the upstream, and takes
    /// nothing out of the core's leases.
    fn end(&self, why: LeaseEnd);
}

/// The leases of a core that are in use.
#[derive(Debug)]
pub(crate) struct Leases {
    live: Slab<Enlisted>,
    /// What the decisions of this round rest on.
    grounds: Grounds,
    /// When the round began: what was decided since then needs no second look.
    since: Instant,
    round: u64,
    /// Whether some are left to be looked at in this round.
    is_pending: bool,
}

#[derive(Debug)]
struct Enlisted {
    live: Rc<dyn Live>,
    /// The round in which it was looked at.
    round: Cell<u64>,
}

/// What all decisions rest on, in numbers that change with it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Grounds {
    configuration: u64,
    deny: u64,
    keys: u64,
}

impl Grounds {
    fn of(core: &Core, snapshot: &Snapshot) -> Self {
        Self {
            configuration: snapshot.generation,
            deny: core.deny.generation(),
            // Within a configuration these only grow.
            keys: snapshot.keys.iter().fold(0, |sum, keys| sum.wrapping_add(keys.generation())),
        }
    }
}

impl Leases {
    /// None yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { live: Slab::new(), grounds: Grounds::default(), since: now, round: 0, is_pending: false }
    }

    /// Finds it from now on; gives its place. `began` is when its request did.
    pub(crate) fn enlist(&mut self, live: Rc<dyn Live>, began: Instant) -> usize {
        let is_of_this_round = began >= self.since;
        self.is_pending |= !is_of_this_round;
        let round = if is_of_this_round { self.round } else { 0 };
        self.live.insert(Enlisted { live, round: Cell::new(round) })
    }

    /// Its answer has ended.
    pub(crate) fn strike(&mut self, place: usize) {
        self.live.try_remove(place);
    }

    /// Looks at the clocks of all.
    pub(crate) fn judge(&self, snapshot: &Snapshot, now: Instant, wall: SystemTime) {
        for (_, enlisted) in &self.live {
            enlisted.live.judge(snapshot, now, wall);
        }
    }

    /// Ends those that would not be let through now, as far as it gets in [`BUDGET`]; the next tick goes on.
    pub(crate) fn review(&mut self, core: &Core, snapshot: &Snapshot, now: Instant, wall: SystemTime) {
        let grounds = Grounds::of(core, snapshot);
        if grounds != self.grounds {
            (self.grounds, self.since, self.is_pending) = (grounds, now, true);
            self.round += 1;
        }
        if !self.is_pending {
            return;
        }
        for (_, enlisted) in self.live.iter().filter(|(_, enlisted)| enlisted.round.get() < self.round) {
            enlisted.round.set(self.round);
            let judged = reconsider(core, snapshot, &enlisted.live.record(), wall);
            if let Err(why) = judged {
                enlisted.live.end(why);
            }
            if now.elapsed() >= BUDGET {
                return;
            }
        }
        self.is_pending = false;
    }
}

/// What a tick may take for looking at leases again: 2 % of a core. A decision takes between one microsecond and fifty.
const BUDGET: Duration = Duration::from_millis(5);

/// A lease in use where nobody is asked for a body: by a tunnel. Its core finds it until it is dropped; then the record is
/// written.
///
/// Move the bytes beside [`LeaseInUse::ended`] and stop when that resolves: also what the connection proves is judged here.
#[derive(Debug)]
pub struct LeaseInUse {
    tunnel: Rc<Tunnel>,
    place: usize,
}

#[derive(Debug)]
struct Tunnel {
    record: RefCell<Record>,
    lease: Lease,
    ended: Cell<Option<LeaseEnd>>,
    waker: RefCell<Option<Waker>>,
}

impl LeaseInUse {
    /// Enlists a lease with the request that it was given for.
    #[must_use]
    pub fn new(lease: Lease, record: Record) -> Self {
        let (core, began) = (record.core.clone(), record.began);
        let tunnel = Rc::new(Tunnel {
            record: RefCell::new(record),
            lease,
            ended: Cell::new(None),
            waker: RefCell::default(),
        });
        let place = core.leases.borrow_mut().enlist(tunnel.clone(), began);
        Self { tunnel, place }
    }

    /// Resolves when the lease has ended, a quarter of a second late at most.
    pub async fn ended(&self) -> LeaseEnd {
        poll_fn(|cx| match self.tunnel.ended.get() {
            Some(why) => Poll::Ready(why),
            None => {
                *self.tunnel.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// The request's record, to count bytes in and to say how it ended. Not to be held across an `await`.
    pub fn record(&self) -> RefMut<'_, Record> {
        self.tunnel.record.borrow_mut()
    }
}

impl Drop for LeaseInUse {
    fn drop(&mut self) {
        let mut record = self.tunnel.record.borrow_mut();
        record.core.leases.borrow_mut().strike(self.place);
        if self.tunnel.ended.get().is_some() {
            record.code = Some(LEASE_ENDED);
        }
    }
}

impl Live for Tunnel {
    fn record(&self) -> Ref<'_, Record> {
        self.record.borrow()
    }

    fn judge(&self, snapshot: &Snapshot, now: Instant, wall: SystemTime) {
        if self.lease.ends.is_some_and(|ends| now >= ends) {
            return self.end(LeaseEnd::Time);
        }
        let record = self.record.borrow();
        let Record { core, connection, .. } = &*record;
        let listener = snapshot.listeners.get(connection.listener());
        if listener.is_some_and(|listener| connection.rejudge(core, listener, wall).is_err()) {
            self.end(LeaseEnd::Connection);
        }
    }

    fn end(&self, why: LeaseEnd) {
        if self.ended.get().is_none() {
            self.ended.set(Some(why));
            self.record.borrow().core.lease_ended(why);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}
