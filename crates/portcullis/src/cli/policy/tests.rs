use clap::Parser;

use super::*;
use crate::cli::exit::Exit;

/// The command line of `portcullis policy` alone.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    policy: Policy,
}

fn run(arguments: &[&str]) -> Result<Report, CliError> {
    Line::try_parse_from(std::iter::once(&"policy").chain(arguments)).unwrap().policy.run()
}

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies");

#[test]
fn the_shipped_policies_pass_their_check_and_their_cases() {
    assert_eq!(run(&["check", "-d", SHIPPED]).unwrap().exit, Exit::Ok);
    let tested = run(&["test", "-d", SHIPPED]).unwrap();
    assert!(tested.exit == Exit::Ok && tested.text.contains("0 failed"), "{tested:?}");
}

#[test]
fn a_case_that_expects_something_else_ends_with_no() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    std::fs::write(directory.path().join("a.cedar"), "permit(principal, action, resource);").unwrap();
    assert!(run(&["test", "-d", path]).unwrap_err().to_string().contains("nothing was tested"));
    std::fs::create_dir(directory.path().join("cases")).unwrap();
    let case = r#"{"cases": [{"name": "nobody", "route": "a", "request": {"method": "GET", "path": "/"}, "expect": "deny"}]}"#;
    std::fs::write(directory.path().join("cases/a.json"), case).unwrap();
    let tested = run(&["test", "-d", path]).unwrap();
    assert!(tested.exit == Exit::No && tested.text.contains("plain Cedar allows"), "{tested:?}");
}

#[test]
fn the_policy_that_decides_is_named_with_its_place() {
    let alice =
        ["explain", "-d", SHIPPED, "--route", "orders", "--principal", "jwt:https://id.example.com#alice"];
    let denied = run(&alice).unwrap();
    assert!(denied.exit == Exit::No && denied.text.contains("POLICY_NO_PERMIT"), "{denied:?}");
    let allowed = run(&[&alice[..], &["--scope", "orders:read"]].concat()).unwrap();
    assert!(allowed.exit == Exit::Ok && allowed.text.contains("example.cedar:"), "{allowed:?}");
}

#[test]
fn a_mistake_in_a_policy_is_told_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("bad.cedar"),
        "permit(principal, action, resource) when { context.no };",
    )
    .unwrap();
    let report = run(&["check", "-d", directory.path().to_str().unwrap()]).unwrap_err().report();
    assert!(report.exit == Exit::Config && report.complaint.contains("bad.cedar:1:"), "{report:?}");
}
