//! What a person reads when a file is wrong: each test is a bad file and every line of the answer.

use std::path::Path;

use super::*;

fn problems(text: &str) -> String {
    read("portcullis.yaml", text.to_owned(), Path::new("/etc/portcullis")).1.to_string()
}

mod inspection;
mod proxies;
mod routes;
mod surface;

const GOOD: &str = r#"
version: 1
listeners:
  plain: { bind: "127.0.0.1:8080", redirect: https }
  edge:
    bind: 127.0.0.1:8443
    tls:
      certificates: [edge]
      client: { mode: optional, trust: [mesh] }
      hosts: { "admin.example.com": { client: { mode: required, trust: [mesh] } }, "off.example.com": { client: { mode: off } } }
    limits: { headers: 16KiB, idle: 30s }
    trusted_proxies: [10.0.0.0/8]
    rate: [new-connections]
certificates:
  edge: { files: { certificate: edge.pem, key: edge.key } }
trust:
  mesh: { files: { ca: ca.pem, crl: [crl.pem] }, names: spiffe, trust_domain: example.org, revocation: { when_stale: accept } }
identity:
  jwt:
    staff:
      issuer: https://id.example.com
      audience: [gateway]
      jwks: discover
      algorithms: [ES256, EdDSA]
      claims: { department: { from: dept, type: string } }
upstreams:
  orders: { endpoints: ["https://orders.internal:8443"], tls: { present: edge, trust: [mesh], expect: "spiffe://example.org/orders" } }
routes:
  - name: orders
    on: [edge]
    host: api.example.com
    path: /api/**
    methods: [GET]
    authenticate: { any: [staff, mesh] }
    limits: [per-caller]
    upstream: orders
    rewrite: { strip_prefix: /api }
    headers: { set: { x-client-id: "{principal}", x-department: "{claim.department}" }, security: off }
  - { name: health, on: [edge], path: /healthz, authenticate: none, respond: { status: 200, body: ok } }
limits:
  new-connections: { key: address, rate: 50/s }
  per-caller: { key: { claim: department }, rate: 50/s, burst: 100 }
policies: { directory: policies, mode: enforce }
telemetry: { access_log: { to: off }, log: { level: info, format: pretty } }
admin: { bind: 127.0.0.1:9901, probes: 127.0.0.1:9902, socket: control.sock }
shutdown: { deadline: 10s }
"#;

#[test]
fn a_good_file_has_no_problem_and_relative_paths_start_at_its_directory() {
    let (config, problems) = read("portcullis.yaml", GOOD.to_owned(), Path::new("/etc/portcullis"));
    assert_eq!(problems.to_string(), "");
    let config = config.unwrap();
    let model::CertificateSource::Files(files) = &config.certificates["edge"] else { panic!("not files") };
    assert_eq!(files.key.path, Path::new("/etc/portcullis/edge.key"));
    let model::ListenerKind::Tls(tls) = &config.listeners["edge"].kind else { panic!() };
    assert_eq!(tls.policy.client, model::ClientMode::Optional);
    assert_eq!(
        tls.hosts.values().map(|host| host.client).collect::<Vec<_>>(),
        [model::ClientMode::Required, model::ClientMode::Off]
    );
    assert_eq!(config.access_log, model::LogTarget::Off);
}

/// The good file with a change in it.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    problems(&GOOD.replacen(from, to, 1))
}

#[test]
fn every_problem_is_reported_at_once() {
    insta::assert_snapshot!(problems(
        r#"
version: 2
lisenters: {}
listeners:
  edge:
    bind: localhost
    tls: { certificates: [egde], client: { mode: of } }
    limits: { idle: 5, headers: 1KiB, bodies: 1MiB }
certificates:
  edge: { files: { certificate: edge.pem } }
upstreams:
  orders: { endpoints: ["tcp://a:1"] }
routes:
  - { name: a, on: [edge], path: /a/../b, methods: [get], upstream: ordres }
limits:
  per-caller: { key: principle, rate: 50/d }
"#
    ));
}

#[test]
fn yaml_that_cannot_be_read_is_one_problem_with_its_place() {
    insta::assert_snapshot!(
        [
            problems("version: 1\nlisteners: { edge: [\n"),
            problems(""),
            problems("just a word"),
            problems("version: 1\nversion: 1\nlisteners: {}\n"),
        ]
        .join("\n")
    );
}

#[test]
fn a_key_without_a_value_is_not_read_as_left_out() {
    insta::assert_snapshot!(
        [changed("methods: [GET]", "methods:"), changed("on: [edge]\n    host", "on: []\n    host"),]
            .join("\n")
    );
}

#[test]
fn names_that_nothing_carries_are_reported_with_the_closest_one() {
    insta::assert_snapshot!(
        [
            changed("upstream: orders", "upstream: ordres"),
            changed("{ any: [staff, mesh] }", "{ any: [stuff, mesh] }"),
            changed("{claim.department}", "{claim.departement}"),
            changed("certificates: [edge]", "certificates: [edges]"),
        ]
        .join("\n")
    );
}

#[test]
fn routes_that_match_the_same_requests_are_refused() {
    let tied = "  - { name: twin, on: [edge], host: API.example.com, path: /api/**, methods: [GET, PUT], authenticate: none, upstream: orders }\nlimits:";
    insta::assert_snapshot!(changed("limits:\n  new", &format!("{tied}\n  new")));
    let apart = tied.replace("GET, PUT", "PUT");
    assert_eq!(changed("limits:\n  new", &format!("{apart}\n  new")), "");
}

#[test]
fn what_one_value_demands_of_another_is_checked() {
    insta::assert_snapshot!(
        [
            changed("key: { claim: department }", "key: principal, at: edge"),
            changed("mode: optional, trust: [mesh]", "mode: optional"),
            changed("redirect: https }", "redirect: https, tls: { certificates: [edge] } }"),
            changed("path: /healthz, authenticate", "path: /healthz, upstream: orders, authenticate"),
            changed("expect: \"spiffe://example.org/orders\"", "sni: a"),
            changed("strip_prefix: /api", "strip_prefix: /ap"),
            changed(", trust_domain: example.org", ""),
            changed("127.0.0.1:9901", "0.0.0.0:8443"),
            changed("on: [edge], path: /healthz", "on: [plain], path: /healthz"),
        ]
        .join("\n")
    );
}

#[test]
fn issuers_that_map_one_claim_to_two_types_are_refused_with_both_places() {
    let another = |kind: &str| {
        let mapped = format!("{{ department: {{ type: {kind} }} }}");
        changed(
            "identity:\n  jwt:\n",
            &format!(
                "identity:\n  jwt:\n    guests: {{ issuer: guests, audience: [a], jwks: {{ file: a }}, algorithms: [ES256], claims: {mapped} }}\n"
            ),
        )
    };
    insta::assert_snapshot!(another("strings"));
    assert!(!another("string").contains("error"));
}

#[test]
fn names_that_policies_and_logs_would_read_in_two_ways_are_refused() {
    insta::assert_snapshot!(
        [
            changed("issuer: https://id.example.com", "issuer: \"https://id.example.com#a\""),
            changed("issuer: https://id.example.com", "issuer: \"\""),
            changed("trust:\n  mesh:", "trust:\n  \"mesh#a\":"),
            changed("methods: [GET]", "labels: { \"tier=core\": a }"),
        ]
        .join("\n")
    );
}

#[test]
fn algorithms_that_anybody_could_sign_with_are_refused_with_the_reason() {
    insta::assert_snapshot!(changed("[ES256, EdDSA]", "[HS256, none, ES257]"));
}

#[test]
fn fields_that_frame_a_message_cannot_be_set() {
    insta::assert_snapshot!(
        [changed("x-client-id:", "transfer-encoding:"), changed("{principal}", "{nobody}"),].join("\n")
    );
}

#[test]
fn what_is_allowed_and_hardly_meant_is_a_warning() {
    insta::assert_snapshot!(changed("limits:\n  new", "limits:\n  idle: { key: address, rate: 1/s }\n  new"));
    let open = GOOD.replacen("listeners:\n", "listeners:\n  open: { bind: 0.0.0.0:80 }\n", 1);
    let route = "routes:\n  - { name: open, on: [open], path: /**, authenticate: { all: [mesh] }, upstream: orders }\n";
    insta::assert_snapshot!(
        [
            problems(&open),
            problems(&open.replacen("routes:\n", route, 1)),
            changed("policies: { directory: policies, mode: enforce }\n", ""),
        ]
        .join("\n")
    );
}

#[test]
fn secrets_in_the_file_are_not_repeated() {
    let canary = "canary-0xC0FFEE";
    for bad in [
        changed("https://orders.internal:8443", &format!("https://user:{canary}@orders.internal")),
        changed("key: edge.key", &format!("key: \"-----BEGIN {}-----\\n{canary}\"", "PRIVATE KEY")),
        changed("x-client-id: \"{principal}\"", &format!("authorization: \"Bearer {canary}\"")),
        changed("key: edge.key", &format!("key: edge.key, password: {canary}")),
    ] {
        assert!(!bad.is_empty() && !bad.contains(canary), "{bad}");
    }
    let text = GOOD.replacen("key: edge.key", &format!("key: edge.key, password: {canary}"), 1);
    let fancy = read("portcullis.yaml", text, Path::new("/")).1.fancy();
    assert!(fancy.contains("password") && !fancy.contains(canary), "{fancy}");
}

#[test]
fn a_problem_is_shown_with_its_whole_line_and_no_other() {
    let text = "version: 1\n# secret: canary\nlisteners: { edge: { bind: nowhere } }\n# secret: canary\n";
    let fancy = read("portcullis.yaml", text.to_owned(), Path::new("/")).1.fancy();
    assert!(fancy.contains("listeners: { edge: { bind: nowhere } }"), "{fancy}");
    assert!(fancy.contains("portcullis.yaml:3:28") && !fancy.contains("canary"), "{fancy}");
}

#[test]
fn whatever_is_cut_out_of_a_file_is_answered_and_never_half_taken() {
    let places: Vec<usize> = GOOD.char_indices().map(|(at, _)| at).collect();
    for (&start, &end) in places.iter().zip(places.iter().skip(7)) {
        let cut = format!("{}{}", GOOD.get(..start).unwrap(), GOOD.get(end..).unwrap());
        let (config, problems) = read("portcullis.yaml", cut, Path::new("/"));
        assert_eq!(config.is_some(), problems.errors() == 0, "cut at {start}: {problems}");
        assert!(!problems.fancy().is_empty() || problems.is_empty());
    }
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_no_problem() {
    for text in [GOOD.replace('\n', "\r\n"), format!("\u{feff}{}", GOOD.trim_start())] {
        let (config, problems) = read("portcullis.yaml", text, Path::new("/"));
        assert!(config.is_some() && problems.is_empty(), "{problems}");
    }
}

#[test]
fn an_upgrade_leads_to_an_upstream_and_never_to_http() {
    let upgrade = |list: &str| {
        changed("    upstream: orders\n", &format!("    upstream: orders\n    upgrade: {list}\n"))
    };
    assert_eq!(upgrade("[websocket, SPDY/3.1]"), "");
    for protocol in ["h2c", "HTTP/2.0", "tls/1.2", "connect-udp"] {
        let problems = upgrade(&format!("[{protocol}]"));
        assert!(problems.contains("would pass no policy"), "{problems}");
    }
    for (list, problem) in [
        ("[\"web socket\"]", "found `web socket`"),
        ("[websocket, WebSocket]", "`websocket` a second time"),
        ("[]", "an empty list"),
    ] {
        assert!(upgrade(list).contains(problem), "{}", upgrade(list));
    }
    let respond =
        changed("respond: { status: 200, body: ok }", "respond: { status: 200 }, upgrade: [websocket]");
    assert!(respond.contains("agreed with an upstream"), "{respond}");
    let posted = changed("    methods: [GET]\n", "    methods: [POST]\n    upgrade: [websocket]\n");
    assert!(posted.contains("begins with GET"), "{posted}");
}
