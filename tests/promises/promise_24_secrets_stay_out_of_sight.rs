//! Canaries planted in headers, tokens, cookies, queries and key files appear in no log, metric, answer or dump, at the
//! most talkative level.

use serde_json::json;
use testkit::{Ask, claims, eventually};

use crate::scene::{API, AUDIENCE, ISSUER, Scene};

const CANARY: &str = "canary-5b1f0c9e";

#[test]
fn no_secret_shows_in_any_output_at_the_most_talkative_level() {
    let scene = Scene::new();
    let mut config = scene.tls("optional");
    let tokens = scene.tokens();
    config["identity"] = tokens["identity"].clone();
    config["routes"][0]["authenticate"] = json!({ "any": ["staff"] });
    config["telemetry"] = json!({
        "access_log": { "to": { "file": scene.site.path("access.log") } },
        "log": { "level": "trace", "format": "json" },
    });
    let gateway = scene.site.start(&config);
    let mut connection =
        testkit::Connection::tls(gateway.address("edge"), &scene.client(), API, testkit::Protocol::H1)
            .unwrap();

    let mut secret = claims(ISSUER, AUDIENCE, "alice");
    secret["password"] = json!(CANARY);
    let good = scene.key.token(&secret);
    let stranger = testkit::TokenKey::generate(testkit::Algorithm::Es256, "key-1").token(&secret);
    let mut answers = String::new();
    for ask in [
        Ask::get(API, &format!("/?access_token={CANARY}")).bearer(&good),
        Ask::get(API, "/").bearer(&stranger).header("cookie", &format!("session={CANARY}")),
        Ask::get(API, "/").header("authorization", &format!("Basic {CANARY}")),
        Ask::get(API, "/").bearer(CANARY),
        Ask::get(API, "/").bearer(&good).header("x-api-key", CANARY).header("proxy-authorization", CANARY),
        Ask::new("POST", API, "/").bearer(&good).body(CANARY),
    ] {
        let reply = connection.send(ask).unwrap();
        if reply.status != 200 {
            answers += &reply.text();
            answers += &format!("{:?}", reply.headers);
        }
    }
    eventually("every request is logged", || (gateway.access_log().len() >= 6).then_some(()));
    // A reload, good and bad, says a lot.
    config["shutdown"] = json!({ "deadline": "29s" });
    gateway.apply(&config);
    let mut bad = config.clone();
    bad["limits"] = json!({ "broken": CANARY.len() });
    gateway.reload(&bad);
    eventually("the bad one is refused", || {
        (gateway.metric("portcullis_config_last_reload_success") == 0.0).then_some(())
    });

    let key: String = std::fs::read_to_string(scene.site.path("edge.key")).unwrap();
    let key = key.lines().nth(1).unwrap().to_owned();
    let said = format!("{answers}{}", gateway.everything_said());
    for (what, secret) in [
        ("the canary", CANARY),
        ("a valid token's signature", good.rsplit('.').next().unwrap()),
        ("a valid token's payload", good.split('.').nth(1).unwrap()),
        ("a refused token", stranger.rsplit('.').next().unwrap()),
        ("the private key", &key),
    ] {
        let line = said.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what} shows in: {}", line.unwrap_or_default());
    }
    assert!(said.len() > 2_000, "the gateway did talk");
}

#[test]
fn a_broken_key_file_is_not_quoted() {
    let scene = Scene::new();
    let config = scene.tls("off");
    scene
        .site
        .write("edge.key", format!("-----BEGIN {0}-----\n{CANARY}\n-----END {0}-----\n", "PRIVATE KEY"));
    let path = scene.site.configure(&config);
    for command in ["check", "run"] {
        let finished = scene.site.portcullis(&[command, "-c", path.to_str().unwrap()]);
        assert!(finished.code > 0, "{finished:?}");
        assert!(!format!("{finished:?}").contains(CANARY), "{finished:?}");
    }
}

#[test]
fn the_operators_door_is_closed_to_the_outside_by_default() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.plain());
    // Metrics and status are not on the listener that faces clients.
    assert!(!gateway.ask(Ask::get(API, "/metrics")).text().contains("portcullis_requests"));
    let mode = std::fs::metadata(scene.site.path("control.sock")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
}
