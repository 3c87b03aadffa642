//! `iss`, `aud` and `exp` are needed, skew counts 60 s both ways, algorithms come from the configuration and never from
//! the token; whatever else a token says about how to check it gets 401. (`attacks` has the long list.)

use serde_json::{Value, json};
use testkit::{Algorithm, Ask, Gateway, Reply, TokenKey, claims, jwks, unix_now};

use crate::scene::{API, AUDIENCE, ISSUER, Scene};

#[test]
fn a_valid_token_is_proof_and_no_token_is_401_with_a_challenge() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tokens());
    assert_eq!(send(&gateway, &scene.token("alice")).status, 200);
    let reply = gateway.ask(Ask::get(API, "/"));
    assert_eq!((reply.status, reply.code().as_str()), (401, "TOKEN_MISSING"));
    assert!(reply.header("www-authenticate")[0].starts_with("Bearer"), "{:?}", reply.headers);
    assert_eq!(reply.header("location"), [""; 0], "machines are never redirected");
}

#[test]
fn the_token_does_not_reach_the_upstream_unless_the_route_says_so() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    let mut forwards = config["routes"][0].clone();
    forwards["name"] = json!("forwards");
    forwards["path"] = json!("/forwards/**");
    forwards["credentials"] = json!("forward");
    config["routes"].as_array_mut().unwrap().push(forwards);
    let gateway = scene.site.start(&config);
    let token = scene.token("alice");
    let stripped = gateway.ask(Ask::get(API, "/").bearer(&token));
    assert_eq!(stripped.upstream_saw("authorization"), [""; 0]);
    let forwarded = gateway.ask(Ask::get(API, "/forwards").bearer(&token));
    assert_eq!(forwarded.upstream_saw("authorization"), [format!("Bearer {token}")]);
}

#[test]
fn every_required_claim_is_required() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tokens());
    for missing in ["iss", "aud", "exp", "sub"] {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(missing);
        assert_refused(&gateway, &scene.key.token(&claims), missing);
    }
    for (claim, value) in [
        ("iss", json!("https://other.example.com")),
        ("iss", json!([ISSUER])),
        ("aud", json!("gateways")),
        ("aud", json!([])),
        ("exp", json!("4102444800")),
        ("exp", json!(-1)),
        ("nbf", json!("soon")),
        ("sub", json!("")),
        ("sub", json!("a\u{0}b")),
        ("sub", json!(7)),
    ] {
        let mut claims = good();
        claims[claim] = value.clone();
        assert_refused(&gateway, &scene.key.token(&claims), &format!("{claim} = {value}"));
    }
}

#[test]
fn skew_counts_sixty_seconds_both_ways() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tokens());
    let now = unix_now();
    for (claim, at, accepted) in [
        ("exp", now - 20, true),
        ("exp", now - 90, false),
        ("nbf", now + 40, true),
        ("nbf", now + 120, false),
        ("iat", now + 120, false),
    ] {
        let mut claims = good();
        claims[claim] = json!(at);
        let status = send(&gateway, &scene.key.token(&claims)).status;
        assert_eq!(
            status,
            if accepted { 200 } else { 401 },
            "{claim} at now{:+}",
            i128::from(at) - i128::from(now)
        );
    }
}

#[test]
fn the_header_does_not_choose_how_the_token_is_checked() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tokens());
    let own = TokenKey::generate(Algorithm::Es256, "key-1");
    let header = |extra: Value| {
        let mut header = json!({ "alg": "ES256", "typ": "JWT", "kid": "key-1" });
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        header
    };
    for (what, token) in [
        ("signed by a stranger under our kid", own.token(&good())),
        ("a key of its own", own.sign(&header(json!({ "jwk": own.public() })), &good())),
        ("a key to fetch", own.sign(&header(json!({ "jku": "http://127.0.0.1:1/" })), &good())),
        ("another algorithm's name", scene.key.sign(&header(json!({ "alg": "RS256" })), &good())),
        ("no algorithm", scene.key.sign(&header(json!({ "alg": "none" })), &good())),
        ("an unknown critical field", scene.key.sign(&header(json!({ "crit": ["exp"], "exp": 1 })), &good())),
        ("another type", scene.key.sign(&header(json!({ "typ": "dpop+jwt" })), &good())),
        ("an unknown kid", scene.key.sign(&header(json!({ "kid": "key-2" })), &good())),
    ] {
        assert_refused(&gateway, &token, what);
    }
}

#[test]
fn a_key_of_an_algorithm_that_is_not_configured_verifies_nothing() {
    let scene = Scene::new();
    let (rsa, ed) = (TokenKey::generate(Algorithm::Rs256, "rsa"), TokenKey::generate(Algorithm::EdDsa, "ed"));
    scene.site.write("jwks.json", jwks(&[&scene.key, &rsa, &ed]).to_string());
    let mut config = scene.tokens();
    config["identity"]["jwt"]["staff"]["algorithms"] = json!(["ES256", "EdDSA"]);
    let gateway = scene.site.start(&config);
    assert_eq!(send(&gateway, &scene.token("alice")).status, 200);
    assert_eq!(send(&gateway, &ed.token(&good())).status, 200);
    assert_refused(&gateway, &rsa.token(&good()), "RS256 is not configured");
}

#[test]
fn oversize_and_double_credentials_are_refused() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tokens());
    let mut claims = good();
    claims["padding"] = json!("x".repeat(20_000));
    assert_refused(&gateway, &scene.key.token(&claims), "20 kB");
    let twice = gateway.ask(Ask::get(API, "/").bearer(&scene.token("alice")).bearer(&scene.token("bob")));
    assert!(twice.status == 400 || twice.status == 401, "{}", twice.text());
    assert_eq!(scene.upstream.requests().len(), 0);
}

#[test]
fn a_refused_token_stays_refused_and_a_proven_one_is_not_mixed_up() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["routes"][0]["headers"] = json!({ "set": { "x-client-id": "{principal}" } });
    let gateway = scene.site.start(&config);
    let mut connection = gateway.connect();
    let (alice, bob) = (scene.token("alice"), scene.token("bob"));
    // The same header and claims under another signature: what is remembered is keyed by the whole token.
    let forged = format!("{}.{}", alice.rsplit_once('.').unwrap().0, bob.rsplit_once('.').unwrap().1);
    for _ in 0..3 {
        for (token, who) in [(&alice, Some("alice")), (&bob, Some("bob")), (&forged, None)] {
            let reply = connection.send(Ask::get(API, "/").bearer(token)).unwrap();
            match who {
                Some(who) => assert_eq!(reply.upstream_saw("x-client-id"), [format!("jwt:{ISSUER}#{who}")]),
                None => assert_eq!(reply.status, 401),
            }
        }
    }
}

fn good() -> Value {
    claims(ISSUER, AUDIENCE, "alice")
}

fn send(gateway: &Gateway, token: &str) -> Reply {
    gateway.ask(Ask::get(API, "/").bearer(token))
}

fn assert_refused(gateway: &Gateway, token: &str, why: &str) {
    let reply = send(gateway, token);
    assert!(reply.status == 401 || reply.status == 431, "{why}: {} {}", reply.status, reply.text());
    assert!(reply.status == 431 || !reply.header("www-authenticate").is_empty(), "{why}: a challenge");
}
