//! No matching rule, a missing claim and an evaluation error all deny, each with a reason of its own. A shadow rule
//! never changes an outcome.

use serde_json::{Value, json};
use testkit::{Ask, Connection, Gateway, Protocol, eventually};

use crate::scene::{API, AUDIENCE, ISSUER, ORDERS, Scene};

#[test]
fn without_a_policy_everything_is_denied() {
    let scene = Scene::without_policy();
    let gateway = scene.site.start(&scene.plain());
    let reply = gateway.ask(Ask::get(API, "/"));
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(scene.upstream.requests().len(), 0);
}

#[test]
fn a_rule_permits_only_what_it_says() {
    let scene = Scene::without_policy();
    scene.site.policy(
        "alice-reads",
        r#"permit(principal is Jwt, action in Action::"read", resource) when { principal.subject == "alice" };"#,
    );
    let gateway = scene.site.start(&scene.tokens());
    let ask = |method: &str, subject: &str| {
        gateway.ask(Ask::new(method, API, "/").bearer(&scene.token(subject))).status
    };
    assert_eq!(ask("GET", "alice"), 200);
    assert_eq!(ask("POST", "alice"), 403);
    assert_eq!(ask("PROPFIND", "alice"), 403);
    assert_eq!(ask("GET", "bob"), 403);
}

#[test]
fn a_workload_is_known_by_its_trust_domain_and_its_path() {
    let scene = Scene::without_policy();
    scene.site.policy(
        "shop",
        r#"permit(principal is Spiffe, action, resource)
           when { principal.trust_domain == "example.org" && principal.path like "/ns/shop/*" };"#,
    );
    let mut config = scene.tls("required");
    config["routes"][0]["authenticate"] = json!({ "any": ["mesh"] });
    let gateway = scene.site.start(&config);
    for (id, status) in [(ORDERS, 200), ("spiffe://example.org/ns/bank/sa/orders", 403)] {
        let mut peer =
            Connection::tls(gateway.address("edge"), &scene.workload(id), API, Protocol::H2).unwrap();
        for _ in 0..3 {
            assert_eq!(peer.send(Ask::get(API, "/")).unwrap().status, status, "{id}");
        }
    }
}

#[test]
fn a_missing_claim_denies() {
    let scene = Scene::without_policy();
    scene.site.policy(
        "finance",
        r#"permit(principal is Jwt, action, resource)
           when { principal.claims has department && principal.claims.department == "finance" };"#,
    );
    let gateway = scene.site.start(&with_claims(&scene));
    assert_eq!(with_claim(&gateway, &scene, "dept", json!("finance")), 200);
    assert_eq!(with_claim(&gateway, &scene, "dept", json!("sales")), 403);
    assert_eq!(with_claim(&gateway, &scene, "other", json!("finance")), 403);
    assert_eq!(
        with_claim(&gateway, &scene, "dept", json!(["finance"])),
        401,
        "a claim of the wrong type is no proof"
    );
}

#[test]
fn an_error_in_a_forbid_denies_beside_a_permit() {
    let scene = Scene::new();
    // Overflows for a level of 2: Cedar itself would skip the policy and allow.
    scene.site.policy(
        "errs",
        r#"forbid(principal is Jwt, action, resource)
           when { principal.claims has level && principal.claims.level * 9223372036854775807 == 1 };"#,
    );
    let gateway = scene.site.start(&with_claims(&scene));
    assert_eq!(with_claim(&gateway, &scene, "level", json!(0)), 200);
    assert_eq!(with_claim(&gateway, &scene, "level", json!(2)), 403);
}

#[test]
fn the_reasons_of_denials_are_told_apart() {
    let scene = Scene::without_policy();
    scene
        .site
        .policy("no-admin", r#"forbid(principal, action, resource) when { context.path like "/admin*" };"#);
    scene.site.policy("public", r#"permit(principal, action, resource) when { context.path like "/p*" || context.path like "/admin*" };"#);
    let gateway = scene.site.start(&scene.plain());
    let nothing_permits = gateway.ask(Ask::get(API, "/x"));
    let forbidden = gateway.ask(Ask::get(API, "/admin"));
    assert_eq!(
        (nothing_permits.status, forbidden.status, gateway.ask(Ask::get(API, "/p")).status),
        (403, 403, 200)
    );
    let denials = eventually("both denials are logged", || {
        let log = gateway.access_log();
        let denials: Vec<_> = log.into_iter().filter(|record| record["status"] == 403).collect();
        (denials.len() == 2).then_some(denials)
    });
    assert_ne!(reason(&denials[0]), reason(&denials[1]), "{denials:#?}");
    // The client learns no more than that it may not.
    assert!(!forbidden.text().contains("no-admin"), "{}", forbidden.text());
}

#[test]
fn a_shadow_rule_changes_nothing() {
    let scene = Scene::without_policy();
    scene.site.policy("open", r#"permit(principal, action, resource) when { context.path like "/open*" };"#);
    scene.site.policy("shadow", r#"@shadow("since 2026-11-21") forbid(principal, action, resource) when { context.path like "/open*" };"#);
    scene.site.policy("shadow-permit", r#"@shadow("since 2026-11-21") permit(principal, action, resource);"#);
    let gateway = scene.site.start(&scene.plain());
    for _ in 0..3 {
        assert_eq!(gateway.ask(Ask::get(API, "/open")).status, 200);
        assert_eq!(gateway.ask(Ask::get(API, "/closed")).status, 403);
    }
    eventually("the shadow rules are counted", || {
        gateway.metrics().lines().find(|line| counts(line)).map(str::to_owned)
    });
}

#[test]
fn a_bad_policy_starts_nothing_and_says_where() {
    let scene = Scene::without_policy();
    scene.site.policy("bad", "permit(principal, action, resource) when { context.nothing == 1 };");
    let config = scene.site.configure(&scene.plain());
    let checked = scene.site.portcullis(&["check", "-c", config.to_str().unwrap()]);
    assert_ne!(checked.code, 0);
    assert!(checked.stderr.contains("bad.cedar") || checked.stdout.contains("bad.cedar"), "{checked:?}");
}

fn with_claims(scene: &Scene) -> Value {
    let mut config = scene.tokens();
    config["identity"]["jwt"]["staff"]["claims"] = json!({ "department": { "from": "dept", "type": "string" }, "level": { "from": "level", "type": "long" } });
    config
}

fn with_claim(gateway: &Gateway, scene: &Scene, name: &str, value: Value) -> u16 {
    let mut claims = testkit::claims(ISSUER, AUDIENCE, "alice");
    claims[name] = value;
    gateway.ask(Ask::get(API, "/").bearer(&scene.key.token(&claims))).status
}

/// Everything in a record that could tell why, without what differs for every request.
fn reason(record: &Value) -> Vec<String> {
    ["reason", "code", "policies", "decision"].iter().map(|key| record[key].to_string()).collect()
}

fn counts(line: &str) -> bool {
    line.contains("shadow") && !line.starts_with('#') && !line.ends_with(" 0")
}
