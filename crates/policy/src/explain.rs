//! Why a request is allowed or denied, found by plain Cedar over all policies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::decide::DenialReason;
use crate::source::{Effect, PolicyId};

/// A decision with all that led to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// `Ok` if the request is allowed, else why it is not.
    pub decision: Result<(), DenialReason>,
    /// The policies that decided; none if nothing permits.
    pub policies: Vec<PolicyNote>,
    /// The policies that erred.
    pub errors: Vec<PolicyFault>,
    /// What each `@shadow` policy that applied or erred would have done.
    pub shadows: Vec<ShadowNote>,
}

impl Explanation {
    /// Whether the request is allowed.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        self.decision.is_ok()
    }
}

/// A policy and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyNote {
    /// Its id.
    pub id: PolicyId,
    /// What it does.
    pub effect: Effect,
    /// Its file.
    pub path: PathBuf,
    /// The line it starts on, counted from 1.
    pub line: u32,
    /// The column it starts at, counted from 1.
    pub column: u32,
    /// All its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A policy that erred, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyFault {
    /// The policy.
    pub policy: PolicyNote,
    /// Cedar's message.
    pub message: String,
}

/// A `@shadow` policy that applied or erred.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShadowNote {
    /// The policy.
    pub policy: PolicyNote,
    /// Whether it would have turned the decision.
    pub would_change: bool,
    /// Its error, if it erred.
    pub error: Option<String>,
}
