//! `portcullis drill`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use admin::client::{self, ClientError};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::door::Door;
use super::exit::{CliError, Report};
use super::out::{self, Format, paint, printable};
use super::source::runtime;
use super::time;

/// Rehearse an outage on the running gateway
#[derive(Args, Debug)]
pub(super) struct Drill {
    #[command(subcommand)]
    drill: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    VaultDown(VaultDown),
}

/// Cut the gateway's own path to Vault for a time
///
/// Nobody else notices: Vault goes on, and so does the gateway's traffic on what it holds. Tells at once what ends before
/// the cut does, waits until it is over (Ctrl-C ends it early), and then tells what failed meanwhile.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis drill vault-down --for 5m -c portcullis.yaml
  portcullis drill vault-down --for 30s --store main --socket /run/portcullis/control.sock --format json")]
struct VaultDown {
    #[command(flatten)]
    door: Door,
    /// How long, as in `90s`, `5m`, `1h`
    #[arg(long = "for", value_name = "TIME", value_parser = crate::config::time)]
    lasts: Duration,
    /// One store only
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// Return at once; the cut ends by itself
    #[arg(long)]
    no_wait: bool,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Drill {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let Kind::VaultDown(drill) = &self.drill;
        drill.run()
    }
}

impl VaultDown {
    fn run(&self) -> Result<Report, CliError> {
        let socket = self.door.socket()?;
        let drill = admin::Drill { store: self.store.clone(), seconds: self.lasts.as_secs() };
        let runtime = runtime()?;
        let before = runtime.block_on(client::status(&socket))?;
        let forecast = runtime.block_on(client::drill(&socket, &drill))?;
        // While it lasts, who reads it can still end it.
        if self.format == Format::Text {
            out::print(&foretold(&forecast))?;
        }
        let after = if self.no_wait { None } else { Some(runtime.block_on(self.wait(&socket))?) };
        let failed = after.as_ref().map(|after| failures(&before, after));
        Ok(Report::ok(match self.format {
            Format::Json => {
                format!("{:#}\n", serde_json::json!({ "forecast": forecast, "failed": failed }))
            }
            Format::Text => failed.as_ref().map(told).unwrap_or_default(),
        }))
    }

    /// Waits until the cut is over, and gives the status then.
    async fn wait(&self, socket: &Path) -> Result<Value, ClientError> {
        tokio::select! {
            () = tokio::time::sleep(self.lasts) => {}
            _ = tokio::signal::ctrl_c() => {
                client::drill(socket, &admin::Drill { store: self.store.clone(), seconds: 0 }).await?;
            }
        }
        client::status(socket).await
    }
}

/// What failed between two looks: attempts to renew by material, and refused requests by code.
fn failures(before: &Value, after: &Value) -> BTreeMap<String, u64> {
    let mut failed = BTreeMap::new();
    for (section, shown) in [("renewal_failures", "renewals of"), ("refusals", "requests refused as")] {
        for (name, count) in after[section].as_object().into_iter().flatten() {
            let former = before.get(section).and_then(|counts| counts.get(name)?.as_u64());
            // Counters that begin anew are those of a gateway that was restarted meanwhile.
            let more = count.as_u64().unwrap_or_default().saturating_sub(former.unwrap_or_default());
            if more > 0 && (section != "refusals" || UNAVAILABLE.contains(&name.as_str())) {
                failed.insert(format!("{shown} {name}"), more);
            }
        }
    }
    failed
}

/// What the gateway foresees.
fn foretold(forecast: &Value) -> String {
    let mut text = String::new();
    let word = |value: &Value| value.as_str().map(printable).unwrap_or_default();
    let stores: Vec<String> = forecast["stores"].as_array().into_iter().flatten().map(word).collect();
    // Writing to a text does not fail.
    writeln!(text, "cut from {} until {}", stores.join(", "), word(&forecast["until"])).ok();
    for material in forecast["material"].as_array().into_iter().flatten() {
        let what = format!("{} `{}`", word(&material["kind"]), word(&material["name"]));
        let fails = material["ends_within"] == Value::Bool(true);
        let life = match material["seconds_left"].as_i64() {
            Some(left) => format!("ends in {}", time::span(left.unsigned_abs())),
            None if fails => "is not there yet".to_owned(),
            None => "does not end by itself".to_owned(),
        };
        let verdict = if fails { paint(out::ERROR, "would fail") } else { paint(out::GOOD, "holds") };
        writeln!(text, "  {verdict}  {what}: {life}").ok();
    }
    if forecast["signs_with_vault"] == Value::Bool(true) {
        let verdict = paint(out::WARNING, "would fail");
        writeln!(text, "  {verdict}  minted tokens for callers without one in the cache: 503 at once").ok();
    }
    text
}

/// What came of it.
fn told(failed: &BTreeMap<String, u64>) -> String {
    if failed.is_empty() {
        return "nothing failed meanwhile\n".to_owned();
    }
    let each = failed.iter().map(|(what, often)| format!("  {what}: {often}\n"));
    "failed meanwhile\n".to_owned() + &each.collect::<String>()
}

/// Refusals that missing material causes.
const UNAVAILABLE: [&str; 3] =
    ["TOKEN_SIGNING_UNAVAILABLE", "UPSTREAM_CREDENTIAL_UNAVAILABLE", "KEYS_UNAVAILABLE"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_failed_since_is_told_also_when_the_gateway_was_restarted_meanwhile() {
        let before = json!({ "renewal_failures": { "trust `mesh`": 5 }, "refusals": { "NO_ROUTE": 1 } });
        let after = json!({
            "renewal_failures": { "trust `mesh`": 2, "certificate `edge`": 3 },
            "refusals": { "NO_ROUTE": 9, "TOKEN_SIGNING_UNAVAILABLE": 4 },
        });
        let failed = failures(&before, &after);
        let expected =
            [("renewals of certificate `edge`", 3), ("requests refused as TOKEN_SIGNING_UNAVAILABLE", 4)];
        assert_eq!(failed, expected.map(|(what, often)| (what.to_owned(), often)).into());
    }

    #[test]
    fn material_that_was_never_obtained_is_not_said_to_last() {
        let forecast = json!({ "material": [
            { "kind": "trust", "name": "mesh", "ends_within": true },
            { "kind": "signing_key", "name": "internal", "ends_within": false },
        ] });
        let text = foretold(&forecast);
        assert!(text.contains("trust `mesh`: is not there yet"), "{text}");
        assert!(text.contains("signing_key `internal`: does not end by itself"), "{text}");
    }
}
