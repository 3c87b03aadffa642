use clap::Parser;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::dev;

/// The command line of `portcullis explain` alone.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    explain: Explain,
}

/// What `portcullis dev` makes.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        dev::make_in(directory.path(), gateway::wall_clock());
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn explain(&self, arguments: &[&str]) -> Result<Report, CliError> {
        let config = self.path("portcullis.yaml");
        let line = ["explain", "-c", &config].into_iter().chain(arguments.iter().copied());
        Line::try_parse_from(line).unwrap().explain.run()
    }

    fn outcome(&self, arguments: &[&str]) -> (Exit, Value) {
        let report = self.explain(&[arguments, &["--format", "json"]].concat()).unwrap();
        (report.exit, serde_json::from_str(&report.text).unwrap())
    }
}

const ORDERS: [&str; 2] = ["--url", "https://localhost:8443/orders/1?deep=1"];

#[test]
fn a_permitted_request_is_followed_to_its_upstream() {
    let scene = Scene::new();
    let (exit, said) = scene.outcome(&[&ORDERS[..], &["--token", &scene.path("alice.token")]].concat());
    assert_eq!(exit, Exit::Ok, "{said:#}");
    assert_eq!(said["outcome"]["result"], "forwarded");
    assert_eq!(said["outcome"]["target"], "/orders/1?deep=1");
    assert_eq!((&said["route"], &said["listener"]), (&"orders".into(), &"edge".into()));
    assert_eq!(said["principal"]["id"], "jwt:https://id.example.com#alice");
    assert_eq!(said["decision"]["policies"][0]["id"], "orders-read");
    let limits: Vec<&str> =
        said["limits"].as_array().unwrap().iter().filter_map(|l| l["name"].as_str()).collect();
    assert_eq!(limits, ["connections", "per-caller"]);
}

#[test]
fn a_certificate_proves_a_workload() {
    let scene = Scene::new();
    let (exit, said) = scene.outcome(&[&ORDERS[..], &["--certificate", &scene.path("billing.pem")]].concat());
    assert_eq!(exit, Exit::Ok, "{said:#}");
    assert_eq!(said["principal"]["id"], "spiffe://example.org/ns/shop/sa/billing");
    let (exit, said) =
        scene.outcome(&[&ORDERS[..], &["--certificate", &scene.path("localhost.pem")]].concat());
    assert_eq!((exit, &said["outcome"]["result"]), (Exit::No, &"disconnected".into()), "{said:#}");
}

#[test]
fn a_refusal_has_the_status_and_code_that_the_client_would_get() {
    let scene = Scene::new();
    let token = scene.path("alice.token");
    for (arguments, status, code) in [
        (vec!["--url", "https://localhost:8443/orders/1"], 401, "TOKEN_MISSING"),
        (vec!["--url", "https://localhost:8443/orders/../orders//1"], 400, "PATH_AMBIGUOUS"),
        (vec!["--url", "https://localhost:8443/nothing"], 404, "NO_ROUTE"),
        (vec!["--url", "https://localhost:8443/", "-X", "POST"], 405, "METHOD_NOT_ALLOWED"),
        (vec!["--url", "https://localhost:8443/", "-X", "TRACE"], 501, "METHOD_UNSUPPORTED"),
        (vec!["--url", "https://localhost:8443/", "-H", "Host: a", "-H", "Host: b"], 400, "HOST_INVALID"),
        (
            vec!["--url", "https://localhost:8443/orders", "-X", "POST", "--token", &token],
            403,
            "POLICY_NO_PERMIT",
        ),
        (
            vec!["--url", "https://localhost:8443/orders", "-H", "Authorization: Bearer a.b.c"],
            401,
            "TOKEN_MALFORMED",
        ),
    ] {
        let (exit, said) = scene.outcome(&arguments);
        assert_eq!(exit, Exit::No, "{arguments:?}: {said:#}");
        assert_eq!(
            (&said["outcome"]["status"], &said["outcome"]["code"]),
            (&status.into(), &code.into()),
            "{arguments:?}"
        );
    }
}

#[test]
fn an_answer_of_the_gateways_own_needs_a_permit_too_and_is_told() {
    let scene = Scene::new();
    let (exit, said) = scene.outcome(&["--url", "https://localhost:8443/"]);
    assert_eq!((exit, &said["outcome"]["status"]), (Exit::Ok, &200.into()), "{said:#}");
    assert_eq!(said["principal"]["id"], "anonymous");
}

#[test]
fn a_token_is_verified_and_never_shown() {
    let scene = Scene::new();
    let token = std::fs::read_to_string(scene.path("alice.token")).unwrap();
    let (signed, signature) = token.trim().rsplit_once('.').unwrap();
    let forged = scene.path("forged.token");
    std::fs::write(&forged, format!("{signed}.{}", signature.chars().rev().collect::<String>())).unwrap();
    for (file, exit) in [(scene.path("alice.token"), Exit::Ok), (forged, Exit::No)] {
        let report = scene.explain(&[&ORDERS[..], &["--token", &file]].concat()).unwrap();
        assert_eq!(report.exit, exit, "{}", report.text);
        assert!(!report.text.contains(signature) && !report.text.contains(signed), "{}", report.text);
    }
}

#[test]
fn a_host_with_a_tls_policy_of_its_own_is_judged_by_it() {
    let scene = Scene::new();
    let config = scene.path("portcullis.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let hosts = "tls:\n      hosts: { \"*.admin.test\": { client: { mode: required, trust: [mesh] } } }\n";
    std::fs::write(&config, text.replacen("tls:\n", hosts, 1)).unwrap();
    let billing = scene.path("billing.pem");
    for (arguments, result) in [
        (vec!["--url", "https://localhost/"], "answered"),
        (vec!["--url", "https://a.admin.test/"], "disconnected"),
        (vec!["--url", "https://a.b.admin.test/"], "answered"),
        (vec!["--url", "https://a.admin.test/", "--certificate", &billing], "answered"),
        (vec!["--url", "https://localhost/", "-H", "Host: a.admin.test"], "refused"),
    ] {
        let (_, said) = scene.outcome(&arguments);
        assert_eq!(said["outcome"]["result"], result, "{arguments:?}: {said:#}");
        assert!(result != "refused" || said["outcome"]["status"] == 421, "{said:#}");
    }
}

#[test]
fn keys_that_would_have_to_be_fetched_leave_the_answer_open() {
    let scene = Scene::new();
    let config = scene.path("portcullis.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("{ file: jwks.json }", "{ url: https://id.example.com/keys }"))
        .unwrap();
    let (exit, said) = scene.outcome(&[&ORDERS[..], &["--token", &scene.path("alice.token")]].concat());
    assert_eq!((exit, &said["outcome"]["result"]), (Exit::Failure, &"unknown".into()), "{said:#}");
    assert!(said["outcome"]["reason"].as_str().unwrap().contains("https://id.example.com/keys"));
}

#[test]
fn a_question_that_makes_no_sense_says_what_was_expected() {
    let scene = Scene::new();
    for (arguments, expected) in [
        (vec!["--url", "nonsense"], "expected one such as"),
        (vec!["--url", "ftp://localhost/"], "expected one such as"),
        (vec!["--url", "https://localhost/", "--listener", "egde"], "expected one of `edge`"),
        (vec!["--url", "http://localhost/"], "`--listener`"),
        (vec!["--url", "https://localhost/", "-H", "nothing"], "a name, `:` and a value"),
        (vec!["--url", "https://localhost/", "--token", "/nowhere"], "/nowhere"),
    ] {
        let said = scene.explain(&arguments).unwrap_err().to_string();
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
