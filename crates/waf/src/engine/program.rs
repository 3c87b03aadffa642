//! Rules in the form in which they are run.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use zentinel_modsec::engine::CtlDirective;
use zentinel_modsec::operators::{Operator, compile_operator};
use zentinel_modsec::parser::{OperatorName, OperatorSpec, SetVarSpec, VariableSpec};
use zentinel_modsec::transformations::TransformationPipeline;

/// All rules that look at requests, by phase: those over the head, then those over the body too.
pub(crate) struct Program {
    pub(crate) phases: [Vec<Rule>; 2],
    /// Rules that can never match.
    pub(crate) blind: Vec<u32>,
}

/// A rule, with the links of its chain.
pub(crate) struct Rule {
    pub(crate) id: u32,
    /// The same in words, for exclusions.
    pub(crate) name: String,
    pub(crate) links: Vec<Link>,
    pub(crate) then: Then,
    pub(crate) flow: Flow,
    /// It adds to the anomaly score.
    pub(crate) scores: bool,
}

/// What a rule that matched means for the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    /// The score decides.
    Nothing,
    /// It is an attack.
    Deny,
    /// Nothing more is looked at.
    Allow,
}

/// Where it goes on after a rule that matched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flow {
    /// At the next one.
    On,
    /// At this place in its phase.
    To(usize),
}

/// One test of a chain.
pub(crate) struct Link {
    /// What it looks at; empty for what always holds.
    pub(crate) variables: Vec<VariableSpec>,
    pub(crate) test: Test,
    pub(crate) is_negated: bool,
    /// What is made of a value before the test; several if each step is to be tested.
    pub(crate) forms: Vec<TransformationPipeline>,
    pub(crate) sets: Vec<SetVarSpec>,
    pub(crate) controls: Vec<CtlDirective>,
    /// What its pattern caught is for those that follow.
    pub(crate) captures: bool,
}

/// How a value is tested.
pub(crate) enum Test {
    Pattern(Regex),
    /// It stands somewhere in this text.
    Within(String),
    Other(Arc<dyn Operator>),
    /// Its argument depends on the request.
    Later(OperatorSpec),
}

/// A value that passed a test.
pub(crate) struct Found {
    /// What was found, then its groups.
    pub(crate) groups: Vec<String>,
}

impl Test {
    /// # Errors
    /// The argument is none, or the operator can't be kept; in words.
    pub(crate) fn new(spec: &OperatorSpec) -> Result<Self, String> {
        if spec.argument.contains("%{") { Ok(Self::Later(spec.clone())) } else { Self::fixed(spec) }
    }

    /// As [`new`](Self::new), with the argument as it stands.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn fixed(spec: &OperatorSpec) -> Result<Self, String> {
        match spec.name {
            OperatorName::Rx => RegexBuilder::new(&spec.argument)
                // As ModSecurity compiles them.
                .dot_matches_new_line(true)
                .size_limit(LARGEST_PATTERN)
                .build()
                .map(Self::Pattern)
                .map_err(|error| error.to_string()),
            OperatorName::Within => Ok(Self::Within(spec.argument.clone())),
            OperatorName::VerifyCc
            | OperatorName::VerifySsn
            | OperatorName::VerifyCpf
            | OperatorName::ValidateHash
            | OperatorName::ValidateDtd
            | OperatorName::ValidateSchema
            | OperatorName::Rbl
            | OperatorName::GeoLookup
            | OperatorName::GsbLookup
            | OperatorName::InspectFile
            | OperatorName::FuzzyHash
            | OperatorName::Rsub => {
                Err(format!("the operator {:?} is not supported: it would never match", spec.name))
            }
            _ => compile_operator(spec).map(Self::Other).map_err(|error| error.to_string()),
        }
    }

    /// What it finds in a value; `None` if nothing.
    pub(crate) fn look(&self, value: &str) -> Option<Found> {
        match self {
            Self::Pattern(pattern) => {
                let found = pattern.captures(value)?;
                let groups = found.iter().map(|group| group.map_or("", |text| text.as_str()).to_owned());
                Some(Found { groups: groups.take(10).collect() })
            }
            Self::Within(text) => text.contains(value).then(|| Found { groups: vec![value.to_owned()] }),
            Self::Other(operator) => {
                let result = operator.execute(value);
                result.matched.then(|| Found { groups: result.matched_value.into_iter().collect() })
            }
            Self::Later(_) => None,
        }
    }
}

/// Compiled bytes of one pattern; the largest of the core rule set takes about a tenth.
const LARGEST_PATTERN: usize = 64 << 20;
