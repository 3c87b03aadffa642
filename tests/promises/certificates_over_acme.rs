//! Certificates over ACME: a listener proves its own names before it has a certificate, serves what is issued, renews it
//! without a failed request, and orders nothing anew after a restart.

use serde_json::{Value, json};
use testkit::{Ask, Connection, Gateway, Pebble, Pebbling, Protocol, Trust, eventually};

use crate::scene::{ADMIN, API, Scene};

#[test]
fn a_listener_proves_its_name_before_it_has_a_certificate_and_then_serves_the_one_that_is_issued() {
    let (scene, pebble) = (Scene::new(), Pebble::start(&Pebbling::default()));
    let gateway = scene.site.start(&over_tls(&scene, &pebble));
    served(&gateway, &pebble);
    assert_eq!(pebble.issued(), 1, "{}", pebble.output());
    let said = gateway.everything_said();
    assert!(said.contains("an ACME server looked at a proof"), "{said}");
    assert!(said.contains("portcullis_handshake_failures"), "there is a metric of failed handshakes");
    assert_eq!(gateway.metric("portcullis_handshake_failures"), 0.0, "a validation is no failed handshake");
}

#[test]
fn a_plain_listener_answers_for_a_token_while_it_is_being_proven_and_redirects_everything_else() {
    let (scene, pebble) = (Scene::new(), Pebble::start(&Pebbling::default()));
    let gateway = scene.site.start(&over_http(&scene, &pebble));
    served(&gateway, &pebble);
    let output = pebble.output();
    let (_, token) = output.split_once("/.well-known/acme-challenge/").expect("pebble asked for a token");
    let token: String =
        token.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    for path in [
        format!("/.well-known/acme-challenge/{token}"),
        "/.well-known/acme-challenge/".to_owned(),
        "/".to_owned(),
    ] {
        let mut plain = Connection::plain(gateway.address("plain"), Protocol::H1).unwrap();
        let reply = plain.send(Ask::get(API, &path)).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (308, ""), "{path}");
    }
    let asked = gateway.access_log();
    let answered = |record: &&Value| record["status"] == 200 && record["listener"] == "plain";
    assert!(asked.iter().any(|record| answered(&record)), "the proof is in the access log: {asked:?}");
}

#[test]
fn a_renewal_fails_no_request_and_new_handshakes_see_it() {
    let (scene, pebble) = (Scene::new(), Pebble::start(&Pebbling { validity: 12, ..Pebbling::default() }));
    let gateway = scene.site.start(&over_tls(&scene, &pebble));
    let first = served(&gateway, &pebble);
    eventually("a renewed certificate is served", || (served(&gateway, &pebble) != first).then_some(()));
    assert_eq!(pebble.posts("/sign-me-up"), 1, "the account is made once");
}

#[test]
fn a_restart_serves_what_is_kept_and_no_key_is_ever_told() {
    let (scene, pebble) = (Scene::new(), Pebble::start(&Pebbling::default()));
    let mut config = over_tls(&scene, &pebble);
    config["telemetry"] = json!({
        "access_log": { "to": { "file": scene.site.path("access.log") } }, "log": { "level": "trace", "format": "json" },
    });
    let gateway = scene.site.start(&config);
    let before = served(&gateway, &pebble);
    let said = gateway.everything_said();
    assert!(said.contains("\"DEBUG\""), "the log tells all that it can: {said}");
    drop(gateway);
    for file in std::fs::read_dir(scene.site.path("acme")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let Ok(kept) = serde_json::from_str::<Value>(&text) else { continue };
        let keys = [&kept["key"], &kept["credentials"]["key_pkcs8"]];
        let key = keys.into_iter().find_map(Value::as_str).expect("something is kept with its key");
        let middle = key.lines().nth(1).unwrap_or(key);
        assert!(middle.len() > 40 && !said.contains(middle), "a private key is told");
    }
    let gateway = scene.site.start(&config);
    assert_eq!(served(&gateway, &pebble), before);
    assert_eq!(pebble.issued(), 1);
}

#[test]
fn a_reload_that_adds_a_name_serves_the_former_certificate_until_the_new_one_is_issued() {
    let (scene, pebble) = (Scene::new(), Pebble::start(&Pebbling::default()));
    let mut config = over_tls(&scene, &pebble);
    let gateway = scene.site.start(&config);
    let former = served(&gateway, &pebble);
    config["certificates"]["public"]["acme"]["names"] = json!([API, ADMIN]);
    gateway.apply(&config);
    eventually("the new certificate is served", || (served(&gateway, &pebble) != former).then_some(()));
    let trust = Trust::new(&pebble.root(), None);
    Connection::tls(gateway.address("edge"), &trust, ADMIN, Protocol::H1).expect("the added name is served");
    assert_eq!((pebble.issued(), pebble.posts("/sign-me-up")), (2, 1));
}

#[test]
fn a_refused_order_is_told_with_its_problem_type_and_the_other_listeners_serve() {
    let blocked = Pebbling { blocked: vec![API.to_owned()], ..Pebbling::default() };
    let (scene, pebble) = (Scene::new(), Pebble::start(&blocked));
    let mut config = over_tls(&scene, &pebble);
    config["listeners"]["plain"] = json!({ "bind": "127.0.0.1:0" });
    config["routes"][0]["on"] = json!(["edge", "plain"]);
    let gateway = scene.site.boot(&config, &[]);
    eventually("the refusal is told", || gateway.output().contains("rejectedIdentifier").then_some(()));
    let mut plain = Connection::plain(gateway.address("plain"), Protocol::H1).unwrap();
    assert_eq!(plain.send(Ask::get(API, "/")).unwrap().status, 200);
    assert_eq!((gateway.probe("/livez"), gateway.probe("/readyz")), (200, 503));
    let trust = Trust::new(&pebble.root(), None);
    let refused =
        Connection::tls(gateway.address("edge"), &trust, API, Protocol::H1).err().expect("no handshake");
    assert!(refused.to_string().contains("InternalError"), "an alert is the answer: {refused}");
    let socket = scene.site.path("control.sock");
    let status = scene.site.portcullis(&["status", "--format", "json", "--socket", socket.to_str().unwrap()]);
    assert!(status.stdout.contains("rejectedIdentifier"), "{status:?}");
}

/// One request over a connection of its own; the fingerprint of the certificate that was shown.
fn served(gateway: &Gateway, pebble: &Pebble) -> String {
    let trust = Trust::new(&pebble.root(), None);
    let mut connection = Connection::tls(gateway.address("edge"), &trust, API, Protocol::H1).unwrap();
    let shown = connection.server_certificate().expect("a certificate is shown").to_owned();
    assert_eq!(connection.send(Ask::get(API, "/")).unwrap().status, 200);
    shown
}

fn over_tls(scene: &Scene, pebble: &Pebble) -> Value {
    with_certificate(scene, pebble, "tls-alpn-01", &pebble.tls().to_string())
}

fn over_http(scene: &Scene, pebble: &Pebble) -> Value {
    let mut config = with_certificate(scene, pebble, "http-01", "127.0.0.1:0");
    config["listeners"]["plain"] = json!({ "bind": pebble.http().to_string(), "redirect": "https" });
    config
}

fn with_certificate(scene: &Scene, pebble: &Pebble, challenge: &str, edge: &str) -> Value {
    scene.site.write("pebble.pem", pebble.ca());
    let mut config = scene.plain();
    config["listeners"]["edge"] =
        json!({ "bind": edge, "tls": { "certificates": ["public"], "client": { "mode": "off" } } });
    config["certificates"]["public"] = json!({ "acme": {
        "directory": pebble.directory_url(), "trust": "pebble.pem", "contact": ["mailto:tls@example.com"],
        "names": [API], "challenge": challenge, "state": "acme",
    } });
    config
}
