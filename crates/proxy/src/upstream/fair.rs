//! A queue in which everybody has a turn, however many requests somebody else has in it.

use std::collections::VecDeque;

use hashbrown::HashMap;

/// Who waits, by caller: the callers take turns, each one's own requests come in their order.
#[derive(Debug)]
pub(super) struct FairQueue<W> {
    turns: VecDeque<u64>,
    waiting: HashMap<u64, VecDeque<(Ticket, W)>>,
    last: u64,
    len: usize,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ticket(u64);

impl<W> Default for FairQueue<W> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), waiting: HashMap::new(), last: 0, len: 0 }
    }
}

impl<W> FairQueue<W> {
    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Puts a request at the end of its caller's.
    pub(super) fn push(&mut self, caller: u64, waiter: W) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        let own = self.waiting.entry(caller).or_default();
        if own.is_empty() {
            self.turns.push_back(caller);
        }
        own.push_back((ticket, waiter));
        self.len += 1;
        ticket
    }

    /// The first request of the caller whose turn it is.
    pub(super) fn pop(&mut self) -> Option<W> {
        let caller = self.turns.pop_front()?;
        let own = self.waiting.get_mut(&caller)?;
        let (_, waiter) = own.pop_front()?;
        self.len -= 1;
        if own.is_empty() {
            self.waiting.remove(&caller);
        } else {
            self.turns.push_back(caller);
        }
        Some(waiter)
    }

    /// Makes room for a request of `caller`: the newest one of whoever has the most, if that is more than this caller has with it.
    pub(super) fn push_out(&mut self, caller: u64) -> Option<W> {
        let own = self.waiting.get(&caller).map_or(0, VecDeque::len);
        let (most, waiting) = self.waiting.iter_mut().max_by_key(|(_, waiting)| waiting.len())?;
        if waiting.len() <= own + 1 {
            return None;
        }
        // The one with the most has at least two: it keeps its turn.
        debug_assert_ne!(*most, caller);
        let (_, waiter) = waiting.pop_back()?;
        self.len -= 1;
        Some(waiter)
    }

    /// Takes a request out that waits no longer; nothing if it is out already.
    pub(super) fn remove(&mut self, caller: u64, ticket: Ticket) {
        let Some(own) = self.waiting.get_mut(&caller) else { return };
        let before = own.len();
        own.retain(|(known, _)| *known != ticket);
        self.len -= before - own.len();
        if own.is_empty() {
            self.waiting.remove(&caller);
            self.turns.retain(|turn| *turn != caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn popped<W>(queue: &mut FairQueue<W>) -> Vec<W> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn callers_take_turns_however_many_one_of_them_has() {
        let mut queue = FairQueue::default();
        for n in 0..4 {
            queue.push(1, format!("noisy {n}"));
        }
        queue.push(2, "quiet 0".to_owned());
        queue.push(3, "calm 0".to_owned());
        queue.push(2, "quiet 1".to_owned());
        let order = popped(&mut queue);
        assert_eq!(order, ["noisy 0", "quiet 0", "calm 0", "noisy 1", "quiet 1", "noisy 2", "noisy 3"]);
        assert_eq!((queue.len(), queue.turns.len(), queue.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn who_waits_no_longer_has_no_turn() {
        let mut queue = FairQueue::default();
        let (one, two, three) = (queue.push(1, 'a'), queue.push(1, 'b'), queue.push(2, 'c'));
        queue.remove(1, one);
        queue.remove(1, one);
        queue.remove(2, three);
        assert_eq!(queue.len(), 1);
        assert_eq!(popped(&mut queue), ['b']);
        queue.remove(1, two);
        assert_eq!((queue.len(), queue.turns.len()), (0, 0));
    }

    #[test]
    fn a_full_queue_has_room_for_who_has_less_in_it() {
        let mut queue = FairQueue::default();
        for n in 0..3 {
            queue.push(1, n);
        }
        assert_eq!(queue.push_out(1), None, "not for its own");
        assert_eq!(queue.push_out(2), Some(2), "the newest of the one with the most");
        queue.push(2, 20);
        assert_eq!(queue.push_out(2), None, "one each more would be two for both");
        assert_eq!(queue.push_out(3), Some(1));
        queue.push(3, 30);
        assert_eq!(queue.push_out(4), None, "everybody has one");
        assert_eq!(popped(&mut queue), [0, 20, 30]);
    }
}
