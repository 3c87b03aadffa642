//! What an upstream is shown by the gateway comes from a reference, is swapped without a restart, cannot be set or seen by clients, and
//! is written nowhere.

use serde_json::json;
use testkit::{Ask, eventually};

use crate::scene::{API, Scene};

const BEARER: &str = "canary-bearer-7c1f";
const PASSWORD: &str = "canary-password-93ab";
const API_KEY: &str = "canary-api-key-51de";

#[test]
fn each_upstream_is_shown_its_own_credential_whatever_the_client_sends() {
    let scene = Scene::new();
    scene.site.write("bearer", format!("{BEARER}\n"));
    scene.site.write("user", "gateway\n");
    let mut config = scene.plain();
    let endpoints = json!([scene.upstream.url()]);
    config["upstreams"] = json!({
        "app": { "endpoints": endpoints },
        "bearer": { "endpoints": endpoints, "credentials": { "bearer": "file:bearer" } },
        "basic": { "endpoints": endpoints, "credentials": { "basic": { "username": "file:user", "password": "env:UPSTREAM_PASSWORD" } } },
        "field": { "endpoints": endpoints, "credentials": { "field": { "name": "x-api-key", "value": "env:UPSTREAM_KEY" } } },
    });
    for name in ["bearer", "basic", "field"] {
        let route = json!({ "name": name, "on": ["edge"], "path": format!("/{name}/**"), "authenticate": "none", "upstream": name });
        config["routes"].as_array_mut().unwrap().push(route);
    }
    let environment = [("UPSTREAM_PASSWORD", PASSWORD), ("UPSTREAM_KEY", API_KEY)];
    let gateway = scene.site.start_with(&config, &environment);
    let ask = |path: &str| {
        let ask = Ask::get(API, path).header("authorization", "Bearer mine").header("x-api-key", "mine");
        gateway.ask(ask.header("x_api_key", "mine"))
    };
    assert_eq!(ask("/bearer/x").upstream_saw("authorization"), [format!("Bearer {BEARER}")]);
    let basic = testkit::base64(format!("gateway:{PASSWORD}").as_bytes());
    assert_eq!(ask("/basic/x").upstream_saw("authorization"), [format!("Basic {basic}")]);
    let reply = ask("/field/x");
    assert_eq!(reply.upstream_saw("x-api-key"), [API_KEY]);
    assert!(reply.upstream_saw("x_api_key").is_empty() && reply.upstream_saw("authorization").is_empty());
    let other = ask("/x");
    assert_eq!(other.status, 200);
    assert!(![BEARER, PASSWORD, API_KEY, &basic].iter().any(|secret| other.text().contains(*secret)));
    let said = gateway.everything_said();
    assert!(![BEARER, PASSWORD, API_KEY, &basic].iter().any(|secret| said.contains(*secret)));
}

#[test]
fn a_credential_is_swapped_without_a_restart_and_one_that_no_field_can_carry_never_replaces_it() {
    let scene = Scene::new();
    scene.site.write("bearer", BEARER);
    let mut config = scene.plain();
    config["upstreams"]["app"]["credentials"] = json!({ "bearer": "file:bearer" });
    let gateway = scene.site.start(&config);
    let shown = || gateway.ask(Ask::get(API, "/")).upstream_saw("authorization");
    assert_eq!(shown(), [format!("Bearer {BEARER}")]);
    let generation = gateway.generation();
    let replace = |contents: &str| {
        scene.site.write("next", contents);
        std::fs::rename(scene.site.path("next"), scene.site.path("bearer")).unwrap();
    };
    replace("canary-second");
    eventually("the second one is used", || (shown() == ["Bearer canary-second"]).then_some(()));
    replace("canary third\r\nx-admin: true");
    eventually("the third is refused", || {
        (gateway.metric(r#"portcullis_material_failures_total{kind="credential",name="app""#) > 0.0)
            .then_some(())
    });
    assert_eq!(shown(), ["Bearer canary-second"]);
    replace("canary-fourth");
    eventually("the fourth is used", || (shown() == ["Bearer canary-fourth"]).then_some(()));
    assert_eq!(gateway.generation(), generation, "nothing was loaded anew");
    assert!(!gateway.everything_said().contains("canary"));
}

#[test]
fn a_value_that_no_field_can_carry_stops_the_configuration() {
    let scene = Scene::new();
    scene.site.write("bearer", "canary with\nlines");
    let mut config = scene.plain();
    config["upstreams"]["app"]["credentials"] = json!({ "bearer": "file:bearer" });
    let file = scene.site.configure(&config);
    let said = scene.site.portcullis(&["run", "-c", file.to_str().unwrap()]);
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("credentials `app`") && !said.stderr.contains("canary"), "{said:?}");
}
