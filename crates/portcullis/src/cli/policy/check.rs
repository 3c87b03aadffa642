//! `portcullis policy check`.

use clap::Args;

use super::Place;
use crate::cli::exit::{CliError, Report};
use crate::cli::out::{self, count, paint};
use crate::config::Severity;

/// Validate the policies
///
/// Against the schema that your claims are part of: every problem at once, each with file, line and column.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis policy check -c portcullis.yaml
  portcullis policy check -d policies")]
pub(super) struct Check {
    #[command(flatten)]
    place: Place,
}

impl Check {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let policies = self.place.read()?;
        let engine = policies.engine(policies.routes.clone())?;
        let (enforced, shadow) = engine.policy_count();
        let files = count(policies.sources.len(), "file", "files");
        let enforced = count(enforced, "policy", "policies");
        Ok(Report {
            complaint: out::problems(&policies.problems(engine.warnings(), Severity::Warning)),
            ..Report::ok(format!(
                "{}: {enforced} and {shadow} in shadow, in {files}\n",
                paint(out::GOOD, "ok")
            ))
        })
    }
}
