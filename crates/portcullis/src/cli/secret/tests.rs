use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use clap::Parser;
use secrets::ExposeSecret;
use secrets::embedded::Opener;
use serde_json::Value;

use super::*;
use crate::cli::exit::Exit;
use crate::cli::{Cli, Command as Top};

fn parsed(arguments: &[&str]) -> Command {
    let line = ["portcullis", "secret"].iter().chain(arguments);
    match Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).command {
        Top::Secret(secret) => secret.command,
        other => panic!("{other:?}"),
    }
}

fn run(arguments: &[&str]) -> Report {
    Secret { command: parsed(arguments) }.run().unwrap_or_else(|error| error.report())
}

/// What `get` would print.
fn value(arguments: &[&str]) -> String {
    match parsed(arguments) {
        Command::Get(get) => get.value().unwrap().expose_secret().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// A directory with `portcullis.yaml`; `rest` follows its stores.
fn configured(opener: &str, rest: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("portcullis.yaml");
    let text = format!(
        "version: 1\nlisteners: {{ edge: {{ bind: 127.0.0.1:0 }} }}\n\
         secrets: {{ stores: {{ local: {{ embedded: {{ directory: kept, {opener} }} }} }} }}\n{rest}"
    );
    fs::write(&path, text).unwrap();
    (directory, path.display().to_string())
}

fn written(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[test]
fn a_value_goes_in_is_listed_comes_out_and_is_removed() {
    let (directory, config) = configured("key: file:store.key", "");
    let made = run(&["init", "-c", &config]);
    assert!(made.exit == Exit::Ok && made.text.contains("keep a copy"), "{made:?}");
    assert_eq!(fs::metadata(directory.path().join("store.key")).unwrap().mode() & 0o777, 0o600);
    let file = written(directory.path(), "value", "canary\n");
    let stored = run(&["set", "-c", &config, "grafana/token", "--file", &file]);
    assert!(stored.exit == Exit::Ok && stored.text.contains("`embedded:grafana/token`"), "{stored:?}");
    assert!(!stored.text.contains("canary"));
    assert_eq!(value(&["get", "-c", &config, "grafana/token"]), "canary");
    assert_eq!(run(&["list", "-c", &config]).text, "grafana/token\n");
    assert_eq!(run(&["list", "-c", &config, "--format", "json"]).text, "[\n  \"grafana/token\"\n]\n");
    assert_eq!(run(&["rm", "-c", &config, "grafana/token"]).exit, Exit::Ok);
    for command in ["rm", "get"] {
        let report = run(&[command, "-c", &config, "grafana/token"]);
        assert!(
            report.exit == Exit::Failure && report.complaint.contains("there is no value `grafana/token`"),
            "{report:?}"
        );
    }
}

#[test]
fn a_store_is_found_without_a_configuration_too() {
    let (directory, config) = configured("key: file:store.key", "");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (kept, key, file) = (path("kept"), path("store.key"), written(directory.path(), "value", "1"));
    assert_eq!(run(&["init", "--directory", &kept, "--key-file", &key]).exit, Exit::Ok);
    assert_eq!(run(&["set", "-c", &config, "a", "--file", &file]).exit, Exit::Ok);
    assert_eq!(value(&["get", "-d", &kept, "-k", &key, "a"]), "1");
    for line in [&["list"][..], &["list", "-d", &kept], &["list", "-c", &config, "-d", &kept, "-k", &key]] {
        let line = ["portcullis", "secret"].iter().chain(line);
        assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2);
    }
}

#[test]
fn the_authority_s_certificate_is_shown_and_its_key_is_not() {
    let (directory, config) = configured("key: file:store.key", "");
    run(&["init", "-c", &config]);
    let shown = run(&["authority", "-c", &config]);
    assert!(shown.exit == Exit::Ok && shown.text.starts_with("-----BEGIN CERTIFICATE-----\n"), "{shown:?}");
    assert!(!shown.text.contains("PRIVATE"));
    assert_eq!(run(&["authority", "-c", &config]).text, shown.text);
    let file = written(directory.path(), "ca.pem", &shown.text);
    assert!(tls::certificates(&fs::read(file).unwrap()).unwrap().len() == 1);
    assert_eq!(run(&["list", "-c", &config]).text, "");
}

#[test]
fn init_overwrites_neither_a_store_nor_a_key() {
    let (directory, config) = configured("key: file:store.key", "");
    let key = written(directory.path(), "store.key", "somebody else's");
    let report = run(&["init", "-c", &config]);
    assert!(report.complaint.contains("is not overwritten"), "{report:?}");
    assert_eq!(fs::read_to_string(&key).unwrap(), "somebody else's");
    fs::remove_file(&key).unwrap();
    assert_eq!(run(&["init", "-c", &config]).exit, Exit::Ok);
    fs::rename(&key, directory.path().join("moved.key")).unwrap();
    let report = run(&["init", "-c", &config]);
    assert!(report.complaint.contains("there is a store in"), "{report:?}");
    assert!(!Path::new(&key).exists(), "a key that opens nothing was made");
}

#[test]
fn a_passphrase_opens_a_store_that_init_made_without_a_key() {
    let (directory, config) = configured("passphrase: file:passphrase", "");
    let report = run(&["init", "-c", &config]);
    assert!(report.exit == Exit::Failure && report.complaint.contains("passphrase"), "{report:?}");
    let file = written(directory.path(), "passphrase", "correct horse battery staple\n");
    assert_eq!(run(&["init", "-c", &config]).exit, Exit::Ok);
    assert_eq!(run(&["set", "-c", &config, "a", "--file", &file]).exit, Exit::Ok);
    written(directory.path(), "passphrase", "wrong");
    let report = run(&["list", "-c", &config]);
    assert!(report.complaint.contains("sealed with another key or passphrase"), "{report:?}");
}

#[test]
fn what_is_missing_or_wrong_is_told_with_what_helps() {
    let (directory, config) = configured("key: file:store.key", "");
    let report = run(&["list", "-c", &config]);
    assert!(report.complaint.contains("`portcullis secret init` makes"), "{report:?}");
    run(&["init", "-c", &config]);
    let binary = directory.path().join("binary");
    fs::write(&binary, b"canary \xff").unwrap();
    let report = run(&["set", "-c", &config, "a", "--file", binary.to_str().unwrap()]);
    assert!(
        report.complaint.contains("it is not UTF-8") && !report.complaint.contains("canary"),
        "{report:?}"
    );
    let report = run(&["set", "-c", &config, "a b", "--file", &config]);
    assert!(report.complaint.contains("expected a name of"), "{report:?}");
    let empty = written(directory.path(), "empty", "\n");
    let report = run(&["set", "-c", &config, "a", "--file", &empty]);
    assert!(report.complaint.contains("expected a value of 1 to"), "{report:?}");
    let bare =
        written(directory.path(), "bare.yaml", "version: 1\nlisteners: { a: { bind: 127.0.0.1:0 } }\n");
    let report = run(&["list", "-c", &bare]);
    assert!(report.complaint.contains("it has no embedded store"), "{report:?}");
}

const REFERENCES: &str = "\
upstreams:
  a: { endpoints: [\"http://127.0.0.1:1\"], credentials: { bearer: embedded:a/token } }
  b: { endpoints: [\"http://127.0.0.1:1\"], credentials: { basic: { username: file:user, password: embedded:b } } }
";

#[test]
fn resolve_tells_each_place_and_never_a_value() {
    let (directory, config) = configured("key: file:store.key", REFERENCES);
    run(&["init", "-c", &config]);
    let user = written(directory.path(), "user", "canary");
    run(&["set", "-c", &config, "a/token", "--file", &user]);
    let report = run(&["resolve", "-c", &config]);
    assert!(report.exit == Exit::No && !report.text.contains("canary"), "{report:?}");
    assert!(report.text.contains("there is no value `b`") && report.text.contains("1 failed"), "{report:?}");
    let json = |report: &Report| serde_json::from_str::<Value>(&report.text).unwrap();
    let all = json(&run(&["resolve", "-c", &config, "--format", "json"]));
    let said: Vec<_> =
        all["references"].as_array().unwrap().iter().map(|row| (&row["place"], &row["result"])).collect();
    assert_eq!(
        format!("{said:?}").replace("String", ""),
        "[((\"secrets.stores.local.embedded.key\"), (\"ok\")), ((\"upstreams.a.credentials.bearer\"), (\"ok\")), \
         ((\"upstreams.b.credentials.basic.username\"), (\"ok\")), \
         ((\"upstreams.b.credentials.basic.password\"), (\"failed\"))]"
    );
    run(&["set", "-c", &config, "b", "--file", &user]);
    let report = run(&["resolve", "-c", &config, "--format", "json"]);
    assert!(report.exit == Exit::Ok && json(&report)["ok"] == true, "{report:?}");
}

#[test]
fn resolve_names_a_store_that_cannot_be_opened_at_its_every_use() {
    let (directory, config) = configured("key: file:store.key", REFERENCES);
    run(&["init", "-c", &config]);
    let other = Opener::generate();
    written(directory.path(), "store.key", other.expose_secret());
    let report = run(&["resolve", "-c", &config]);
    let times = report.text.matches("is sealed with another key or passphrase").count();
    assert!(report.exit == Exit::No && times == 3, "{times}: {report:?}");
}
