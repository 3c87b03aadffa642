//! Material that is held for a running gateway: a slot with its one writer, and what it was made from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tls::{Slot, SlotWriter};

/// A slot that lives on as long as its definition (the files it is made from) stays the same.
#[derive(Debug)]
pub(super) struct Held<F, T> {
    /// Never given twice in this process: what is built on a slot is built on this number.
    pub(super) id: u64,
    /// What it is made from.
    pub(super) definition: F,
    writer: Mutex<Writer<T>>,
}

#[derive(Debug)]
struct Writer<T> {
    slot: SlotWriter<T>,
    digest: Option<[u8; 32]>,
}

impl<F, T> Held<F, T> {
    /// An empty slot.
    pub(super) fn new(definition: F) -> Self {
        let writer = Writer { slot: SlotWriter::empty(), digest: None };
        Self { id: next_id(), definition, writer: Mutex::new(writer) }
    }

    /// A reader of the slot.
    pub(super) fn reader(&self) -> Slot<T> {
        self.lock().slot.reader()
    }

    /// Whether the slot holds anything.
    pub(super) fn is_filled(&self) -> bool {
        self.lock().slot.reader().load().is_some()
    }

    /// Replaces what the slot holds by what no file gave.
    pub(super) fn keep(&self, value: std::sync::Arc<T>) {
        let mut writer = self.lock();
        writer.slot.publish(value);
        writer.digest = None;
    }

    /// Whether the slot holds what these bytes make.
    pub(super) fn holds(&self, digest: &[u8; 32]) -> bool {
        self.lock().digest.as_ref() == Some(digest)
    }

    /// Replaces what the slot holds.
    pub(super) fn publish(&self, value: std::sync::Arc<T>, digest: [u8; 32]) {
        let mut writer = self.lock();
        writer.slot.publish(value);
        writer.digest = Some(digest);
    }

    /// A panic elsewhere leaves the writer as it was: each of its states is whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, Writer<T>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that this process has not given before.
pub(super) fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
