//! A build without the engine: there are no rules.

use std::convert::Infallible;
use std::path::Path;
use std::time::Instant;

use crate::{Judged, Request, RulesError, Strictness};

/// A compiled rule set, of which there is none in this build.
#[derive(Debug)]
pub struct Rules(Infallible);

impl Rules {
    /// Finds out that there is no engine.
    ///
    /// # Errors
    /// Always.
    pub fn load(_: &Path) -> Result<Self, RulesError> {
        Err(RulesError::NotBuilt)
    }

    /// Nobody can ask.
    #[must_use]
    pub fn inspect(&self, _: &Request, _: Strictness, _: Instant) -> Judged {
        match self.0 {}
    }

    /// Nobody can ask.
    #[must_use]
    pub fn count(&self) -> usize {
        match self.0 {}
    }

    /// Nobody can ask.
    #[must_use]
    pub fn blind(&self) -> &[u32] {
        match self.0 {}
    }
}
