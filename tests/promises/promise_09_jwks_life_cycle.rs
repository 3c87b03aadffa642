//! Keys are fetched ahead and kept when a fetch fails; an unknown `kid` causes at most one fetch, for all cores and all
//! requests; a fetch that fails gives 503, not 401; a key that is removed stops verifying within one refresh.

use std::time::Instant;

use serde_json::{Value, json};
use testkit::{Algorithm, Ask, Gateway, KeyServer, Mood, TokenKey, claims, eventually, jwks};

use crate::scene::{API, AUDIENCE, Scene};

#[test]
fn keys_are_found_by_discovery_and_by_address() {
    for discover in [true, false] {
        let scene = Scene::new();
        let keys = KeyServer::start(jwks(&[&scene.key]), None);
        let mut config = issued_by(&scene, &keys, "10m");
        if discover {
            config["identity"]["jwt"]["staff"]["jwks"] = json!("discover");
        }
        let gateway = scene.site.start(&config);
        eventually("keys arrive", || (status(&gateway, &keys, &scene.key) == 200).then_some(()));
    }
}

#[test]
fn a_new_key_verifies_at_once_and_a_removed_one_stops_within_a_refresh() {
    let scene = Scene::new();
    let keys = KeyServer::start(jwks(&[&scene.key]), None);
    let gateway = scene.site.start(&issued_by(&scene, &keys, REFRESH));
    eventually("keys arrive", || (status(&gateway, &keys, &scene.key) == 200).then_some(()));
    let next = TokenKey::generate(Algorithm::Es256, "key-2");
    keys.publish(jwks(&[&next]));
    // Either the request's own refetch or the refresh brings it: no request with a good key is refused for long.
    eventually("the new key verifies", || (status(&gateway, &keys, &next) == 200).then_some(()));
    eventually("the old key verifies no more", || (status(&gateway, &keys, &scene.key) == 401).then_some(()));
    assert_eq!(status(&gateway, &keys, &next), 200);
}

#[test]
fn a_request_waits_for_the_fetch_that_its_unknown_key_caused() {
    let scene = Scene::new();
    let keys = KeyServer::start(jwks(&[&scene.key]), None);
    let gateway = scene.site.start(&issued_by(&scene, &keys, "10m"));
    eventually("keys arrive", || (status(&gateway, &keys, &scene.key) == 200).then_some(()));
    let next = TokenKey::generate(Algorithm::Es256, "key-2");
    keys.publish(jwks(&[&scene.key, &next]));
    assert_eq!(status(&gateway, &keys, &next), 200);
}

#[test]
fn unknown_keys_cause_one_fetch_for_all_cores_and_requests() {
    let scene = Scene::new();
    let keys = KeyServer::start(jwks(&[&scene.key]), None);
    let gateway = scene.site.start(&issued_by(&scene, &keys, "10m"));
    eventually("keys arrive", || (status(&gateway, &keys, &scene.key) == 200).then_some(()));
    let before = keys.fetches();
    let began = Instant::now();
    std::thread::scope(|threads| {
        for worker in 0..8 {
            let (gateway, keys, key) = (&gateway, &keys, &scene.key);
            threads.spawn(move || {
                let mut connection = gateway.connect();
                for at in 0..100 {
                    let header =
                        json!({ "alg": "ES256", "typ": "JWT", "kid": format!("unknown-{worker}-{at}") });
                    let token = key.sign(&header, &claims(&keys.issuer(), AUDIENCE, "alice"));
                    assert_eq!(connection.send(Ask::get(API, "/").bearer(&token)).unwrap().status, 401);
                }
            });
        }
    });
    let allowed = 1 + usize::try_from(began.elapsed().as_secs() / 30).unwrap();
    assert!(keys.fetches() - before <= allowed, "{} fetches for 800 requests", keys.fetches() - before);
    assert_eq!(status(&gateway, &keys, &scene.key), 200);
}

#[test]
fn a_fetch_that_fails_gives_503_for_unknown_keys_and_the_last_good_set_goes_on() {
    let scene = Scene::new();
    let keys = KeyServer::start(jwks(&[&scene.key]), None);
    let gateway = scene.site.start(&issued_by(&scene, &keys, REFRESH));
    eventually("keys arrive", || (status(&gateway, &keys, &scene.key) == 200).then_some(()));
    keys.mood(Mood::Fail);
    let failed = keys.fetches();
    let next = TokenKey::generate(Algorithm::Es256, "key-2");
    let token = next.token(&claims(&keys.issuer(), AUDIENCE, "alice"));
    eventually("an unknown key cannot be looked up", || {
        let reply = gateway.ask(Ask::get(API, "/").bearer(&token));
        (reply.status == 503 && reply.code() == "KEYS_UNAVAILABLE").then_some(())
    });
    eventually("refreshes fail and go on", || (keys.fetches() >= failed + 2).then_some(()));
    assert_eq!(status(&gateway, &keys, &scene.key), 200);
    keys.mood(Mood::Serve);
    keys.publish(jwks(&[&next]));
    eventually("it heals alone", || (status(&gateway, &keys, &next) == 200).then_some(()));
}

#[test]
fn without_keys_at_the_start_routes_answer_503_and_heal_alone() {
    for mood in [Mood::Fail, Mood::Huge(12 << 20), Mood::Redirect("http://127.0.0.1:9/".to_owned())] {
        let scene = Scene::new();
        let keys = KeyServer::start(jwks(&[&scene.key]), None);
        keys.mood(mood.clone());
        let mut config = issued_by(&scene, &keys, REFRESH);
        let open = json!({ "name": "open", "on": ["edge"], "path": "/open/**", "authenticate": "none", "upstream": "app" });
        config["routes"].as_array_mut().unwrap().push(open);
        let gateway = scene.site.start(&config);
        assert_eq!(status(&gateway, &keys, &scene.key), 503, "{mood:?}");
        assert_eq!(gateway.ask(Ask::get(API, "/open")).status, 200, "other routes work");
        keys.mood(Mood::Serve);
        eventually("it heals alone", || (status(&gateway, &keys, &scene.key) == 200).then_some(()));
    }
}

#[test]
fn keys_that_are_too_old_verify_nothing() {
    let scene = Scene::new();
    let keys = KeyServer::start(jwks(&[&scene.key]), None);
    let mut config = issued_by(&scene, &keys, REFRESH);
    config["identity"]["jwt"]["staff"]["max_stale"] = json!("12s");
    let gateway = scene.site.start(&config);
    eventually("keys arrive", || (status(&gateway, &keys, &scene.key) == 200).then_some(()));
    keys.mood(Mood::Fail);
    eventually("the last good set is too old", || (status(&gateway, &keys, &scene.key) == 503).then_some(()));
}

#[test]
fn keys_in_a_file_are_watched() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tokens());
    assert_eq!(gateway.ask(Ask::get(API, "/").bearer(&scene.token("alice"))).status, 200);
    let next = TokenKey::generate(Algorithm::Es256, "key-2");
    scene.site.write("jwks.json", jwks(&[&next]).to_string());
    eventually("the removed key verifies no more", || {
        (gateway.ask(Ask::get(API, "/").bearer(&scene.token("alice"))).status == 401).then_some(())
    });
    let token = next.token(&claims(crate::scene::ISSUER, AUDIENCE, "alice"));
    assert_eq!(gateway.ask(Ask::get(API, "/").bearer(&token)).status, 200);
}

/// The shortest that a configuration may ask for.
const REFRESH: &str = "10s";

fn issued_by(scene: &Scene, keys: &KeyServer, refresh: &str) -> Value {
    let mut config = scene.tokens();
    let staff = &mut config["identity"]["jwt"]["staff"];
    staff["issuer"] = json!(keys.issuer());
    staff["jwks"] = json!({ "url": keys.jwks_url() });
    staff["refresh"] = json!(refresh);
    config
}

fn status(gateway: &Gateway, keys: &KeyServer, key: &TokenKey) -> u16 {
    gateway.ask(Ask::get(API, "/").bearer(&key.token(&claims(&keys.issuer(), AUDIENCE, "alice")))).status
}
