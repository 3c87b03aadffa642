//! How far a request body got, and why it got no further.

use std::cell::Cell;

use crate::refusal::Refusal;

/// How far a request body got, for those who wait for the answer.
#[derive(Debug, Default)]
pub struct Progress {
    pub(super) bytes: Cell<u64>,
    seen: Cell<u64>,
    pub(super) failed: Cell<Option<Failed>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Failed {
    Broken,
    TooLarge(u64),
    TooSlow,
}

impl Progress {
    /// Bytes that came from the client.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Counts bytes that came.
    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// True when bytes came since the last time this was asked.
    #[must_use]
    pub fn moved(&self) -> bool {
        self.seen.replace(self.bytes.get()) != self.bytes.get()
    }

    /// The client's fault, if the body was cut off.
    #[must_use]
    pub fn failure(&self) -> Option<Refusal> {
        self.failed.get().map(|failed| match failed {
            Failed::Broken => Refusal::BodyMalformed,
            Failed::TooLarge(most) => Refusal::BodyTooLarge(most),
            Failed::TooSlow => Refusal::BodyTooSlow,
        })
    }
}
