//! `portcullis status`.

use clap::Args;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use super::door::Door;
use super::exit::{CliError, Report};
use super::out::{self, Format, Rows, count, paint, printable};
use super::source::runtime;
use super::time;

/// Show the state of the running gateway
///
/// What it serves, how its last reload went, and how long certificates, revocation lists and keys are good for.
/// Exits with 4 if no gateway answers.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis status -c portcullis.yaml
  portcullis status --socket /run/portcullis/control.sock --format json")]
pub(super) struct Status {
    #[command(flatten)]
    door: Door,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Status {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let status = runtime()?.block_on(admin::client::status(&self.door.socket()?))?;
        Ok(Report::ok(match self.format {
            Format::Json => format!("{status:#}\n"),
            Format::Text => text(&status),
        }))
    }
}

/// What is absent, from a gateway of another version, is left out.
fn text(status: &Value) -> String {
    let mut rows = Rows::default();
    rows.add("gateway", gateway(status));
    let configuration = &status["configuration"];
    rows.add(
        "configuration",
        format!("{}, generation {}", word(&configuration["file"]), word(&configuration["generation"])),
    );
    rows.add("last reload", last_reload(configuration));
    rows.list("problems", strings(&configuration["problems"]));
    rows.list("pending", strings(&status["pending"]));
    rows.list("degraded", degraded(status).map(|reason| paint(out::WARNING, reason)));
    let routes = count(number(&status["routes"]), "route", "routes");
    let policies = &status["policies"];
    let enforced = count(number(&policies["enforced"]), "policy", "policies");
    rows.add("serves", format!("{routes}, {enforced}, {} in shadow", word(&policies["shadow"])));
    rows.list("denied", denied(&status["denied"]));
    let mut text = rows.to_string();
    let tables = [
        listeners(status),
        certificates(status),
        trust(status),
        keys(status),
        endpoints(status),
        breakers(status),
        stores(status),
        material(status),
        shadows(status),
    ];
    for table in tables.into_iter().flatten() {
        text.push('\n');
        text.push_str(&table);
    }
    text
}

fn gateway(status: &Value) -> String {
    let is = |name: &str| status[name] == Value::Bool(true);
    let state = match (is("ready"), is("draining")) {
        (_, true) => paint(out::WARNING, "draining"),
        (true, false) if degraded(status).next().is_some() => paint(out::WARNING, "ready, degraded"),
        (true, false) => paint(out::GOOD, "ready"),
        (false, false) => paint(out::ERROR, "not ready"),
    };
    let up = time::span(status["uptime_seconds"].as_u64().unwrap_or_default());
    format!("{state}, version {}, process {}, up {up}", word(&status["version"]), word(&status["pid"]))
}

/// What still serves though it could not be renewed, each with the reason.
fn degraded(status: &Value) -> impl Iterator<Item = String> {
    let entries = status["degraded"].as_object().into_iter().flatten();
    entries.map(|(name, reason)| format!("{}: {}", printable(name), word(reason)))
}

/// How much the deny list names, if anything.
fn denied(denied: &Value) -> Option<String> {
    let (file, socket) = (number(&denied["file"]), number(&denied["socket"]));
    let forgets = match denied["kept"] {
        Value::Bool(false) if socket > 0 => paint(out::WARNING, " (a restart forgets these)"),
        _ => String::new(),
    };
    (file + socket > 0).then(|| format!("{file} by the file, {socket} by `portcullis deny`{forgets}"))
}

fn last_reload(configuration: &Value) -> String {
    let result = match configuration["last_reload_ok"].as_bool() {
        Some(true) => paint(out::GOOD, "taken"),
        _ => paint(out::ERROR, "refused: the former configuration serves"),
    };
    format!("{}, {result}", word(&configuration["last_reload"]))
}

fn listeners(status: &Value) -> Option<String> {
    table("listener", &["address", "connections"], &status["listeners"], |entry| {
        let connections = match &entry["waits_for"] {
            Value::String(what) => Cell::new(format!("closed: waits for {}", printable(what))).fg(Color::Red),
            _ => cell(&entry["connections"]),
        };
        vec![cell(&entry["address"]), connections]
    })
}

/// Endpoints that others can stand in for.
fn endpoints(status: &Value) -> Option<String> {
    let upstreams = status["upstreams"].as_object()?.iter();
    let several = upstreams.filter_map(|(name, entry)| Some((name, entry["endpoints"].as_object()?)));
    let by_name = several.filter(|(_, endpoints)| endpoints.len() > 1).flat_map(|(name, endpoints)| {
        endpoints.iter().map(move |(endpoint, entry)| (format!("{name} {endpoint}"), entry.clone()))
    });
    let by_name = Value::Object(by_name.collect::<Map<_, _>>());
    table("endpoint", &["state", "failures"], &by_name, |entry| {
        let color = if entry["state"] == "usable" { Color::Green } else { Color::Red };
        vec![cell(&entry["state"]).fg(color), cell(&entry["failures"])]
    })
}

/// Upstreams that somebody stands before.
fn breakers(status: &Value) -> Option<String> {
    let upstreams = status["upstreams"].as_object()?.iter();
    let guarded = upstreams.filter(|(_, entry)| !entry["circuit"].is_null() || !entry["in_flight"].is_null());
    let by_name = Value::Object(guarded.map(|(name, entry)| (name.clone(), entry.clone())).collect());
    table("upstream", &["circuit", "in flight", "waiting"], &by_name, |entry| {
        let color = if matches!(entry["circuit"].as_str(), None | Some("closed")) {
            Color::Green
        } else {
            Color::Red
        };
        vec![cell(&entry["circuit"]).fg(color), cell(&entry["in_flight"]), cell(&entry["waiting"])]
    })
}

fn stores(status: &Value) -> Option<String> {
    table("store", &["kind", "state", "login ends", "logins"], &status["stores"], |entry| {
        let state = match (entry["reachable"].as_bool(), &entry["cut_until"], &entry["failure"]) {
            (None, ..) => Cell::new("open").fg(Color::Green),
            (_, Value::String(until), _) => {
                Cell::new(format!("cut by a drill until {until}")).fg(Color::Yellow)
            }
            (Some(true), ..) => Cell::new("answers").fg(Color::Green),
            (Some(false), _, Value::Object(failure)) => {
                let since = member(failure, "since");
                Cell::new(format!("{} since {since}", member(failure, "reason"))).fg(Color::Red)
            }
            (Some(false), ..) => Cell::new("not asked yet").fg(Color::Yellow),
        };
        vec![cell(&entry["kind"]), state, left(&entry["token_seconds_left"]), cell(&entry["logins"])]
    })
}

/// What comes from stores.
fn material(status: &Value) -> Option<String> {
    let entries = status["material"].as_array()?.iter();
    let by_name =
        entries.map(|entry| (format!("{} {}", word(&entry["kind"]), word(&entry["name"])), entry.clone()));
    let by_name = Value::Object(by_name.collect::<Map<_, _>>());
    table("from stores", &["age", "left", "renewals", "last failure"], &by_name, |entry| {
        let age = match entry["age_seconds"].as_u64() {
            Some(age) => Cell::new(time::span(age)),
            None => Cell::new("not there yet").fg(Color::Red),
        };
        let failure = match &entry["failure"] {
            Value::Object(failure) => Cell::new(member(failure, "reason")).fg(Color::Yellow),
            _ => Cell::new(""),
        };
        vec![age, left(&entry["seconds_left"]), cell(&entry["renewals"]), failure]
    })
}

fn certificates(status: &Value) -> Option<String> {
    table("certificate", &["names", "ends", "left"], &status["certificates"], |entry| {
        let names: Vec<String> = strings(&entry["names"]).collect();
        vec![Cell::new(names.join(", ")), cell(&entry["not_after"]), left(&entry["seconds_left"])]
    })
}

fn trust(status: &Value) -> Option<String> {
    let head = ["authorities", "ends", "left", "revocation lists", "next update"];
    table("trust", &head, &status["trust"], |entry| {
        let lists = match number(&entry["authorities_with_crl"]) {
            0 => "none".to_owned(),
            some => format!("for {some}"),
        };
        vec![
            cell(&entry["authorities"]),
            cell(&entry["not_after"]),
            left(&entry["seconds_left"]),
            Cell::new(lists),
            left(&entry["crl_seconds_left"]),
        ]
    })
}

fn keys(status: &Value) -> Option<String> {
    table("token issuer", &["keys", "state", "age", "last failure"], &status["keys"], |entry| {
        let state = match entry["available"].as_bool() {
            Some(true) => Cell::new("available").fg(Color::Green),
            _ => Cell::new("unavailable").fg(Color::Red),
        };
        let age = entry["age_seconds"].as_u64().map(time::span).unwrap_or_default();
        let failure = match &entry["last_error"] {
            Value::Object(error) => format!("{} at {}", member(error, "reason"), member(error, "at")),
            _ => String::new(),
        };
        vec![cell(&entry["keys"]), state, Cell::new(age), Cell::new(failure)]
    })
}

fn shadows(policies: &Value) -> Option<String> {
    let entries = policies["shadows"].as_array()?.iter();
    let by_name = entries.map(|entry| (word(&entry["policy"]), entry.clone())).collect::<Map<_, _>>();
    table("shadow policy", &["applied", "would change", "erred"], &Value::Object(by_name), |entry| {
        vec![cell(&entry["applied"]), cell(&entry["would_change"]), cell(&entry["erred"])]
    })
}

/// A table of named entries; none if there are no entries.
fn table(title: &str, head: &[&str], entries: &Value, cells: impl Fn(&Value) -> Vec<Cell>) -> Option<String> {
    let entries = entries.as_object().filter(|entries| !entries.is_empty())?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let heads = [title].into_iter().chain(head.iter().copied());
    table.set_header(heads.map(|head| Cell::new(head).fg(Color::DarkCyan)));
    for (name, entry) in entries {
        let row = match entry {
            Value::Null => vec![Cell::new("not loaded").fg(Color::Red)],
            entry => cells(entry),
        };
        table.add_row([Cell::new(printable(name))].into_iter().chain(row));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    Some(table.trim_fmt() + "\n")
}

/// The time that is left, with a colour when it is short.
fn left(seconds: &Value) -> Cell {
    match seconds.as_i64() {
        None => cell(seconds),
        Some(gone @ ..0) => Cell::new(format!("ended {}", time::distance(gone))).fg(Color::Red),
        Some(short @ ..SOON) => Cell::new(time::span(short.unsigned_abs())).fg(Color::Yellow),
        Some(enough) => Cell::new(time::span(enough.unsigned_abs())),
    }
}

fn cell(value: &Value) -> Cell {
    Cell::new(word(value))
}

fn strings(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().map(word)
}

fn number(value: &Value) -> usize {
    value.as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or_default()
}

fn member(object: &Map<String, Value>, name: &str) -> String {
    object.get(name).map(word).unwrap_or_default()
}

/// A single value without quotes.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// Less than a day is worth a colour.
const SOON: i64 = 86_400;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refused_reload_and_a_certificate_that_ended_are_seen() {
        let status = json!({
            "version": "0.1.0", "pid": 7, "uptime_seconds": 7_300, "ready": true, "draining": false, "pending": [],
            "degraded": { "certificate `edge`": "cannot be read" },
            "configuration": { "file": "p.yaml", "generation": 3, "last_reload": "2026-11-22T00:00:00Z",
                "last_reload_ok": false, "problems": ["p.yaml:1:1: error: broken"] },
            "listeners": { "edge": { "address": "127.0.0.1:8443", "connections": 2 } },
            "routes": 1, "policies": { "enforced": 2, "shadow": 0, "shadows": [] },
            "certificates": { "edge": { "names": ["a.test", "b.test"], "serial": "01", "not_after": "2026-11-21T00:00:00Z",
                "seconds_left": -86_400 }, "spare": null },
            "trust": {}, "keys": {},
            "upstreams": {
                "alone": { "endpoints": { "http://127.0.0.1:1": { "state": "usable", "failures": 0 } } },
                "app": { "endpoints": { "http://127.0.0.1:2": { "state": "ejected", "failures": 4 },
                    "http://127.0.0.1:3": { "state": "usable", "failures": 0 } } },
                "tight": { "endpoints": {}, "circuit": "half_open", "in_flight": 7, "waiting": 3 },
            },
        });
        let shown = anstream::adapter::strip_str(&text(&status)).to_string();
        for part in [
            "ready, degraded, version 0.1.0, process 7, up 2 h",
            "certificate `edge`: cannot be read",
            "p.yaml, generation 3",
            "refused: the former configuration serves",
            "p.yaml:1:1: error: broken",
            "1 route, 2 policies, 0 in shadow",
            "a.test, b.test",
            "ended 24 h ago",
            "not loaded",
            "app http://127.0.0.1:2",
            "ejected",
            "tight",
            "half_open",
        ] {
            assert!(shown.contains(part), "`{part}` is missing:\n{shown}");
        }
        assert!(!shown.contains("alone"), "an only endpoint is always used:\n{shown}");
        assert!(!shown.contains("token issuer"), "what there is none of has no table:\n{shown}");
    }

    #[test]
    fn an_answer_of_another_version_is_still_shown() {
        assert!(text(&json!({})).contains("not ready"));
    }
}
