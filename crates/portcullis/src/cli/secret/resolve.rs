//! `portcullis secret resolve`.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::cli::exit::{CliError, Exit, Report};
use crate::cli::out::{self, Format, count, paint, printable};
use crate::cli::source::{configuration, runtime};
use crate::config;
use crate::gateway::{self, Outcome};

/// Look up every secret that a configuration refers to
///
/// Logs in to the stores as `run` does, reads every reference once, and prints for each place whether there is a value; never
/// the value. Leases are given back and logins revoked. A store whose login takes a wrapped secret id is not asked, since that
/// can be unwrapped only once. Exits with 5 if a reference does not resolve or a store cannot be opened.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis secret resolve -c portcullis.yaml
  portcullis secret resolve -c portcullis.yaml --format json")]
pub(super) struct Resolve {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Resolve {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        tls::install_default();
        let config = configuration(&self.config)?;
        let places = config::references(&config);
        let references: Vec<_> = places.iter().map(|(_, secret)| &secret.reference).collect();
        let resolution = runtime()?.block_on(gateway::resolve(&config, &references));
        let broken = resolution.broken.iter().map(|(name, reason)| Row {
            place: format!("secrets.stores.{name}"),
            reference: String::new(),
            store: name.to_string(),
            outcome: Outcome::Unresolved(reason.clone()),
        });
        let found = places.iter().zip(resolution.outcomes).map(|((place, secret), outcome)| Row {
            place: place.clone(),
            reference: secret.reference.to_string(),
            store: secret.reference.store().to_owned(),
            outcome,
        });
        let rows: Vec<Row> = broken.chain(found).collect();
        let is_failed = rows.iter().any(|row| matches!(row.outcome, Outcome::Unresolved(_)));
        let text = match self.format {
            Format::Json => {
                let rows = rows.iter().map(Row::json).collect::<Value>();
                format!("{:#}\n", json!({ "ok": !is_failed, "references": rows }))
            }
            Format::Text if rows.is_empty() => "the configuration refers to no secret\n".to_owned(),
            Format::Text => table(&rows) + &tally(&rows),
        };
        Ok(Report::ok(text).ending(if is_failed { Exit::No } else { Exit::Ok }))
    }
}

/// A place of the configuration, and what became of what it refers to.
struct Row {
    place: String,
    /// Empty for a store itself.
    reference: String,
    store: String,
    outcome: Outcome,
}

impl Row {
    fn json(&self) -> Value {
        let (word, reason) = match &self.outcome {
            Outcome::Resolved => ("ok", None),
            Outcome::Unresolved(reason) => ("failed", Some(reason.as_str())),
            Outcome::NotAsked(reason) => ("not_asked", Some(*reason)),
        };
        let Self { place, reference, store, .. } = self;
        json!({ "place": place, "reference": reference, "store": store, "result": word, "reason": reason })
    }

    fn cell(&self) -> Cell {
        match &self.outcome {
            Outcome::Resolved => Cell::new("ok").fg(Color::Green),
            Outcome::Unresolved(reason) => Cell::new(printable(reason)).fg(Color::Red),
            Outcome::NotAsked(reason) => Cell::new(format!("not asked: {reason}")).fg(Color::Yellow),
        }
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(
        ["place", "reference", "store", "result"].map(|head| Cell::new(head).fg(Color::DarkCyan)),
    );
    for row in rows {
        table.add_row([
            Cell::new(&row.place),
            Cell::new(printable(&row.reference)),
            Cell::new(&row.store),
            row.cell(),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

fn tally(rows: &[Row]) -> String {
    let number = |is: fn(&Outcome) -> bool| rows.iter().filter(|row| is(&row.outcome)).count();
    let failed = number(|outcome| matches!(outcome, Outcome::Unresolved(_)));
    let resolved = number(|outcome| *outcome == Outcome::Resolved);
    let mut text = format!("\n{} resolved", count(resolved, "reference", "references"));
    if failed > 0 {
        text += &format!(", {}", paint(out::ERROR, format!("{failed} failed")));
    }
    text + "\n"
}
