//! A ticket got before mTLS was required, on another listener, or before an authority was removed or a certificate
//! revoked, does not authenticate: a full handshake or a refusal follows.

use serde_json::json;
use testkit::{Ask, Connection, Gateway, Issued, Leaf, Protocol, Trust, eventually};

use crate::scene::{API, ORDERS, Scene};

#[test]
fn a_ticket_is_taken_while_nothing_changed() {
    // Without this the tests below could pass for want of tickets.
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("required"));
    for client in [scene.workload(ORDERS), Trust::tls12(scene.authority.pem(), Some(&scene.member(ORDERS)))] {
        assert_eq!(visit(&gateway, "edge", &client), Visit::Served { resumed: false });
        assert_eq!(visit(&gateway, "edge", &client), Visit::Served { resumed: true });
    }
}

#[test]
fn a_ticket_from_before_mtls_was_required_is_worth_nothing() {
    for tls12 in [false, true] {
        let scene = Scene::new();
        let gateway = scene.site.start(&scene.tls("off"));
        let client = if tls12 { Trust::tls12(scene.authority.pem(), None) } else { scene.client() };
        assert_eq!(visit(&gateway, "edge", &client), Visit::Served { resumed: false });
        gateway.reload(&scene.tls("required"));
        eventually("a certificate is required", || {
            (visit(&gateway, "edge", &scene.client()) == Visit::Refused).then_some(())
        });
        assert_eq!(visit(&gateway, "edge", &client), Visit::Refused, "TLS 1.2 only: {tls12}");
    }
}

#[test]
fn a_ticket_from_another_listener_is_worth_nothing() {
    let scene = Scene::new();
    let mut config = scene.tls("off");
    config["listeners"]["guarded"] = config["listeners"]["edge"].clone();
    config["listeners"]["guarded"]["tls"]["client"] = json!({ "mode": "required", "trust": ["mesh"] });
    config["routes"][0]["on"] = json!(["edge", "guarded"]);
    let gateway = scene.site.start(&config);
    for client in [scene.client(), Trust::tls12(scene.authority.pem(), None)] {
        assert_eq!(visit(&gateway, "edge", &client), Visit::Served { resumed: false });
        assert_eq!(visit(&gateway, "guarded", &client), Visit::Refused);
    }
}

#[test]
fn a_ticket_from_before_the_authority_was_removed_is_worth_nothing() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("required"));
    let member = scene.member(ORDERS);
    let clients = [
        Trust::new(scene.authority.pem(), Some(&member)),
        Trust::tls12(scene.authority.pem(), Some(&member)),
    ];
    for client in &clients {
        assert_eq!(visit(&gateway, "edge", client), Visit::Served { resumed: false });
    }
    scene.site.write("ca.pem", testkit::Authority::root("the next mesh root").pem());
    refuses(&gateway, &scene, &member);
    for client in &clients {
        assert_eq!(visit(&gateway, "edge", client), Visit::Refused);
    }
}

#[test]
fn a_ticket_from_before_the_revocation_is_worth_nothing() {
    let scene = Scene::new();
    let mut config = scene.tls("required");
    scene.site.write("crl.pem", scene.mesh.crl(&[]));
    config["trust"]["mesh"]["files"]["crl"] = json!(["crl.pem"]);
    config["trust"]["mesh"]["revocation"] = json!({ "when_stale": "reject" });
    let gateway = scene.site.start(&config);
    let member = scene.member(ORDERS);
    let clients = [
        Trust::new(scene.authority.pem(), Some(&member)),
        Trust::tls12(scene.authority.pem(), Some(&member)),
    ];
    for client in &clients {
        assert_eq!(visit(&gateway, "edge", client), Visit::Served { resumed: false });
    }
    scene.site.write("crl.pem", scene.mesh.crl(&[&member]));
    refuses(&gateway, &scene, &member);
    for client in &clients {
        assert_eq!(visit(&gateway, "edge", client), Visit::Refused);
    }
    assert!(
        matches!(visit(&gateway, "edge", &scene.workload(ORDERS)), Visit::Served { .. }),
        "others are let in"
    );
}

#[test]
fn a_ticket_does_not_outlive_the_certificate_it_remembers() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("required"));
    let short = scene.mesh.issue(Leaf::spiffe(ORDERS).valid(-60..4));
    let client = Trust::new(scene.authority.pem(), Some(&short));
    assert_eq!(visit(&gateway, "edge", &client), Visit::Served { resumed: false });
    eventually("the certificate expires", || {
        (visit(&gateway, "edge", &client) == Visit::Refused).then_some(())
    });
}

#[derive(Debug, PartialEq, Eq)]
enum Visit {
    Served { resumed: bool },
    Refused,
}

fn visit(gateway: &Gateway, listener: &str, trust: &Trust) -> Visit {
    let Ok(mut connection) = Connection::tls(gateway.address(listener), trust, API, Protocol::H1) else {
        return Visit::Refused;
    };
    match connection.send(Ask::get(API, "/")) {
        Ok(reply) if reply.status == 200 => Visit::Served { resumed: connection.resumed() },
        _ => Visit::Refused,
    }
}

/// Waits until a client without tickets that presents this certificate is refused.
fn refuses(gateway: &Gateway, scene: &Scene, issued: &Issued) {
    eventually("the change of trust is in force", || {
        let fresh = Trust::new(scene.authority.pem(), Some(issued));
        (visit(gateway, "edge", &fresh) == Visit::Refused).then_some(())
    });
}
