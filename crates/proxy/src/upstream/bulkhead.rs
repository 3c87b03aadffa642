//! A bulkhead: so many requests at once to one upstream, on all cores together; the others wait for their turn, or are shed.
//!
//! The slots are one count that all cores share. Who finds none waits on its own core, in a [`FairQueue`]; a slot that is given
//! back rings a core on which somebody waits, whose doorman takes slots for its queue. INVARIANT: while slots are free and anybody
//! waits, a bell has been rung that nobody has answered yet. As long as anybody waits, nobody passes by.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::fair::{FairQueue, Ticket};
use crate::core::Core;

/// How many at once, and who may wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BulkheadRules {
    /// Requests from their head to the end of their answer.
    pub requests: usize,
    /// Who may wait; nobody without.
    pub queue: Option<QueueRules>,
}

/// Who may wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueRules {
    /// So many, spread evenly over the cores.
    pub most: usize,
    /// So long.
    pub wait: Duration,
}

/// The bulkhead of one upstream.
#[derive(Debug)]
pub struct Bulkhead {
    rules: BulkheadRules,
    /// Tells it from all others.
    number: u64,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    cores: Box<[Waiting]>,
    /// The core whose turn it is.
    turn: AtomicUsize,
}

/// Who waits on one core.
#[derive(Debug, Default)]
struct Waiting {
    count: AtomicUsize,
    bell: Notify,
}

/// Why a request is shed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shed {
    /// As many wait as may.
    Full,
    /// It waited as long as it may.
    Late,
}

impl Shed {
    /// In a word.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "queue_full",
            Self::Late => "queue_time",
        }
    }
}

/// One of the requests at once, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<Bulkhead>);

/// The queues of one core, by the number of their bulkhead.
#[derive(Debug, Default)]
pub struct Queues(HashMap<u64, FairQueue<oneshot::Sender<Slot>>>);

impl Bulkhead {
    /// With all slots free, on so many cores.
    #[must_use]
    pub fn new(rules: BulkheadRules, number: u64, cores: usize) -> Self {
        Self {
            rules,
            number,
            in_flight: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            cores: (0..cores.max(1)).map(|_| Waiting::default()).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// What it was made of.
    #[must_use]
    pub const fn rules(&self) -> BulkheadRules {
        self.rules
    }

    /// Requests at once.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A slot, after a while if need be.
    ///
    /// # Errors
    /// There is none for this caller.
    pub(super) async fn enter(self: &Arc<Self>, core: &Rc<Core>, caller: u64) -> Result<Slot, Shed> {
        if self.waiting.load(Ordering::SeqCst) == 0
            && let Some(slot) = self.take()
        {
            return Ok(slot);
        }
        let rules = self.rules.queue.ok_or(Shed::Full)?;
        let (given, slot) = oneshot::channel();
        let _place = Place::new(self, core, caller, given).ok_or(Shed::Full)?;
        match timeout(rules.wait, slot).await {
            Ok(Ok(slot)) => Ok(slot),
            // Somebody else with less in the queue got the place.
            Ok(Err(_)) => Err(Shed::Full),
            Err(_) => Err(Shed::Late),
        }
    }

    fn take(self: &Arc<Self>) -> Option<Slot> {
        let one_more = |taken| (taken < self.rules.requests).then_some(taken + 1);
        let taken = self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        taken.is_ok().then(|| Slot(Arc::clone(self)))
    }

    /// The part of a core that may not be there when metrics count for fewer cores.
    fn on(&self, core: &Core) -> Option<&Waiting> {
        self.cores.get(core.id.index() % self.cores.len())
    }

    /// Wakes the next core on which somebody waits.
    fn ring(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let from_turn = self.cores.iter().cycle().skip(turn % self.cores.len()).take(self.cores.len());
        if let Some(core) = from_turn.into_iter().find(|core| core.count.load(Ordering::SeqCst) > 0) {
            core.bell.notify_one();
        }
    }

    /// Gives slots to those who wait on this core, until nobody does.
    async fn keep_door(self: Arc<Self>, core: Rc<Core>) {
        let Some(own) = self.on(&core) else { return };
        loop {
            loop {
                let is_empty = {
                    let mut queues = core.queues.borrow_mut();
                    let is_empty = queues.0.get(&self.number).is_none_or(|queue| queue.len() == 0);
                    if is_empty {
                        queues.0.remove(&self.number);
                    }
                    is_empty
                };
                if is_empty {
                    // What this core was rung for is somebody else's.
                    self.ring();
                    return;
                }
                let Some(slot) = self.take() else { break };
                let waiter = core.queues.borrow_mut().0.get_mut(&self.number).and_then(FairQueue::pop);
                // Who has gone meanwhile leaves the slot to the next.
                drop(waiter.map(|waiter| waiter.send(slot)));
            }
            own.bell.notified().await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.ring();
    }
}

/// Somebody who waits, until this is dropped.
struct Place {
    bulkhead: Arc<Bulkhead>,
    core: Rc<Core>,
    caller: u64,
    ticket: Ticket,
}

impl Place {
    /// A place in this core's queue; nothing if it is full of callers who have no more in it than this one.
    fn new(
        bulkhead: &Arc<Bulkhead>,
        core: &Rc<Core>,
        caller: u64,
        given: oneshot::Sender<Slot>,
    ) -> Option<Self> {
        let (rules, own) = (bulkhead.rules.queue?, bulkhead.on(core)?);
        let most = rules.most.div_ceil(bulkhead.cores.len());
        let mut queues = core.queues.borrow_mut();
        let queue = queues.0.entry(bulkhead.number);
        let is_new = matches!(queue, hashbrown::hash_map::Entry::Vacant(_));
        let queue = queue.or_default();
        if queue.len() >= most {
            drop(queue.push_out(caller)?);
        }
        let ticket = queue.push(caller, given);
        drop(queues);
        own.count.fetch_add(1, Ordering::SeqCst);
        bulkhead.waiting.fetch_add(1, Ordering::SeqCst);
        if is_new {
            core.tasks.spawn_local(Arc::clone(bulkhead).keep_door(Rc::clone(core)));
        } else {
            // A slot may have come back before anybody was seen waiting.
            own.bell.notify_one();
        }
        Some(Self { bulkhead: Arc::clone(bulkhead), core: Rc::clone(core), caller, ticket })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self { bulkhead, core, caller, ticket } = self;
        if let Some(queue) = core.queues.borrow_mut().0.get_mut(&bulkhead.number) {
            queue.remove(*caller, *ticket);
        }
        bulkhead.waiting.fetch_sub(1, Ordering::SeqCst);
        if let Some(own) = bulkhead.on(core) {
            own.count.fetch_sub(1, Ordering::SeqCst);
            // The doorman goes home when nobody waits.
            own.bell.notify_one();
        }
    }
}
