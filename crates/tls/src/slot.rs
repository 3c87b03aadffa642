//! One-writer, many-reader places for material (certificates, trust).
//!
//! What is published replaces the former whole, at once and for every reader; readers never lock and never wait.
//! Generations are numbers of the whole process, never used twice, and grow within a slot: the sum over several slots
//! changes exactly when one of them does, so that a cache over many slots needs to keep one number. (The largest would
//! not do: two writers may store in the other order than they drew their numbers.)

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

/// The reading end of a slot; cheap to clone and to load.
pub struct Slot<T>(Arc<ArcSwap<Published<T>>>);

/// The writing end of a slot: there is one, and it cannot be cloned.
pub struct SlotWriter<T>(Slot<T>);

/// What a slot holds, with the generation that it was published as.
pub(crate) struct Published<T> {
    pub(crate) generation: u64,
    pub(crate) value: Option<Arc<T>>,
}

/// What is made from slots, and made anew when one of them has changed.
#[derive(Debug)]
pub(crate) struct Derived<T> {
    current: ArcSwap<T>,
    /// Held while `current` is made anew, so that all cores get the same one.
    renewal: Mutex<()>,
}

impl<T> Derived<T> {
    pub(crate) fn new(first: T) -> Self {
        Self { current: ArcSwap::from_pointee(first), renewal: Mutex::new(()) }
    }

    /// Reads what holds now: the last one while `is_current` says so, else what `make` makes. Reading counts no
    /// references: the cores do not fight over a counter.
    pub(crate) fn read<R, E>(
        &self,
        is_current: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Result<T, E>,
        read: impl FnOnce(&Arc<T>) -> R,
    ) -> Result<R, E> {
        let current = self.current.load();
        if is_current(&current) {
            return Ok(read(&current));
        }
        let _held = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load();
        if is_current(&current) {
            return Ok(read(&current));
        }
        let renewed = Arc::new(make()?);
        self.current.store(Arc::clone(&renewed));
        Ok(read(&renewed))
    }
}

/// A number that this process has not drawn before, greater than all drawn before it.
pub(crate) fn next_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl<T> SlotWriter<T> {
    /// An empty slot: whoever needs its material is refused until something is published.
    #[must_use]
    pub fn empty() -> Self {
        Self(Slot(Arc::new(ArcSwap::from_pointee(Published { generation: next_generation(), value: None }))))
    }

    /// Replaces what the slot holds.
    pub fn publish(&mut self, value: Arc<T>) {
        self.store(Some(value));
    }

    /// Empties the slot; its readers fail closed.
    pub fn withdraw(&mut self) {
        self.store(None);
    }

    /// A reader of this slot.
    #[must_use]
    pub fn reader(&self) -> Slot<T> {
        self.0.clone()
    }

    fn store(&mut self, value: Option<Arc<T>>) {
        self.0.0.store(Arc::new(Published { generation: next_generation(), value }));
    }
}

impl<T> Slot<T> {
    /// What was published last, or nothing.
    #[must_use]
    pub fn load(&self) -> Option<Arc<T>> {
        self.0.load().value.clone()
    }

    /// The number of the last publication (or withdrawal); see the module's header.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.load().generation
    }

    /// Whether both read the same slot.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Value and generation of one publication.
    pub(crate) fn published(&self) -> Arc<Published<T>> {
        self.0.load_full()
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot at generation {}", self.generation())
    }
}

impl<T> fmt::Debug for SlotWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writer of {:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_a_publication_whole_and_an_empty_slot_as_nothing() {
        let mut writer = SlotWriter::empty();
        let reader = writer.reader();
        assert!(reader.load().is_none());
        let before = reader.generation();
        writer.publish(Arc::new(7));
        assert_eq!(reader.load().as_deref(), Some(&7));
        assert!(reader.generation() > before);
        writer.withdraw();
        assert!(reader.load().is_none());
    }

    #[test]
    fn the_generation_grows_with_every_publication() {
        let mut writer = SlotWriter::empty();
        let reader = writer.reader();
        let first = reader.generation();
        writer.publish(Arc::new(1));
        let second = reader.generation();
        writer.publish(Arc::new(1));
        assert!(first < second && second < reader.generation());
    }
}
