use clap::CommandFactory;

use super::*;
use crate::dev;
use crate::gateway;

fn run(arguments: &[&str]) -> Report {
    let line = std::iter::once(&"portcullis").chain(arguments);
    let cli = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
    cli.command.run().unwrap_or_else(|error| error.report())
}

#[test]
fn every_argument_is_declared_without_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_says_in_one_line_what_it_does_and_shows_an_example() {
    fn look(command: &clap::Command) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(
            !about.is_empty() && !about.contains('\n') && about.len() < 90,
            "{}: {about}",
            command.get_name()
        );
        let example = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let is_group = command.has_subcommands();
        assert!(is_group || example.contains("portcullis "), "{} has no example", command.get_name());
        command.get_subcommands().for_each(look);
    }
    look(&Cli::command());
}

#[test]
fn exit_codes_are_what_the_help_says() {
    for (exit, number) in [
        (Exit::Ok, 0),
        (Exit::Failure, 1),
        (Exit::Usage, 2),
        (Exit::Config, 3),
        (Exit::Unreachable, 4),
        (Exit::No, 5),
    ] {
        assert_eq!(exit as u8, number);
        assert!(EXIT_CODES.contains(&format!("\n  {number}  ")));
    }
}

#[test]
fn check_and_run_end_alike_on_a_bad_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.yaml");
    std::fs::write(&file, "version: 1\nlisteners: { edge: { bind: nowhere } }\n").unwrap();
    let file = file.to_str().unwrap();
    for command in ["check", "run"] {
        let report = run(&[command, "-c", file]);
        assert_eq!(report.exit, Exit::Config, "{command}");
        assert!(report.complaint.contains("bad.yaml:2:"), "{command}: {}", report.complaint);
    }
    assert_eq!(run(&["check", "-c", "/nowhere/portcullis.yaml"]).exit, Exit::Config);
}

#[test]
fn check_tells_machines_and_people_the_same() {
    let directory = tempfile::tempdir().unwrap();
    dev::make_in(directory.path(), gateway::wall_clock());
    let config = directory.path().join("portcullis.yaml").display().to_string();
    let text = run(&["check", "-c", &config]);
    assert!(text.exit == Exit::Ok && text.text.contains("3 routes"), "{text:?}");
    let json: serde_json::Value =
        serde_json::from_str(&run(&["check", "-c", &config, "--format", "json"]).text).unwrap();
    assert_eq!(
        (&json["ok"], &json["errors"], &json["summary"]["routes"]),
        (&true.into(), &0.into(), &3.into())
    );
}

#[test]
fn a_warning_fails_only_if_warnings_are_denied() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portcullis.yaml");
    std::fs::write(&file, "version: 1\nlisteners: { edge: { bind: 127.0.0.1:0 } }\n").unwrap();
    let file = file.to_str().unwrap();
    let report = run(&["check", "-c", file]);
    assert!(report.exit == Exit::Ok && report.complaint.contains("warning"), "{report:?}");
    assert_eq!(run(&["check", "-c", file, "--deny-warnings"]).exit, Exit::Config);
}

#[test]
fn a_gateway_that_is_not_there_can_not_be_reached() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock").display().to_string();
    for command in ["status", "reload"] {
        let report = run(&[command, "--socket", &socket]);
        assert!(report.exit == Exit::Unreachable && report.complaint.contains(&socket), "{report:?}");
    }
}

#[test]
fn the_socket_is_found_by_the_configuration_even_if_what_it_names_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    dev::make_in(directory.path(), gateway::wall_clock());
    std::fs::remove_file(directory.path().join("localhost.key")).unwrap();
    let config = directory.path().join("portcullis.yaml");
    let asks = || {
        let report = run(&["status", "-c", config.to_str().unwrap()]);
        assert!(report.exit == Exit::Unreachable && report.complaint.contains("control.sock"), "{report:?}");
    };
    asks();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("upstream: orders", "upstream: nowhere")).unwrap();
    asks();
}

#[test]
fn a_token_verifies_by_the_issuer_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    dev::make_in(directory.path(), gateway::wall_clock());
    let path = |name: &str| directory.path().join(name).display().to_string();
    let report = run(&["token", "inspect", "-c", &path("portcullis.yaml"), &path("alice.token")]);
    assert!(report.exit == Exit::Ok && report.text.contains("by issuer `people`"), "{report:?}");
    let token = std::fs::read_to_string(path("alice.token")).unwrap();
    let (rest, _) = token.rsplit_once('.').unwrap();
    std::fs::write(path("forged.token"), format!("{rest}.AAAA")).unwrap();
    let report = run(&["token", "inspect", "-c", &path("portcullis.yaml"), &path("forged.token")]);
    assert!(report.exit == Exit::No && report.text.contains("signature is invalid"), "{report:?}");
}

#[test]
fn completions_man_pages_and_schema_are_whole() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(run(&["completions", shell]).text.contains("explain"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    run(&["man", directory.path().to_str().unwrap()]);
    assert!(directory.path().join("portcullis-policy-test.1").exists());
    let schema: serde_json::Value = serde_json::from_str(&run(&["schema"]).text).unwrap();
    assert!(schema["properties"]["listeners"].is_object());
    assert!(run(&["schema", "--markdown"]).text.starts_with("# "));
}

#[test]
fn a_usage_mistake_is_clap_s_to_tell() {
    for line in [&["portcullis", "run"][..], &["portcullis", "status"], &["portcullis", "nope"]] {
        assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2);
    }
}
