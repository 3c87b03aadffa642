//! The hostile cases of `tests/attacks`, by the runners that stand beside them, against the program.
//!
//! A runner listens as the only upstream; every case is a request and a statement of what may happen. No case may fail.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::{Ask, Finished, Gateway, Wire, python, run};

use crate::scene::Scene;

/// The host that the runners ask for.
const HOST: &str = "gw.test";
/// What the gateway reads of a request's head if nothing else is configured.
const HEAD_LIMIT: usize = 32 * 1024;

#[test]
fn attacks_framing_over_plain() {
    http1("http1_framing.json", Over::Plain);
}

#[test]
fn attacks_framing_over_tls() {
    http1("http1_framing.json", Over::Tls);
}

#[test]
fn attacks_path_bypass_over_plain() {
    http1("path_bypass.json", Over::Plain);
}

#[test]
fn attacks_path_bypass_over_tls() {
    http1("path_bypass.json", Over::Tls);
}

#[test]
fn attacks_header_trust_over_plain() {
    http1("header_trust.json", Over::Plain);
}

#[test]
fn attacks_header_trust_over_tls() {
    http1("header_trust.json", Over::Tls);
}

#[test]
fn attacks_mtls() {
    let scene = Scene::new();
    let gateway = scene.site.start(&mutual(&scene, "crl.pem"));
    let (finished, report) = present(&scene, &gateway, "MT");
    judge(&finished, &report, "MT-OK");
}

/// The cases that need a list of their own: refused at the start, or the certificate is.
#[test]
fn attacks_mtls_revocation_lists_that_prove_nothing() {
    for (list, case) in [
        ("crl-stale.pem", "MT-62"),
        ("crl-wrong-signer.pem", "MT-63"),
        ("crl-garbage.pem", "MT-64"),
        ("crl-idp.pem", "MT-65"),
    ] {
        let scene = Scene::new();
        let config = mutual(&scene, list);
        let path = scene.site.configure(&config);
        let checked = scene.site.portcullis(&["check", "-c", path.to_str().unwrap()]);
        if checked.code != 0 {
            let said = format!("{}{}", checked.stdout, checked.stderr);
            assert!(said.contains(list) || said.contains("CRL"), "the list is blamed: {said}");
            continue;
        }
        let (_, report) = present(&scene, &scene.site.start(&config), case);
        let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        assert_eq!(report["results"][0]["got"], "reject", "{list}: {report:#}");
    }
}

/// The setting of mtls.json with this revocation list; the certificates are made here.
fn mutual(scene: &Scene, list: &str) -> Value {
    // The maker of certificates writes beside itself: it works on a copy.
    for name in ["build_mtls.py", "run_mtls.py"] {
        scene.site.write(name, std::fs::read(attacks().join(name)).unwrap());
    }
    let made = run(python().arg(scene.site.path("build_mtls.py")).arg("--out").arg(scene.site.path("mtls")));
    assert_eq!(made.code, 0, "{}", made.stderr);
    let mut config = scene.tls("required");
    scene.site.certificate("edge", &scene.authority.issue(testkit::Leaf::server(&[HOST])));
    config["routes"][0]["authenticate"] = json!({ "any": ["mesh"] });
    config["trust"]["mesh"] = json!({
        "files": { "ca": "mtls/trust.pem", "crl": [format!("mtls/{list}")] },
        "names": "spiffe",
        "trust_domain": "lab.test",
        "revocation": { "when_stale": "reject" },
    });
    // The policy that the cases about names of the right form and the wrong bearer assume.
    scene.site.policy(
        "everybody",
        r#"permit(principal is Spiffe, action, resource) when { principal.trust_domain == "lab.test" && principal.path like "/ns/a/*" };"#,
    );
    config
}

/// Presents the certificates of the cases whose id contains `only`; says how the runner ended and where its report is.
fn present(scene: &Scene, gateway: &Gateway, only: &str) -> (Finished, PathBuf) {
    let report = scene.site.path("report.json");
    let mut runner = python();
    runner.arg(scene.site.path("run_mtls.py")).arg(gateway.address("edge").to_string());
    runner.arg("--certs").arg(scene.site.path("mtls")).args(["--only", only, "--json"]).arg(&report);
    (run(&mut runner), report)
}

#[test]
fn attacks_jwt() {
    let cases: Value = serde_json::from_slice(&std::fs::read(attacks().join("jwt.json")).unwrap()).unwrap();
    let scene = Scene::new();
    scene.site.write("jwks.json", cases["jwks"].to_string());
    let mut config = scene.tokens();
    config["identity"]["jwt"]["staff"] = json!({
        "issuer": cases["issuer"], "audience": [cases["audience"]], "jwks": { "file": "jwks.json" },
        "algorithms": ["RS256", "ES256", "EdDSA", "PS256"], "types": ["JWT", "at+jwt"],
    });
    let gateway = scene.site.start(&config);
    let cases = cases["cases"].as_array().unwrap();
    let token_of = |id: &Value| {
        cases.iter().find(|case| case["id"] == *id).unwrap()["token"].as_str().unwrap().to_owned()
    };

    let (mut failed, mut ran) = (Vec::new(), 0);
    for case in cases.iter().filter(|case| case["expect"]["decision"] != "see why") {
        let mut fields = vec!["Authorization: Bearer {TOKEN}".to_owned()];
        let mut target = "/jwt".to_owned();
        if let Some(given) = case["request_headers"].as_array() {
            fields = given.iter().map(|field| field.as_str().unwrap().to_owned()).collect();
        }
        let fill = |text: &str| {
            let mut text = text.replace("{TOKEN}", case["token"].as_str().unwrap_or_default());
            for (mark, id) in case["uses"].as_object().into_iter().flatten() {
                text = text.replace(mark, &token_of(id));
            }
            text
        };
        fields.retain(|field| match field.strip_prefix("@query ") {
            Some(query) => {
                target = format!("/jwt?{}", fill(query));
                false
            }
            None => true,
        });
        let fields: String = fields.iter().map(|field| format!("{}\r\n", fill(field))).collect();
        let before = scene.upstream.requests().len();
        let status = send(&gateway, &target, &fields);
        let arrived = scene.upstream.requests().len() - before;
        ran += 1;
        let ok = match case["expect"]["decision"].as_str().unwrap() {
            "accept" => status == 200 && arrived == 1,
            // A head over the limits is refused before anybody looks at the token; the answer may be lost in the reset
            // that follows when more is sent than was read.
            "reject" => {
                (matches!(status, 400 | 401 | 431) || status == 0 && fields.len() > HEAD_LIMIT)
                    && arrived == 0
            }
            _ => status == 200 || status == 401,
        };
        if !ok {
            failed.push(format!(
                "{} {}: {status}, {arrived} upstream, expected {}",
                case["id"], case["why"], case["expect"]
            ));
        }
    }
    println!("{ran} cases of jwt.json, {} failed", failed.len());
    assert!(ran > 85 && failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn attacks_jwt_replay_is_cheap_and_right() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tokens());
    let mut connection = gateway.connect();
    let token = scene.token("alice");
    for _ in 0..10_000 {
        assert_eq!(connection.send(Ask::get(HOST, "/").bearer(&token)).unwrap().status, 200);
    }
    let hits = gateway.metric(r#"portcullis_token_cache_total{result="hit""#);
    assert!(hits >= 9_990.0, "one proof serves all: {hits} hits\n{}", gateway.metrics());
}

#[test]
fn attacks_a_flood_of_pings_is_told_to_calm_down_and_closed() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("off"));
    let mut wire =
        Wire::tls(gateway.address("edge"), &scene.client(), "localhost", testkit::Protocol::H2).unwrap();
    let (settings, ping) =
        (&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    wire.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings, &ping.repeat(600)].concat()).unwrap();
    // GOAWAY: eight bytes on stream 0, no stream was served, ENHANCE_YOUR_CALM (RFC 9113 sections 6.8 and 7).
    assert!(
        wire.read_to_close().contains("\0\0\u{8}\u{7}\0\0\0\0\0\0\0\0\0\0\0\0\u{b}"),
        "{}",
        gateway.metrics()
    );
    assert_eq!(gateway.metric(r#"portcullis_frame_floods_total{listener="edge",frames="ping"}"#), 1.0);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Plain,
    Tls,
}

fn http1(file: &str, over: Over) {
    let scene = Scene::without_policy();
    scene.site.policy(
        "admin",
        r#"permit(principal, action, resource) unless { context.path == "/admin" || context.path like "/admin/*" };"#,
    );
    scene.site.certificate("edge", &scene.authority.issue(testkit::Leaf::server(&[HOST])));
    let mut config = if over == Over::Tls { scene.tls("off") } else { scene.plain() };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    config["upstreams"]["app"]["endpoints"] = json!([format!("http://127.0.0.1:{port}")]);
    let gateway = scene.site.start(&config);
    let report = scene.site.path("report.json");
    let mut runner = python();
    runner.arg(attacks().join("run_http1.py")).arg(gateway.address("edge").to_string());
    runner
        .args(["--host", HOST, "--files", file, "--backend-port", &port.to_string(), "--json"])
        .arg(&report);
    if over == Over::Tls {
        runner.arg("--tls");
    }
    judge(&run(&mut runner), &report, "-OK-");
}

/// No case failed, and every control (a valid request) passed.
fn judge(finished: &Finished, report: &Path, control: &str) {
    println!("{}", finished.stdout);
    assert_eq!(finished.code, 0, "{}{}", finished.stdout, finished.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let results = report["results"].as_array().unwrap();
    assert!(results.len() > 50, "all cases ran: {}", results.len());
    for result in results.iter().filter(|result| result["id"].as_str().unwrap().contains(control)) {
        assert_eq!(result["verdict"], "PASS", "a valid request is served: {result:#}");
    }
    assert_eq!(report["totals"].get("FAIL"), None);
}

/// The status of a request with these raw header lines; 0 when there was no answer.
fn send(gateway: &Gateway, target: &str, fields: &str) -> u16 {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{fields}\r\n");
    let mut wire = Wire::plain(gateway.address("edge")).unwrap();
    wire.send(request.as_bytes()).ok();
    wire.read_to_close().get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn attacks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks")
}
