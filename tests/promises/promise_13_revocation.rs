//! What is revoked or denied counts no longer within seconds, on new connections, open ones and in every cache; lists that are stale,
//! missing or not signed by who they speak for do what the configuration says, and let nobody in who was out.

use serde_json::{Value, json};
use testkit::{Ask, Authority, Connection, Gateway, Issued, Leaf, Protocol, Trust, claims, eventually};

use crate::scene::{API, AUDIENCE, ISSUER, ORDERS, Scene};

const BILLING: &str = "spiffe://example.org/ns/shop/sa/billing";

#[test]
fn a_revoked_certificate_is_cut_and_shut_out_and_the_other_issuer_in_the_bundle_is_untouched() {
    let scene = Scene::new();
    let second = Authority::root("second root");
    scene.site.write("ca.pem", format!("{}{}", scene.mesh.pem(), second.pem()));
    let lists = |revoked: &[&Issued]| format!("{}{}", scene.mesh.crl(&[]), second.crl(revoked));
    scene.site.write("crl.pem", lists(&[]));
    let mut config = scene.tls("required");
    config["trust"]["mesh"]["files"]["crl"] = json!(["crl.pem"]);
    let gateway = scene.site.start(&config);
    let (of_mesh, of_second) = (scene.member(ORDERS), second.issue(Leaf::spiffe(BILLING)));
    let mut stays = connect(&gateway, &scene, &of_mesh).expect("both are accepted");
    let mut goes = connect(&gateway, &scene, &of_second).expect("both are accepted");
    scene.site.write("crl.pem", lists(&[&of_second]));
    eventually("the live connection is cut", || goes.closed().then_some(()));
    assert!(connect(&gateway, &scene, &of_second).is_none(), "no new one either");
    assert_eq!(stays.send(Ask::get(API, "/")).unwrap().status, 200);
    assert!(connect(&gateway, &scene, &of_mesh).is_some());
    // A list of somebody with the same name, one that is no list, and none at all: the last good one stays.
    let impostor = Authority::root("second root");
    for text in [impostor.crl(&[]), "no list".to_owned()] {
        let failures = || gateway.metric("portcullis_material_failures_total{kind=\"trust\",name=\"mesh\"}");
        let before = failures();
        scene.site.write("crl.pem", format!("{}{text}", scene.mesh.crl(&[])));
        if text == "no list" {
            scene.site.write("crl.pem", text);
        }
        eventually("it is refused", || (failures() > before).then_some(()));
        assert!(
            connect(&gateway, &scene, &of_second).is_none() && connect(&gateway, &scene, &of_mesh).is_some()
        );
    }
    std::fs::remove_file(scene.site.path("crl.pem")).unwrap();
    assert!(connect(&gateway, &scene, &of_second).is_none() && connect(&gateway, &scene, &of_mesh).is_some());
}

#[test]
fn a_list_that_became_stale_is_rejected_or_accepted_as_its_trust_entry_says() {
    let scene = Scene::new();
    let partner = Authority::root("partner root");
    scene.site.write("partner.pem", partner.pem());
    scene.site.write("crl.pem", scene.mesh.crl_for(&[], -60..4));
    scene.site.write("partner-crl.pem", partner.crl_for(&[], -60..4));
    let mut config = scene.tls("required");
    config["trust"]["mesh"]["files"]["crl"] = json!(["crl.pem"]);
    config["trust"]["partner"] = json!({
        "files": { "ca": "partner.pem", "crl": ["partner-crl.pem"] },
        "names": "spiffe", "trust_domain": "example.org", "revocation": { "when_stale": "accept" },
    });
    config["listeners"]["edge"]["tls"]["client"]["trust"] = json!(["mesh", "partner"]);
    let gateway = scene.site.start(&config);
    let (strict, lenient) = (scene.member(ORDERS), partner.issue(Leaf::spiffe(BILLING)));
    let mut cut = connect(&gateway, &scene, &strict).expect("the lists are fresh");
    let mut stays = connect(&gateway, &scene, &lenient).expect("the lists are fresh");
    eventually("the live connection is cut when its list is stale", || cut.closed().then_some(()));
    assert!(connect(&gateway, &scene, &strict).is_none());
    assert_eq!(stays.send(Ask::get(API, "/")).unwrap().status, 200);
    assert!(connect(&gateway, &scene, &lenient).is_some(), "`accept` says so");
    scene.site.write("crl.pem", scene.mesh.crl(&[]));
    eventually("a fresh list lets them in again", || connect(&gateway, &scene, &strict));
}

#[test]
fn a_denied_certificate_is_cut_and_shut_out_until_it_is_denied_no_longer() {
    let scene = Scene::new();
    let mut config = scene.tls("required");
    config["routes"][0]["authenticate"] = json!({ "any": ["mesh"] });
    let gateway = scene.site.start(&config);
    let (orders, billing) = (scene.member(ORDERS), scene.member(BILLING));
    for selector in [vec!["--certificate", &orders.serial(), "--trust", "mesh"], vec!["--spiffe", ORDERS]] {
        let mut idle = connect(&gateway, &scene, &orders).expect("nobody is denied");
        let mut busy = connect(&gateway, &scene, &orders).expect("nobody is denied");
        let mut stream = busy.open(Ask::get(API, "/events")).unwrap();
        eventually("it streams", || (scene.upstream.listeners() == 1).then_some(()));
        let mut bystander = connect(&gateway, &scene, &billing).expect("nobody is denied");
        let said = deny(&scene, "add", &selector);
        assert!(said.contains("A restart forgets this"), "{said}");
        eventually("the idle connection is cut", || idle.closed().then_some(()));
        assert!(stream.next_piece().is_err(), "the stream ends without a word from the upstream");
        assert!(connect(&gateway, &scene, &orders).is_none(), "no new connection");
        assert_eq!(bystander.send(Ask::get(API, "/")).unwrap().status, 200);
        eventually("the upstream is left", || {
            scene.upstream.emit("anybody?");
            (scene.upstream.listeners() == 0).then_some(())
        });
        deny(&scene, "rm", &selector);
        eventually("it is let in again", || connect(&gateway, &scene, &orders));
    }
    assert!(gateway.metric("portcullis_deny_hits_total{by=\"certificate\"}") >= 1.0);
}

#[test]
fn denied_principals_and_tokens_are_refused_though_cached_and_their_streams_end() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["identity"]["denied"] = json!({ "file": "denied.yaml", "state": "denied.json" });
    scene.site.write("denied.yaml", "denied: []\n");
    let mut gateway = scene.site.start(&config);
    let named = |subject: &str, id: &str| {
        let mut claims = claims(ISSUER, AUDIENCE, subject);
        claims["jti"] = json!(id);
        scene.key.token(&claims)
    };
    let (alice, bob, other_bob, carol) =
        (named("alice", "1"), named("bob", "2"), named("bob", "3"), named("carol", "4"));
    let code = |gateway: &Gateway, token: &str| {
        let reply = gateway.ask(Ask::get(API, "/").bearer(token));
        (reply.status, reply.code())
    };
    let welcome = (200, String::new());
    for token in [&alice, &bob, &other_bob, &carol] {
        assert_eq!(code(&gateway, token), welcome);
    }
    let mut connection = gateway.connect();
    let mut stream = connection.open(Ask::get(API, "/events").bearer(&alice)).unwrap();
    let principal = format!("jwt:{ISSUER}#alice");
    let said = deny(&scene, "add", &["--principal", &principal, "--reason", "left"]);
    assert!(said.contains("1 entry") && !said.contains("restart"), "{said}");
    assert_eq!(code(&gateway, &alice), (403, "PRINCIPAL_DENIED".to_owned()));
    assert!(stream.next_piece().is_err(), "the stream ends");
    deny(&scene, "add", &["--token", "2", "--issuer", ISSUER, "--for", "1h"]);
    assert_eq!(code(&gateway, &bob), (401, "TOKEN_REVOKED".to_owned()));
    assert_eq!(code(&gateway, &other_bob), welcome, "another token of the same caller");
    scene.site.write("denied.yaml", "denied:\n  - token: '4'\n    reason: leaked\n");
    eventually("the file counts", || (code(&gateway, &carol).0 == 401).then_some(()));
    scene.site.write("denied.yaml", "denied:\n  - tok");
    eventually("half a file is refused", || {
        let said = status(&scene);
        said["degraded"].to_string().contains("deny list").then_some(())
    });
    assert_eq!(code(&gateway, &carol).0, 401, "the last good one stays");
    assert_eq!(status(&scene)["denied"], json!({ "file": 1, "socket": 2, "kept": true }));
    let listed = deny(&scene, "list", &[]);
    for entry in [principal.as_str(), "token 2 of", "token 4", "(file)", "left"] {
        assert!(listed.contains(entry), "{entry}: {listed}");
    }
    assert_eq!(gateway.metric("portcullis_deny_entries{source=\"socket\"}"), 2.0);
    // A restart forgets nothing.
    scene.site.write("denied.yaml", "denied: []\n");
    gateway.signal("TERM");
    eventually("it ends", || gateway.ended());
    let gateway = scene.site.start(&config);
    assert_eq!(code(&gateway, &alice), (403, "PRINCIPAL_DENIED".to_owned()));
    assert_eq!(code(&gateway, &bob), (401, "TOKEN_REVOKED".to_owned()));
    deny(&scene, "rm", &["--principal", &principal]);
    assert_eq!((code(&gateway, &alice), code(&gateway, &carol)), (welcome.clone(), welcome));
}

/// A connection on which this certificate was let in.
fn connect(gateway: &Gateway, scene: &Scene, member: &Issued) -> Option<Connection> {
    let client = Trust::new(scene.authority.pem(), Some(member));
    let mut connection = Connection::tls(gateway.address("edge"), &client, API, Protocol::H2).ok()?;
    (connection.send(Ask::get(API, "/")).ok()?.status == 200).then_some(connection)
}

/// What `portcullis deny` says.
fn deny(scene: &Scene, change: &str, selector: &[&str]) -> String {
    let socket = scene.site.path("control.sock");
    let mut arguments = vec!["deny", change];
    arguments.extend(selector);
    arguments.extend(["--socket", socket.to_str().unwrap()]);
    let said = scene.site.portcullis(&arguments);
    assert_eq!(said.code, 0, "{said:?}");
    said.stdout
}

fn status(scene: &Scene) -> Value {
    let socket = scene.site.path("control.sock");
    let said = scene.site.portcullis(&["status", "--format", "json", "--socket", socket.to_str().unwrap()]);
    serde_json::from_str(&said.stdout).unwrap()
}
