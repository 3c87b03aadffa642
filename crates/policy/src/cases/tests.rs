use std::fs;
use std::path::Path;

use super::*;

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies");

fn run(sources: &[PolicySource], text: &str) -> Vec<CaseOutcome> {
    run_cases(sources, &ClaimSchema::new(), &[], &CaseFile::parse(text).unwrap()).unwrap()
}

#[test]
fn the_shipped_policies_say_what_their_cases_expect() {
    let mut count = 0;
    for entry in fs::read_dir(Path::new(POLICIES).join("cases")).unwrap() {
        let path = entry.unwrap().path();
        let name = Path::new(path.file_stem().unwrap()).with_extension("cedar");
        let policies = Path::new(POLICIES).join(name);
        let source = PolicySource { text: fs::read_to_string(&policies).unwrap(), path: policies };
        let outcomes = run(&[source], &fs::read_to_string(&path).unwrap());
        let failures: Vec<_> = outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
        assert!(failures.is_empty(), "{}: {failures:#?}", path.display());
        count += outcomes.len();
    }
    assert!(count > 0);
}

fn failure(expectation: &str) -> Option<String> {
    let text = "@id(\"a\") permit(principal, action, resource);".to_owned();
    let source = PolicySource { path: "a.cedar".into(), text };
    let case = format!(
        r#"{{"cases": [{{"name": "a", "route": "a", "request": {{"method": "GET", "path": "/"}}, {expectation}}}]}}"#
    );
    run(&[source], &case).pop().unwrap().failure
}

#[test]
fn a_case_that_expects_something_else_fails() {
    assert_eq!(failure(r#""expect": "allow", "policies": ["a"]"#), None);
    assert_eq!(failure(r#""expect": "deny""#).unwrap(), "plain Cedar allows by [\"a\"]");
    let unexpected = failure(r#""expect": "allow", "policies": ["b"]"#).unwrap();
    assert_eq!(unexpected, "plain Cedar allows by [\"a\"], expected [\"b\"]");
    assert!(failure(r#""expect": "allow", "principal": {"id": "jwt:nobody"}"#).unwrap().contains('#'));
}

#[test]
fn a_case_may_be_about_a_scope_instead_of_a_route() {
    let text = r#"@id("read") permit(principal, action == Action::"grant", resource == Scope::"read");"#;
    let source = PolicySource { path: "a.cedar".into(), text: text.to_owned() };
    let failure = |case: &str| {
        let case = format!(r#"{{"cases": [{{"name": "a", {case}}}]}}"#);
        run(std::slice::from_ref(&source), &case).pop().unwrap().failure
    };
    assert_eq!(failure(r#""grant": "read", "expect": "allow", "policies": ["read"]"#), None);
    assert_eq!(failure(r#""grant": "write", "expect": "deny", "reason": "POLICY_NO_PERMIT""#), None);
    assert!(failure(r#""grant": "write", "expect": "allow""#).is_some());
    for neither in [r#""expect": "deny""#, r#""expect": "deny", "route": "a""#] {
        assert!(failure(neither).unwrap().contains("`grant`"), "{neither}");
    }
}

#[test]
fn a_word_that_no_case_has_is_an_error() {
    assert!(CaseFile::parse(r#"{"cases": [], "case": []}"#).is_err());
    let text = r#"{"cases": [{"name": "a", "route": "a", "expect": "deny", "request": {"method": "GET", "path": "/", "pth": ""}}]}"#;
    assert!(CaseFile::parse(text).is_err());
}

#[test]
fn principal_ids_are_read_as_they_are_printed() {
    for text in ["anonymous", "spiffe://a.b/c/d", "jwt:https://a#b#c", "dns:mesh#a.b", "subject:mesh#CN=a"] {
        assert_eq!(principal_id(text).unwrap().to_string(), text);
    }
    for text in ["alice", "spiffe:a", "mail:a#b"] {
        assert!(principal_id(text).is_err());
    }
}
