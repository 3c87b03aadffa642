//! An empty list means the socket's address. With trust, the chain is walked from the right to the first hop that is
//! not trusted. Rotating `X-Forwarded-For` gives no new bucket and changes no policy.

use serde_json::{Value, json};
use testkit::Ask;

use crate::scene::{API, Scene};

const CLIENT: &str = "203.0.113.7";

#[test]
fn without_trusted_proxies_the_address_is_the_sockets() {
    let scene = Scene::without_policy();
    scene.site.policy(
        "address",
        r#"permit(principal, action, resource) when { context.address == ip("127.0.0.1") };"#,
    );
    let gateway = scene.site.start(&scene.plain());
    let reply = gateway
        .ask(Ask::get(API, "/").header("x-forwarded-for", CLIENT).header("forwarded", "for=203.0.113.7"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.upstream_saw("x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn a_trusted_proxy_names_the_first_untrusted_hop_from_the_right() {
    let scene = Scene::without_policy();
    scene.site.policy(
        "address",
        r#"permit(principal, action, resource) when { context.address == ip("203.0.113.7") };"#,
    );
    let gateway = scene.site.start(&trusting(&scene, json!(["127.0.0.0/8", "10.0.0.0/8"])));
    for (chain, allowed) in [
        ("203.0.113.7", true),
        ("198.51.100.1, 203.0.113.7", true),
        ("198.51.100.1, 203.0.113.7, 10.1.2.3", true),
        ("203.0.113.7, 198.51.100.1", false),
        ("203.0.113.7, 198.51.100.1, 10.1.2.3", false),
        ("10.9.9.9", false),
        // What cannot be read ends the walk: what stands left of it is nobody's word.
        ("203.0.113.7, unknown", false),
        ("203.0.113.7, , 10.1.2.3 x", false),
    ] {
        let status = gateway.ask(Ask::get(API, "/").header("x-forwarded-for", chain)).status;
        assert_eq!(status == 200, allowed, "{chain}: {status}");
    }
}

#[test]
fn a_proxy_outside_the_list_is_not_believed() {
    let scene = Scene::without_policy();
    scene.site.policy(
        "address",
        r#"permit(principal, action, resource) when { context.address == ip("127.0.0.1") };"#,
    );
    let gateway = scene.site.start(&trusting(&scene, json!(["10.0.0.0/8"])));
    let reply = gateway.ask(Ask::get(API, "/").header("x-forwarded-for", CLIENT));
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn rotating_the_header_gives_no_new_bucket() {
    let scene = Scene::new();
    let mut config = scene.plain();
    config["limits"] = json!({ "by-address": { "key": "address", "rate": "1/m", "burst": 3, "at": "edge" } });
    config["routes"][0]["limits"] = json!(["by-address"]);
    let gateway = scene.site.start(&config);
    let mut connection = gateway.connect();
    let statuses: Vec<u16> = (0..20)
        .map(|at| {
            connection
                .send(Ask::get(API, "/").header("x-forwarded-for", &format!("198.51.100.{at}")))
                .unwrap()
                .status
        })
        .collect();
    let limited = statuses.iter().filter(|status| **status == 429).count();
    assert!(limited >= 16, "one bucket for all: {statuses:?}");
    assert!(scene.upstream.requests().len() <= 4, "what is limited does not arrive");
}

fn trusting(scene: &Scene, proxies: Value) -> Value {
    let mut config = scene.plain();
    config["listeners"]["edge"]["trusted_proxies"] = proxies;
    config
}
