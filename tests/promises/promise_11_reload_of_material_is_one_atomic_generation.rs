//! Certificate, key, CA and CRL files may change in any way that files change: new handshakes use the new pair, a pair
//! that does not fit together is refused and the old one kept, and no connection is lost.

use std::os::unix::fs::symlink;

use serde_json::json;
use testkit::{Ask, Connection, Gateway, Issued, Protocol, Trust, eventually};

use crate::scene::{API, ORDERS, Scene, edge};

#[test]
fn files_written_in_place_are_taken_certificate_or_key_first() {
    for key_first in [false, true] {
        let scene = Scene::new();
        let gateway = scene.site.start(&scene.tls("off"));
        let mut old = connect(&gateway, &scene);
        let next = scene.authority.issue(edge());
        if key_first {
            scene.site.write("edge.key", &next.key);
            assert!(served(&gateway, &scene).is_some(), "a half is not served");
            scene.site.write("edge.pem", &next.chain);
        } else {
            scene.site.write("edge.pem", &next.chain);
            assert!(served(&gateway, &scene).is_some(), "a half is not served");
            scene.site.write("edge.key", &next.key);
        }
        takes(&gateway, &scene, &next);
        assert_eq!(old.send(Ask::get(API, "/")).unwrap().status, 200, "the connection before goes on");
    }
}

#[test]
fn files_renamed_over_the_old_ones_are_taken() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("off"));
    for _ in 0..3 {
        let next = scene.authority.issue(edge());
        for (name, text) in [("edge.pem", &next.chain), ("edge.key", &next.key)] {
            let new = scene.site.write(&format!("{name}.new"), text);
            std::fs::rename(new, scene.site.path(name)).unwrap();
        }
        takes(&gateway, &scene, &next);
    }
}

#[test]
fn files_deleted_and_made_again_are_taken() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("off"));
    let before = served(&gateway, &scene);
    std::fs::remove_file(scene.site.path("edge.pem")).unwrap();
    std::fs::remove_file(scene.site.path("edge.key")).unwrap();
    eventually("the loss is seen", || failures(&gateway).then_some(()));
    assert_eq!(served(&gateway, &scene), before, "what is valid goes on");
    let next = scene.authority.issue(edge());
    scene.site.certificate("edge", &next);
    takes(&gateway, &scene, &next);
}

#[test]
fn a_kubernetes_swap_of_the_data_link_is_taken_as_one() {
    let scene = Scene::new();
    let mut config = scene.tls("off");
    config["certificates"]["edge"]["files"] =
        json!({ "certificate": "secret/tls.crt", "key": "secret/tls.key" });
    let swap = |version: &str, issued: &Issued| {
        scene.site.write(&format!("secret/..{version}/tls.crt"), &issued.chain);
        scene.site.write(&format!("secret/..{version}/tls.key"), &issued.key);
        symlink(format!("..{version}"), scene.site.path("secret/..data_tmp")).unwrap();
        std::fs::rename(scene.site.path("secret/..data_tmp"), scene.site.path("secret/..data")).unwrap();
    };
    swap("v1", &scene.authority.issue(edge()));
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), scene.site.path(&format!("secret/{name}"))).unwrap();
    }
    let gateway = scene.site.start(&config);
    for version in ["v2", "v3"] {
        let next = scene.authority.issue(edge());
        swap(version, &next);
        takes(&gateway, &scene, &next);
    }
}

#[test]
fn a_pair_that_does_not_fit_or_is_half_written_changes_nothing_and_is_seen() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("off"));
    let before = served(&gateway, &scene);
    let (one, other) = (scene.authority.issue(edge()), scene.authority.issue(edge()));
    scene.site.write("edge.pem", &one.chain);
    scene.site.write("edge.key", &other.key);
    eventually("the mismatch is counted", || failures(&gateway).then_some(()));
    assert_eq!(served(&gateway, &scene), before);
    scene.site.write("edge.pem", &one.chain.as_bytes()[..one.chain.len() / 2]);
    scene.site.write("edge.key", &one.key);
    assert_eq!(served(&gateway, &scene), before);
    scene.site.write("edge.pem", &one.chain);
    takes(&gateway, &scene, &one);
}

#[test]
fn an_authority_is_added_and_removed_live() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("required"));
    let next = testkit::Authority::root("the next mesh root");
    let newcomer = next.issue(testkit::Leaf::spiffe(ORDERS));
    let enters = |issued: &Issued| {
        let trust = Trust::new(scene.authority.pem(), Some(issued));
        let connection = Connection::tls(gateway.address("edge"), &trust, API, Protocol::H2);
        connection
            .and_then(|mut connection| connection.send(Ask::get(API, "/")))
            .is_ok_and(|reply| reply.status == 200)
    };
    let old = scene.member(ORDERS);
    assert!(enters(&old) && !enters(&newcomer));
    scene.site.write("ca.pem", format!("{}{}", scene.mesh.pem(), next.pem()));
    eventually("both are trusted", || (enters(&newcomer) && enters(&old)).then_some(()));
    scene.site.write("ca.pem", next.pem());
    eventually("the old one is not", || (!enters(&old)).then_some(()));
    assert!(enters(&newcomer));
    // A broken bundle changes nothing: the last good one stays.
    scene.site.write("ca.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    eventually("the broken bundle is counted", || failures(&gateway).then_some(()));
    assert!(enters(&newcomer) && !enters(&old));
}

#[test]
fn a_revocation_list_is_taken_live_and_a_broken_one_keeps_the_last() {
    let scene = Scene::new();
    let mut config = scene.tls("required");
    scene.site.write("crl.pem", scene.mesh.crl(&[]));
    config["trust"]["mesh"]["files"]["crl"] = json!(["crl.pem"]);
    config["trust"]["mesh"]["revocation"] = json!({ "when_stale": "reject" });
    let gateway = scene.site.start(&config);
    let (honest, thief) = (scene.member(ORDERS), scene.member(ORDERS));
    let enters = |issued: &Issued| {
        let trust = Trust::new(scene.authority.pem(), Some(issued));
        let connection = Connection::tls(gateway.address("edge"), &trust, API, Protocol::H1);
        connection
            .and_then(|mut connection| connection.send(Ask::get(API, "/")))
            .is_ok_and(|reply| reply.status == 200)
    };
    assert!(enters(&honest) && enters(&thief));
    scene.site.write("crl.pem", scene.mesh.crl(&[&thief]));
    eventually("the revoked one is refused", || (!enters(&thief)).then_some(()));
    // Signed by a stranger of the same name: not used, the last good one stays.
    scene.site.write("crl.pem", testkit::Authority::root("mesh root").crl(&[&honest]));
    eventually("the stranger's list is counted", || failures(&gateway).then_some(()));
    assert!(enters(&honest) && !enters(&thief));
}

fn connect(gateway: &Gateway, scene: &Scene) -> Connection {
    Connection::tls(gateway.address("edge"), &scene.client(), API, Protocol::H1)
        .expect("every handshake succeeds")
}

/// The certificate that a new handshake gets.
fn served(gateway: &Gateway, scene: &Scene) -> Option<String> {
    connect(gateway, scene).server_certificate().map(str::to_owned)
}

fn takes(gateway: &Gateway, scene: &Scene, next: &Issued) {
    eventually("new handshakes use the new pair", || {
        (served(gateway, scene)? == next.fingerprint()).then_some(())
    });
}

fn failures(gateway: &Gateway) -> bool {
    gateway.metric("portcullis_material_failures") > 0.0
}
