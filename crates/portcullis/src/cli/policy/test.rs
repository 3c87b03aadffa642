//! `portcullis policy test`.

use std::path::Path;

use ::policy::cases::{CaseOutcome, run_cases};
use clap::Args;
use serde_json::{Value, json};

use super::Place;
use crate::cli::exit::{CliError, Exit, Report};
use crate::cli::out::{self, Format, count, paint, printable};

/// Run the cases beside the policies
///
/// Cases are the `*.json` files in the directory `cases` of the policies. A case passes if plain Cedar and every way in
/// which the gateway decides say what it expects. Exits with 5 if a case fails.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis policy test -d policies
  portcullis policy test -c portcullis.yaml --format json")]
pub(super) struct Test {
    #[command(flatten)]
    place: Place,
    /// How the outcome is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Test {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let policies = self.place.read()?;
        let mut files = Vec::new();
        for (path, file) in &policies.cases {
            let outcomes = run_cases(&policies.sources, &policies.claims, &policies.routes, file)
                .map_err(|found| policies.refused(&found))?;
            files.push((path.as_path(), outcomes));
        }
        let all = || files.iter().flat_map(|(_, outcomes)| outcomes);
        if all().next().is_none() {
            let cases = policies.directory.join("cases");
            return Err(CliError::Unreadable(format!(
                "`{}` holds no cases: nothing was tested",
                cases.display()
            )));
        }
        let failed = all().filter(|outcome| outcome.failure.is_some()).count();
        let text = match self.format {
            Format::Json => format!("{:#}\n", in_json(&files)),
            Format::Text => {
                let total = paint(
                    if failed == 0 { out::GOOD } else { out::ERROR },
                    format!("{} passed, {failed} failed", all().count() - failed),
                );
                let files: String = files.iter().map(|(path, outcomes)| in_text(path, outcomes)).collect();
                format!("{files}{total}\n")
            }
        };
        Ok(Report::ok(text).ending(if failed == 0 { Exit::Ok } else { Exit::No }))
    }
}

/// Only failures are worth a line of their own.
fn in_text(path: &Path, outcomes: &[CaseOutcome]) -> String {
    let mut text = format!("{}: {}\n", path.display(), count(outcomes.len(), "case", "cases"));
    for outcome in outcomes {
        if let Some(failure) = &outcome.failure {
            let name = printable(&outcome.name);
            text += &format!("  {} {name}\n         {}\n", paint(out::ERROR, "failed"), printable(failure));
        }
    }
    text
}

fn in_json(files: &[(&Path, Vec<CaseOutcome>)]) -> Value {
    let file = |(path, outcomes): &(&Path, Vec<CaseOutcome>)| {
        let cases = outcomes.iter().map(|case| json!({ "name": case.name, "failure": case.failure }));
        json!({ "file": path.display().to_string(), "cases": cases.collect::<Value>() })
    };
    files.iter().map(file).collect()
}
