//! `portcullis deny`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use admin::client;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::door::Door;
use super::exit::{CliError, Report};
use super::out::{self, Format, count, paint, printable};
use super::source::runtime;
use super::time;
use crate::config::denied;
use crate::gateway::wall_clock;

/// Withdraw a principal, token or certificate from the running gateway
#[derive(Args, Debug)]
pub(super) struct Deny {
    #[command(subcommand)]
    change: Change,
}

#[derive(Debug, Subcommand)]
enum Change {
    Add(Add),
    Rm(Remove),
    List(List),
}

/// Deny somebody or something from now on
///
/// New requests are refused at once, streams and connections that are open end within a second. A certificate that is denied
/// counts like one on its authority's revocation list. With `identity.denied.state` in the configuration the entry survives a
/// restart; without, a restart forgets it, and that is said.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis deny add --principal 'jwt:https://id.example.com#alice' --reason 'left' -c portcullis.yaml
  portcullis deny add --token 7c1f9a --issuer https://id.example.com --for 8h -c portcullis.yaml
  portcullis deny add --certificate 4F:0B:22 --trust mesh -c portcullis.yaml
  portcullis deny add --spiffe spiffe://example.org/ns/shop/sa/web --until 2026-12-31T23:59:59Z -c portcullis.yaml")]
struct Add {
    #[command(flatten)]
    named: Named,
    /// For how long, as in `90s`, `8h`. A token need not be denied for longer than it lives
    #[arg(long = "for", value_name = "TIME", value_parser = crate::config::time, conflicts_with = "until")]
    lasts: Option<Duration>,
    /// Until when, as in `2026-12-31T23:59:59Z`
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why, for whoever reads the list
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    door: Door,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Deny it no longer
///
/// Only what `portcullis deny add` said can be taken back; what stands in `identity.denied.file` is removed there.
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis deny rm --principal 'jwt:https://id.example.com#alice' -c portcullis.yaml")]
struct Remove {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    door: Door,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Show what is denied
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis deny list -c portcullis.yaml")]
struct List {
    #[command(flatten)]
    door: Door,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is denied.
#[derive(Args, Debug)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["principal", "spiffe", "token", "certificate"]))]
struct Named {
    /// A principal's id, as the access log and `portcullis explain` show it
    #[arg(long, value_name = "ID")]
    principal: Option<String>,
    /// A workload's SPIFFE id, in certificates and as the subject of tokens
    #[arg(long, value_name = "ID")]
    spiffe: Option<String>,
    /// A token's `jti`
    #[arg(long, value_name = "JTI")]
    token: Option<String>,
    /// A certificate's serial number, as `portcullis cert inspect` shows it
    #[arg(long, value_name = "SERIAL")]
    certificate: Option<String>,
    /// With `--token`: of this issuer only. With `--certificate`: the issuer's distinguished name
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// With `--certificate`: the trust entry that it is under
    #[arg(long, value_name = "NAME")]
    trust: Option<String>,
}

impl Named {
    fn entry(&self) -> admin::Deny {
        let Self { principal, spiffe, token, certificate, issuer, trust } = self;
        admin::Deny {
            principal: principal.clone(),
            spiffe: spiffe.clone(),
            token: token.clone(),
            certificate: certificate.clone(),
            issuer: issuer.clone(),
            trust: trust.clone(),
            until: None,
            reason: None,
        }
    }
}

impl Deny {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        match &self.change {
            Change::Add(add) => add.run(wall_clock()),
            Change::Rm(remove) => remove.run(),
            Change::List(list) => list.run(wall_clock()),
        }
    }
}

impl Add {
    fn run(&self, now: SystemTime) -> Result<Report, CliError> {
        let mut entry = self.named.entry();
        entry.reason.clone_from(&self.reason);
        entry.until = match self.lasts {
            Some(lasts) => Some(time::timestamp(now + lasts)),
            None => self.until.clone(),
        };
        check(&entry)?;
        let answer = runtime()?.block_on(client::deny(&self.door.socket()?, &entry))?;
        Ok(told(&answer, "denied", self.format))
    }
}

impl Remove {
    fn run(&self) -> Result<Report, CliError> {
        let entry = self.named.entry();
        check(&entry)?;
        let answer = runtime()?.block_on(client::permit_again(&self.door.socket()?, &entry))?;
        Ok(told(&answer, "no longer denied", self.format))
    }
}

impl List {
    fn run(&self, now: SystemTime) -> Result<Report, CliError> {
        let list = runtime()?.block_on(client::denied(&self.door.socket()?))?;
        Ok(Report::ok(match self.format {
            Format::Json => format!("{list:#}\n"),
            Format::Text => listed(&list, now),
        }))
    }
}

/// A mistake on the command line is said as one, before anybody is asked.
fn check(entry: &admin::Deny) -> Result<(), CliError> {
    denied::entry(entry).map(drop).map_err(|problem| match problem.field {
        "" => CliError::Usage(problem.reason),
        field => CliError::Usage(format!("`--{field}`: {}", problem.reason)),
    })
}

fn told(answer: &Value, what: &str, format: Format) -> Report {
    if format == Format::Json {
        return Report::ok(format!("{answer:#}\n"));
    }
    let entries = answer["entries"].as_u64().and_then(|entries| usize::try_from(entries).ok());
    let mut text =
        format!("{what}; the list has {}\n", count(entries.unwrap_or_default(), "entry", "entries"));
    if answer["kept"] == Value::Bool(false) {
        let reason = answer["reason"].as_str().map(printable).unwrap_or_default();
        // Writing to a text does not fail.
        writeln!(text, "{}", paint(out::WARNING, format!("A restart forgets this: {reason}"))).ok();
    }
    Report::ok(text)
}

fn listed(list: &Value, now: SystemTime) -> String {
    let entries = list["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        return "nobody is denied\n".to_owned();
    }
    let mut text = String::new();
    for one in entries {
        let entry = serde_json::from_value(one["entry"].clone()).ok();
        let Some(entry) = entry.and_then(|entry| denied::entry(&entry).ok()) else { continue };
        let until = entry.until.map_or_else(|| "for ever".to_owned(), |until| time::moment(until, now));
        let reason =
            entry.reason.as_deref().map(|reason| format!("  {}", printable(reason))).unwrap_or_default();
        let source = if one["source"] == "file" { "  (file)" } else { "" };
        writeln!(text, "{}  {until}{source}{reason}", printable(&entry.denied.to_string())).ok();
    }
    if list["kept"] == Value::Bool(false) && entries.iter().any(|one| one["source"] == "socket") {
        let warning = "A restart forgets what `portcullis deny` said: `identity.denied.state` is not configured or cannot be written";
        writeln!(text, "{}", paint(out::WARNING, warning)).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        deny: Deny,
    }

    fn parse(arguments: &str) -> Result<Line, clap::Error> {
        Line::try_parse_from(format!("deny {arguments} --socket nowhere").split(' '))
    }

    #[test]
    fn one_thing_is_named_and_a_mistake_is_said_before_anybody_is_asked() {
        assert!(parse("add").is_err() && parse("add --token a --spiffe b").is_err());
        assert!(parse("add --token a --for 1h --until 2030-01-01T00:00:00Z").is_err());
        for (line, place) in [
            ("add --certificate 0a", "--certificate"),
            ("add --principal alice", "--principal"),
            ("rm --token a --trust mesh", "--trust"),
            ("add --token a --until soon", "--until"),
        ] {
            let Err(CliError::Usage(said)) = parse(line).unwrap().deny.run() else { panic!("{line}") };
            assert!(said.contains(place), "{line}: {said}");
        }
    }

    #[test]
    fn a_list_says_what_until_when_where_from_and_why() {
        let list = json!({ "kept": false, "entries": [
            { "source": "file", "entry": { "spiffe": "spiffe://example.org/web" } },
            { "source": "socket", "entry": { "token": "a", "until": "2030-01-01T00:00:00Z", "reason": "leaked\u{1b}[2J" } },
        ] });
        let text = listed(&list, SystemTime::UNIX_EPOCH);
        assert!(text.contains("workload spiffe://example.org/web  for ever  (file)"), "{text}");
        assert!(
            text.contains("token a  2030-01-01T00:00:00Z") && text.contains(r"leaked\u{1b}[2J"),
            "{text}"
        );
        assert!(text.contains("A restart forgets"), "{text}");
        assert_eq!(listed(&json!({ "entries": [] }), SystemTime::UNIX_EPOCH), "nobody is denied\n");
    }
}
