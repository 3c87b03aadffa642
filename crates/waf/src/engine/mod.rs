//! Rules as they are run: read by the parser of `zentinel-modsec`, with its variables, transformations and operators, and run here.
//!
//! That crate's own transactions are not used. In 0.5 they drop what the links of a chain set (46 of the core rule set's chained
//! rules then never score, and the rules of content types and file extensions never match), name rules whose chain did not hold,
//! copy all rules for every request, and cannot be stopped.

mod compile;
mod decode;
mod evaluate;
mod load;
mod multipart;
mod program;
mod subject;

use std::fmt;
use std::path::Path;
use std::time::Instant;

use self::program::Program;
use crate::{Judged, Request, RulesError, Strictness};

/// A compiled rule set.
pub struct Rules {
    program: Program,
}

impl Rules {
    /// Reads and compiles the rule set in `directory`; takes about a second.
    ///
    /// # Errors
    /// The directory has another layout, or holds a rule that cannot be kept.
    pub fn load(directory: &Path) -> Result<Self, RulesError> {
        Ok(Self { program: load::load(directory)? })
    }

    /// Judges a request until `deadline`. CPU-bound: not for a thread that carries traffic.
    #[must_use]
    pub fn inspect(&self, request: &Request, strictness: Strictness, deadline: Instant) -> Judged {
        evaluate::inspect(&self.program, request, strictness, deadline)
    }

    /// How many rules look at requests.
    #[must_use]
    pub fn count(&self) -> usize {
        self.program.phases.iter().map(Vec::len).sum()
    }

    /// Rules that can never match, because the engine does not know what they look at.
    #[must_use]
    pub fn blind(&self) -> &[u32] {
        &self.program.blind
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("count", &self.count()).finish_non_exhaustive()
    }
}
