//! The two ends of a job: where material comes from and where it goes.

use std::time::{Duration, SystemTime};

use crate::error::SourceError;

/// Obtains candidates and checks them; a candidate that it hands out may serve.
pub trait Source: Send {
    /// What it obtains.
    type Material: Send;

    /// Obtains and checks a candidate; `held` is the life of what serves now. `now` is the time at the call.
    ///
    /// The future may be dropped while it waits: what it has acquired by then must be known to [`Source::close`].
    ///
    /// # Errors
    /// Why there is no candidate, or why it may not serve.
    fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> impl Future<Output = Result<Obtained<Self::Material>, SourceError>> + Send;

    /// Whether what is held must be replaced before its life says so (the login under its lease was replaced).
    fn is_superseded(&self) -> bool {
        false
    }

    /// Gives back what the material before the last one kept (a lease): nobody uses it any more.
    fn retire(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Gives back everything: the job ends. Bounded in time by the caller.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// How long material may serve, and when it is obtained again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Life {
    /// When it was obtained, extended or found unchanged.
    pub obtained: SystemTime,
    /// From when its life counts: when it was issued, as far as is known.
    pub begins: SystemTime,
    /// The hard end, after which it works no more; none for what has no end.
    pub ends: Option<SystemTime>,
    /// Obtained again this long after `obtained`; without it at two thirds of the life. What has neither is never obtained again
    /// except when woken.
    pub again_in: Option<Duration>,
}

/// What a source obtained.
#[derive(Debug)]
pub enum Obtained<M> {
    /// Material that differs from what serves.
    New(M, Life),
    /// What serves lives longer now (a lease was renewed).
    Extended(Life),
    /// Looked at again: what serves is still the newest.
    Unchanged(Life),
}

/// Where material goes. Called by one keeper, never at the same time.
pub trait Sink<M>: Send {
    /// Replaces what serves.
    fn publish(&mut self, material: M, life: &Life);

    /// A try went well without new material: what serves is the newest, or lives longer.
    fn confirmed(&mut self, life: &Life);

    /// A try failed, what serves stays; the next one is at `next`.
    fn failed(&mut self, error: &SourceError, next: SystemTime);

    /// Whether somebody still uses the material before the last one; asked every second until not, a limited time.
    fn is_former_in_use(&self) -> bool {
        false
    }
}
