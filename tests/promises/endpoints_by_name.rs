//! Endpoints that are names follow what these resolve to: all addresses are used, changes count without a reload, and a name that
//! can't be resolved costs nobody anything as long as it once could.

use serde_json::{Value, json};
use testkit::{Ask, Gateway, eventually, free_port};

use crate::endpoints_that_fail::{Backend, Mode};
use crate::name_server::{NameServer, Says};
use crate::scene::{API, Scene};

#[test]
fn requests_follow_a_name_to_all_its_addresses_and_no_failure_takes_them_away() {
    let (scene, names) = (Scene::new(), NameServer::start());
    let [one, two, three] = alike(["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    names.resolves("app.test", &["127.0.0.1", "127.0.0.2"]);
    let config = with_name(&scene, &names, one.port());
    let gateway = scene.site.start(&config);
    for _ in 0..10 {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
    }
    assert_eq!((one.requests(), two.requests(), three.requests()), (5, 5, 0), "from the first request on");

    names.resolves("app.test", &["127.0.0.3"]);
    eventually("the new address is used", || {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
        (three.requests() > 0).then_some(())
    });
    let before = (one.requests(), two.requests());
    for _ in 0..10 {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
    }
    assert_eq!((one.requests(), two.requests()), before, "those that are gone get nothing");
    eventually("their connections are closed", || {
        (one.connections() == 0 && two.connections() == 0).then_some(())
    });

    names.says("app.test", Says::Failure);
    eventually("it is degraded", || (resolved(&gateway) == 0.0).then_some(()));
    assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200, "the last good address serves on");
    let told = status(&scene);
    assert!(told["degraded"].to_string().contains("app.test"), "{}", told["degraded"]);
    names.resolves("app.test", &["127.0.0.1"]);
    eventually("it is well again", || {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
        let is_well = resolved(&gateway) == 1.0 && status(&scene)["degraded"].as_object()?.is_empty();
        is_well.then_some(())
    });
}

#[test]
fn a_name_that_never_resolved_is_503_for_its_upstream_alone_and_heals_alone() {
    let (scene, names, good) = (Scene::new(), NameServer::start(), Backend::start(Mode::Answer));
    let mut config = with_name(&scene, &names, good.port());
    config["upstreams"]["other"] = json!({ "endpoints": [scene.upstream.url()] });
    config["routes"].as_array_mut().unwrap().push(
        json!({ "name": "other", "on": ["edge"], "path": "/other", "authenticate": "none", "upstream": "other" }),
    );
    let gateway = scene.site.start(&config);
    let reply = gateway.ask(Ask::get(API, "/x"));
    assert_eq!((reply.status, reply.code().as_str()), (503, "UPSTREAM_UNRESOLVED"));
    assert_eq!(reply.header("retry-after"), ["1"]);
    assert_eq!(gateway.ask(Ask::get(API, "/other")).status, 200);
    assert_eq!(gateway.probe("/readyz"), 200, "one upstream is not the gateway");
    assert!(status(&scene)["degraded"].to_string().contains("app.test"));
    names.resolves("app.test", &["127.0.0.1"]);
    eventually("it heals alone", || (gateway.ask(Ask::get(API, "/x")).status == 200).then_some(()));
    eventually("nothing is degraded", || status(&scene)["degraded"].as_object()?.is_empty().then_some(()));
}

#[test]
fn a_dead_address_of_a_name_is_left_out() {
    let (scene, names, good) = (Scene::new(), NameServer::start(), Backend::start(Mode::Answer));
    names.resolves("app.test", &["127.0.0.1", "127.0.0.9"]);
    let gateway = scene.site.start(&with_name(&scene, &names, good.port()));
    let mut connection = gateway.connect();
    for _ in 0..40 {
        assert_eq!(connection.send(Ask::new("POST", API, "/x").body("x")).unwrap().status, 200);
    }
    assert!(gateway.metric("portcullis_upstream_ejections_total{upstream=\"app\"}") >= 1.0);
}

/// Everything goes to `app.test`, of which only this name server knows.
fn with_name(scene: &Scene, names: &NameServer, port: u16) -> Value {
    let mut config = scene.plain();
    config["upstreams"]["app"] = json!({
        "endpoints": [format!("http://app.test:{port}")],
        "dns": { "servers": [names.address()] },
    });
    config
}

/// Backends with one port on several addresses.
fn alike<const N: usize>(addresses: [&str; N]) -> [Backend; N] {
    for _ in 0..20 {
        let port = free_port();
        let backends = addresses.map(|address| Backend::on((address, port)));
        if backends.iter().all(Option::is_some) {
            return backends.map(Option::unwrap);
        }
    }
    panic!("no port is free on all of {addresses:?}");
}

fn resolved(gateway: &Gateway) -> f64 {
    gateway.metric("portcullis_name_resolved{name=\"app.test\"}")
}

fn status(scene: &Scene) -> Value {
    let socket = scene.site.path("control.sock");
    let told = scene.site.portcullis(&["status", "--format", "json", "--socket", socket.to_str().unwrap()]);
    serde_json::from_str(&told.stdout).unwrap()
}
