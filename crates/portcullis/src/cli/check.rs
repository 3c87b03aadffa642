//! `portcullis check`: the code that `run` and every reload use, without starting anything.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::exit::{CliError, Exit, Report};
use super::out::{self, Format, count};
use crate::config::{self, Checked, Place, Problem, Problems, Severity, Source, Span};
use crate::gateway;

/// Check a configuration, and all that it names
///
/// Reads the configuration, the certificates, keys, bundles and key sets that it names, and the policies, exactly as
/// `run` does, and looks up the secrets that lie on this machine. All problems are told at once, each with file, line, column
/// and what was expected. What a Vault has to say is asked by `portcullis secret resolve`.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis check -c portcullis.yaml
  portcullis check -c portcullis.yaml --deny-warnings --format json")]
pub(super) struct Check {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// How problems are shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Fail on warnings, too
    #[arg(long)]
    deny_warnings: bool,
}

impl Check {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        tls::install_default();
        identity::jwt::install_crypto_provider();
        let (summary, problems) = match config::load(&self.config, gateway::wall_clock()) {
            Err(problems) => (None, problems),
            Ok(checked) => {
                let summary = Summary::new(&checked);
                let unresolved = gateway::unresolved_here(&checked.config);
                if !unresolved.is_empty() {
                    let problems = checked.problems(unresolved);
                    return Ok(self.report(None, &problems));
                }
                match gateway::rehearse(&checked.config, checked.engine, checked.rules) {
                    Err(reason) => (None, does_not_work(&self.config, reason)),
                    Ok(_) => (Some(summary), checked.warnings),
                }
            }
        };
        Ok(self.report(summary.as_ref(), &problems))
    }

    fn report(&self, summary: Option<&Summary>, problems: &Problems) -> Report {
        let failed = summary.is_none() || (self.deny_warnings && !problems.is_empty());
        let report = match self.format {
            Format::Json => Report::ok(format!("{:#}\n", in_json(!failed, summary, problems))),
            Format::Text => Report {
                text: summary.map(Summary::line).unwrap_or_default(),
                complaint: out::problems(problems) + &tally(problems),
                exit: Exit::Ok,
            },
        };
        report.ending(if failed { Exit::Config } else { Exit::Ok })
    }
}

/// What there is in a configuration, by kind.
struct Summary([(&'static str, &'static str, usize); 7]);

impl Summary {
    fn new(Checked { config, engine, .. }: &Checked) -> Self {
        let (enforced, shadow) = engine.policy_count();
        Self([
            ("listener", "listeners", config.listeners.len()),
            ("route", "routes", config.routes.len()),
            ("upstream", "upstreams", config.upstreams.len()),
            ("certificate", "certificates", config.certificates.len()),
            ("token issuer", "token issuers", config.jwt.len()),
            ("policy", "policies", enforced),
            ("shadow policy", "shadow policies", shadow),
        ])
    }

    fn line(&self) -> String {
        let present = self.0.iter().filter(|(_, _, number)| *number > 0);
        let parts: Vec<String> = present.map(|(one, many, number)| count(*number, one, many)).collect();
        format!("{}: {}\n", out::paint(out::GOOD, "ok"), parts.join(", "))
    }
}

/// The problem of a configuration in which every entry is right, and which yet cannot run here.
fn does_not_work(config: &Path, reason: String) -> Problems {
    let source = Arc::new(Source { name: config.display().to_string(), text: String::new() });
    Problems::new(vec![Problem {
        severity: Severity::Error,
        place: Place::new(&source, Span::default(), String::new()),
        message: reason,
        expected: None,
        suggestion: None,
        related: None,
        hidden: false,
    }])
}

/// `{ok, errors, warnings, problems, summary}`.
fn in_json(ok: bool, summary: Option<&Summary>, problems: &Problems) -> Value {
    let summary = summary.map(|Summary(parts)| {
        let parts = parts.iter().map(|(_, many, number)| (many.replace(' ', "_"), json!(number)));
        Value::Object(parts.collect())
    });
    json!({
        "ok": ok,
        "errors": problems.errors(),
        "warnings": problems.warnings(),
        "problems": problems.json(),
        "summary": summary,
    })
}

fn tally(problems: &Problems) -> String {
    let mut text = String::new();
    for (style, number, word) in
        [(out::ERROR, problems.errors(), "error"), (out::WARNING, problems.warnings(), "warning")]
    {
        if number > 0 {
            let separator = if text.is_empty() { "" } else { ", " };
            let counted = out::paint(style, count(number, word, &format!("{word}s")));
            // Writing to a text does not fail.
            write!(text, "{separator}{counted}").ok();
        }
    }
    if text.is_empty() { text } else { text + "\n" }
}
