//! How many credentials may be made beyond the plan, so that a failure never makes them in a loop.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::SourceError;

/// At most so many within any hour.
#[derive(Debug)]
pub(super) struct Budget {
    per_hour: u32,
    spent: VecDeque<Instant>,
}

impl Budget {
    pub(super) const fn new(per_hour: u32) -> Self {
        Self { per_hour, spent: VecDeque::new() }
    }

    /// Makes one beyond the plan.
    ///
    /// # Errors
    /// [`SourceError::Budget`], with how long until there is one again.
    pub(super) fn spend(&mut self, now: Instant) -> Result<(), SourceError> {
        while self.spent.front().is_some_and(|spent| now.duration_since(*spent) >= HOUR) {
            self.spent.pop_front();
        }
        if self.spent.len() < self.per_hour as usize {
            self.spent.push_back(now);
            return Ok(());
        }
        let oldest_ago = self.spent.front().map_or(Duration::ZERO, |oldest| now.duration_since(*oldest));
        Err(SourceError::Budget { minted: self.per_hour, retry_after: HOUR.saturating_sub(oldest_ago) })
    }
}

const HOUR: Duration = Duration::from_secs(3600);
