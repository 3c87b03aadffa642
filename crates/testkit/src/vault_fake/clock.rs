//! The fake's time: that of a runtime, which may be paused, and what the test added to it.

use std::sync::Mutex;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

pub(super) struct Clock {
    runtime: Option<Handle>,
    start: Instant,
    added: Mutex<Duration>,
}

impl Clock {
    /// Goes by this runtime's clock, or by the real one.
    pub(super) fn new(runtime: Option<Handle>) -> Self {
        Self { runtime, start: Instant::now(), added: Mutex::default() }
    }

    /// Since the start; also right on the operator's thread, whose own runtime is not paused.
    pub(super) fn now(&self) -> Duration {
        let _entered = self.runtime.as_ref().map(Handle::enter);
        self.start.elapsed() + *self.added.lock().unwrap()
    }

    pub(super) fn advance(&self, by: Duration) {
        *self.added.lock().unwrap() += by;
    }
}
