//! Two routes to one address with another client certificate, server name or trust never share a connection; upstreams
//! are verified by default, by name or by SPIFFE id.

use serde_json::{Value, json};
use testkit::{Ask, Authority, Gateway, Issued, Leaf, Reply, ServerTls, Upstream};

use crate::scene::{API, Scene};

const SERVER: &str = "spiffe://example.org/ns/shop/sa/payments";

#[test]
fn routes_with_different_certificates_and_names_share_no_connection() {
    let scene = Scene::new();
    let (upstream, alpha, beta) = mutual(&scene);
    let mut config = base(&scene);
    for (name, issued) in [("alpha", &alpha), ("beta", &beta)] {
        scene.site.certificate(name, issued);
        config["certificates"][name] =
            json!({ "files": { "certificate": format!("{name}.pem"), "key": format!("{name}.key") } });
    }
    for (route, certificate, sni) in
        [("a", "alpha", "one.internal"), ("b", "beta", "one.internal"), ("c", "alpha", "two.internal")]
    {
        let tls = json!({ "present": certificate, "trust": ["backend"], "expect": sni, "sni": sni });
        add(&mut config, route, &upstream, &tls);
    }
    let gateway = scene.site.start(&config);
    let mut connections = Vec::new();
    for _ in 0..6 {
        for (route, issued, sni) in
            [("a", &alpha, "one.internal"), ("b", &beta, "one.internal"), ("c", &alpha, "two.internal")]
        {
            let seen = ask(&gateway, route).json();
            assert_eq!(seen["certificate"], issued.fingerprint(), "route {route}");
            assert_eq!(seen["sni"], sni, "route {route}");
            connections.push((seen["connection"].as_u64().unwrap(), route));
        }
    }
    connections.sort_unstable();
    connections.dedup();
    let mut numbers: Vec<_> = connections.iter().map(|(number, _)| number).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), connections.len(), "a connection serves one route: {connections:?}");
    assert!(upstream.connections() < 18, "connections are reused all the same: {}", upstream.connections());
}

#[test]
fn an_upstream_under_another_authority_is_not_reached_over_a_neighbours_connection() {
    let scene = Scene::new();
    let (upstream, alpha, _) = mutual(&scene);
    scene.site.certificate("alpha", &alpha);
    let mut config = base(&scene);
    config["certificates"]["alpha"] = json!({ "files": { "certificate": "alpha.pem", "key": "alpha.key" } });
    scene.site.write("other.pem", Authority::root("another").pem());
    config["trust"]["other"] = json!({ "files": { "ca": "other.pem" }, "names": "dns" });
    add(
        &mut config,
        "good",
        &upstream,
        &json!({ "present": "alpha", "trust": ["backend"], "expect": "one.internal" }),
    );
    add(
        &mut config,
        "bad",
        &upstream,
        &json!({ "present": "alpha", "trust": ["other"], "expect": "one.internal" }),
    );
    let gateway = scene.site.start(&config);
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "good").status, 200);
        let refused = ask(&gateway, "bad");
        assert_eq!((refused.status, refused.code().as_str()), (502, "UPSTREAM_CONNECT"));
    }
}

#[test]
fn verification_is_on_by_default_and_checks_the_name() {
    let scene = Scene::new();
    let backend = Authority::root("backend root");
    let upstream =
        Upstream::tls("named", ServerTls::new(&backend.issue(Leaf::server(&["one.internal"])), None));
    scene.site.write("backend.pem", backend.pem());
    let mut config = base(&scene);
    add(&mut config, "right", &upstream, &json!({ "trust": ["backend"], "expect": "one.internal" }));
    add(&mut config, "wrong", &upstream, &json!({ "trust": ["backend"], "expect": "two.internal" }));
    add(&mut config, "system", &upstream, &json!({ "trust": "system", "expect": "one.internal" }));
    // Nothing said: the endpoint's own host (an address here) must stand in the certificate.
    add(&mut config, "default", &upstream, &json!({ "trust": ["backend"] }));
    let gateway = scene.site.start(&config);
    assert_eq!(ask(&gateway, "right").status, 200);
    for route in ["wrong", "system", "default"] {
        let refused = ask(&gateway, route);
        assert_eq!((refused.status, refused.code().as_str()), (502, "UPSTREAM_CONNECT"), "{route}");
        assert!(
            !refused.text().contains("internal"),
            "the client learns nothing of the inside: {}",
            refused.text()
        );
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_spiffe_id_is_expected_and_a_name_does_not_stand_in_for_it() {
    let scene = Scene::new();
    let backend = Authority::root("backend root");
    let upstream = Upstream::tls("spiffe", ServerTls::new(&backend.issue(Leaf::spiffe(SERVER)), None));
    scene.site.write("backend.pem", backend.pem());
    let mut config = base(&scene);
    config["trust"]["backend"] =
        json!({ "files": { "ca": "backend.pem" }, "names": "spiffe", "trust_domain": "example.org" });
    add(&mut config, "right", &upstream, &json!({ "trust": ["backend"], "expect": SERVER }));
    add(
        &mut config,
        "wrong",
        &upstream,
        &json!({ "trust": ["backend"], "expect": "spiffe://example.org/ns/shop/sa/orders" }),
    );
    let gateway = scene.site.start(&config);
    assert_eq!(ask(&gateway, "right").status, 200);
    assert_eq!(ask(&gateway, "wrong").status, 502);
}

#[test]
fn a_reload_that_changes_the_certificate_closes_the_old_pool() {
    let scene = Scene::new();
    let (upstream, alpha, beta) = mutual(&scene);
    scene.site.certificate("self", &alpha);
    scene.site.certificate("other", &beta);
    let mut config = base(&scene);
    for name in ["self", "other"] {
        config["certificates"][name] =
            json!({ "files": { "certificate": format!("{name}.pem"), "key": format!("{name}.key") } });
    }
    add(
        &mut config,
        "a",
        &upstream,
        &json!({ "present": "self", "trust": ["backend"], "expect": "one.internal" }),
    );
    let gateway = scene.site.start(&config);
    assert_eq!(ask(&gateway, "a").json()["certificate"], alpha.fingerprint());
    config["upstreams"]["a"]["tls"]["present"] = json!("other");
    gateway.apply(&config);
    for _ in 0..4 {
        assert_eq!(ask(&gateway, "a").json()["certificate"], beta.fingerprint());
    }
}

/// An upstream that asks for a certificate and answers to two names; two certificates that it takes.
fn mutual(scene: &Scene) -> (Upstream, Issued, Issued) {
    let backend = Authority::root("backend root");
    scene.site.write("backend.pem", backend.pem());
    let server = backend.issue(Leaf::server(&["one.internal", "two.internal"]));
    let tls = ServerTls::new(&server, Some(scene.mesh.pem()));
    (
        Upstream::tls("mutual", tls),
        scene.member("spiffe://example.org/alpha"),
        scene.member("spiffe://example.org/beta"),
    )
}

fn base(scene: &Scene) -> Value {
    let mut config = scene.plain();
    config["routes"] = json!([]);
    config["upstreams"] = json!({});
    config["certificates"] = json!({});
    config["trust"] = json!({ "backend": { "files": { "ca": "backend.pem" }, "names": "dns" } });
    config
}

/// A route and an upstream of this name.
fn add(config: &mut Value, name: &str, upstream: &Upstream, tls: &Value) {
    config["upstreams"][name] = json!({ "endpoints": [upstream.url()], "tls": tls });
    let route = json!({ "name": name, "on": ["edge"], "path": format!("/{name}"), "authenticate": "none", "upstream": name });
    config["routes"].as_array_mut().unwrap().push(route);
}

fn ask(gateway: &Gateway, route: &str) -> Reply {
    gateway.ask(Ask::get(API, &format!("/{route}")))
}
