//! A configuration is taken whole or not at all: the last good one serves on, and file, line and field are named.
//! `check` and a running gateway agree.

use serde_json::{Value, json};
use testkit::{Ask, eventually};

use crate::scene::{API, Scene};

#[test]
fn a_gateway_does_not_start_on_a_bad_configuration_and_check_says_the_same() {
    let scene = Scene::new();
    for (what, bad) in bad_configurations(&scene) {
        let path = scene.site.configure(&bad);
        let path = path.to_str().unwrap();
        let (checked, ran) =
            (scene.site.portcullis(&["check", "-c", path]), scene.site.portcullis(&["run", "-c", path]));
        assert!(checked.code > 0 && ran.code == checked.code, "{what}: check {checked:?}\nrun {ran:?}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains("portcullis.yaml:"), "{what}: file and line are named: {said}");
        assert!(!said.contains("panicked"), "{what}: {said}");
    }
}

#[test]
fn all_problems_are_told_at_once_with_their_places() {
    let scene = Scene::new();
    let text = "version: 1
listeners:
  edge: { bind: nowhere }
upstreams:
  app: { endpoint: [\"http://127.0.0.1:1\"] }
routes:
  - { name: all, on: [egde], path: /**, authenticate: none, upstream: app }
";
    let path = scene.site.write("portcullis.yaml", text);
    let checked = scene.site.portcullis(&["check", "-c", path.to_str().unwrap()]);
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(checked.code > 0, "{said}");
    for place in [
        "portcullis.yaml:3:",
        "portcullis.yaml:5:",
        "portcullis.yaml:7:",
        "nowhere",
        "endpoint",
        "egde",
        "edge",
    ] {
        assert!(said.contains(place), "`{place}` is missing: {said}");
    }
}

#[test]
fn a_bad_reload_keeps_the_last_good_configuration() {
    let scene = Scene::new();
    let good = scene.plain();
    let gateway = scene.site.start(&good);
    let mut connection = gateway.connect();
    for (what, bad) in bad_configurations(&scene) {
        let generation = gateway.generation();
        assert_eq!(gateway.metric("portcullis_config_last_reload_success"), 1.0);
        gateway.reload(&bad);
        eventually(what, || (gateway.metric("portcullis_config_last_reload_success") == 0.0).then_some(()));
        assert_eq!(connection.send(Ask::get(API, "/")).unwrap().status, 200, "{what}");
        assert_eq!(gateway.generation(), generation, "{what}");
        assert_eq!(gateway.probe("/readyz"), 200, "{what}");
        gateway.reload(&good);
        eventually("the good one is taken", || {
            (gateway.metric("portcullis_config_last_reload_success") == 1.0).then_some(())
        });
    }
}

#[test]
fn status_tells_what_serves_and_what_is_wrong_with_the_new_file() {
    let scene = Scene::new();
    let mut config = scene.tls("off");
    let gateway = scene.site.start(&config);
    let socket = scene.site.path("control.sock");
    let status = || scene.site.portcullis(&["status", "--socket", socket.to_str().unwrap()]);
    let good = status();
    assert!(good.code == 0 && good.stdout.contains("edge"), "{good:?}");
    config["routes"][0]["upstream"] = json!("nobody");
    gateway.reload(&config);
    eventually("status names file, line and field", || {
        let said = status().stdout;
        (said.contains("portcullis.yaml:") && said.contains("nobody")).then_some(())
    });
    drop(gateway);
    assert_eq!(status().code, 4, "no gateway answers");
}

#[test]
fn a_bad_policy_stops_the_reload_too() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.plain());
    scene.site.policy("everybody", "forbid(principal, action, resource);");
    scene.site.policy("bad", "permit(principal, action");
    gateway.signal("HUP");
    eventually("the reload is refused", || {
        (gateway.metric("portcullis_config_last_reload_success") == 0.0).then_some(())
    });
    assert_eq!(gateway.ask(Ask::get(API, "/")).status, 200, "no half of it is taken");
    std::fs::remove_file(scene.site.path("policies/bad.cedar")).unwrap();
    eventually("the good rest is taken", || {
        gateway.signal("HUP");
        (gateway.ask(Ask::get(API, "/")).status == 403).then_some(())
    });
}

#[test]
fn a_changed_file_is_taken_without_a_signal() {
    let scene = Scene::new();
    let mut config = scene.plain();
    let gateway = scene.site.start(&config);
    config["routes"][0] = json!({ "name": "all", "on": ["edge"], "path": "/**", "authenticate": "none",
        "respond": { "status": 202, "body": "new" } });
    let _ = scene.site.configure(&config);
    eventually("the new configuration serves", || {
        (gateway.ask(Ask::get(API, "/")).status == 202).then_some(())
    });
}

fn bad_configurations(scene: &Scene) -> Vec<(&'static str, Value)> {
    let with = |change: fn(&mut Value)| {
        let mut config = scene.plain();
        change(&mut config);
        config
    };
    vec![
        ("an unknown key", with(|config| config["listener"] = json!({}))),
        ("an unknown name", with(|config| config["routes"][0]["upstream"] = json!("nobody"))),
        ("a wrong type", with(|config| config["listeners"]["edge"]["bind"] = json!(["127.0.0.1:0"]))),
        ("a missing key", with(|config| drop(config["routes"][0].as_object_mut().unwrap().remove("path")))),
        (
            "two routes that tie",
            with(|config| {
                let mut twin = config["routes"][0].clone();
                twin["name"] = json!("twin");
                config["routes"].as_array_mut().unwrap().push(twin);
            }),
        ),
        (
            "a file that is not there",
            with(|config| {
                config["certificates"] =
                    json!({ "gone": { "files": { "certificate": "gone.pem", "key": "gone.key" } } });
                config["listeners"]["edge"]["tls"] = json!({ "certificates": ["gone"] });
            }),
        ),
        ("a duration that is none", with(|config| config["shutdown"] = json!({ "deadline": "soon" }))),
        ("another version", with(|config| config["version"] = json!(2))),
    ]
}
