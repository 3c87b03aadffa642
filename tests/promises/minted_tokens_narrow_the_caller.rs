//! A route with `token:` gives its upstream a short token of the gateway's own: who calls, for this upstream alone, with the scopes
//! that policy grants, and never longer than the caller's proof. The caller's credential ends at the gateway.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::{Ask, Gateway, Reply, Site, Vault, claims, eventually};

use crate::scene::{API, AUDIENCE, ISSUER, Scene};

const GRANTS: &str = r#"
permit (principal, action in Action::"read", resource);
permit (principal is Jwt, action == Action::"grant", resource == Scope::"orders.read");
permit (principal == Jwt::"https://id.example.com#boss", action == Action::"grant", resource);"#;
const KEYS: &str = "/.well-known/jwks.json";

fn scene(signer: &Value) -> (Scene, Value) {
    let scene = Scene::without_policy();
    scene.site.policy("grants", GRANTS);
    let mut config = scene.tokens();
    config["identity"]["tokens"] = json!({ "internal": {
        "issuer": "https://gw.internal", "sign_with": signer, "ttl": "60s",
        "scopes": ["orders.read", "orders.write"], "jwks": { "on": ["edge"], "path": KEYS },
    } });
    config["routes"][0]["token"] = json!("internal");
    (scene, config)
}

/// The minted token, which the upstream echoes.
fn minted(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let fields = reply.upstream_saw("authorization");
    assert_eq!(fields.len(), 1, "{fields:?}");
    fields[0].strip_prefix("Bearer ").unwrap().to_owned()
}

fn part(token: &str, at: usize) -> Value {
    let part = token.split('.').nth(at).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn key_ids(gateway: &Gateway) -> Vec<String> {
    let set = gateway.ask(Ask::get(API, KEYS)).json();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// A service that believes the gateway's tokens and nobody else's: another gateway, as strict as this one.
fn service(gateway: &Gateway, audience: &str) -> (Site, Gateway) {
    let site = Site::new();
    site.write("jwks.json", gateway.ask(Ask::get(API, KEYS)).text());
    site.policy("read", r#"permit (principal in Scope::"orders.read", action, resource);"#);
    let config = json!({
        "listeners": { "edge": { "bind": "127.0.0.1:0" } },
        "identity": { "jwt": { "gateway": {
            "issuer": "https://gw.internal", "audience": [audience], "jwks": { "file": "jwks.json" },
            "algorithms": ["ES256"], "types": ["at+jwt"], "scopes": "scope",
        } } },
        "routes": [{ "name": "all", "on": ["edge"], "path": "/**", "authenticate": { "any": ["gateway"] },
            "respond": { "status": 200 } }],
    });
    let service = site.start(&config);
    (site, service)
}

#[test]
fn an_upstream_reads_who_calls_and_what_policy_grants_and_no_other_service_takes_the_token() {
    let (scene, config) = scene(&json!("local"));
    let gateway = scene.site.start(&config);
    let caller = scene.token("alice");
    let reply = gateway.ask(Ask::get(API, "/orders").bearer(&caller));
    let token = minted(&reply);
    assert!(!reply.text().contains(&caller), "the caller's credential ends at the gateway");
    let (header, said) = (part(&token, 0), part(&token, 1));
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("ES256")));
    assert_eq!(key_ids(&gateway), [header["kid"].as_str().unwrap()]);
    assert_eq!((&said["iss"], &said["aud"]), (&json!("https://gw.internal"), &json!("app")));
    assert_eq!(
        (&said["sub"], &said["scope"]),
        (&json!("jwt:https://id.example.com#alice"), &json!("orders.read"))
    );
    assert!(said["exp"].as_u64().unwrap() - said["iat"].as_u64().unwrap() <= 60);

    let boss = minted(&gateway.ask(Ask::get(API, "/").bearer(&scene.token("boss"))));
    assert_eq!(part(&boss, 1)["scope"], json!("orders.read orders.write"));

    let (_site, upstream) = service(&gateway, "app");
    assert_eq!(upstream.ask(Ask::get(API, "/").bearer(&token)).status, 200);
    assert_eq!(
        upstream.ask(Ask::get(API, "/").bearer(&caller)).status,
        401,
        "the caller's own opens nothing there"
    );
    let (_site, other) = service(&gateway, "payments");
    assert_eq!(other.ask(Ask::get(API, "/").bearer(&token)).code(), "TOKEN_AUDIENCE_MISMATCH");
    assert!(
        !gateway.everything_said().contains(token.rsplit('.').next().unwrap()),
        "no token in logs or metrics"
    );
    assert!(gateway.metric(r#"portcullis_minted_tokens_total{token="internal",result="minted"}"#) >= 2.0);
}

#[test]
fn a_minted_token_ends_with_the_callers_proof() {
    let (scene, config) = scene(&json!("local"));
    let gateway = scene.site.start(&config);
    let mut short = claims(ISSUER, AUDIENCE, "alice");
    let ends = short["iat"].as_u64().unwrap() + 30;
    short["exp"] = json!(ends);
    let token = minted(&gateway.ask(Ask::get(API, "/").bearer(&scene.key.token(&short))));
    assert_eq!(part(&token, 1)["exp"], json!(ends));
    // Clocks may differ by a minute, but what is made from the proof does not outlive it.
    short["exp"] = json!(ends - 40);
    let reply = gateway.ask(Ask::get(API, "/").bearer(&scene.key.token(&short)));
    assert_eq!((reply.status, reply.code().as_str()), (401, "TOKEN_EXPIRED"));
}

#[test]
fn keys_are_public_on_the_listeners_that_were_named_and_the_path_is_nobody_elses() {
    let (scene, config) = scene(&json!("local"));
    let gateway = scene.site.start(&config);
    let reply = gateway.ask(Ask::get("any.host", KEYS));
    assert_eq!((reply.status, reply.header("cache-control")), (200, vec!["max-age=300".to_owned()]));
    assert!(reply.json()["keys"][0].get("d").is_none(), "public halves only");
    assert_eq!(gateway.ask(Ask::new("POST", API, KEYS)).status, 405);
    let line = eventually("the access log tells of it", || {
        gateway.access_log().into_iter().find(|line| line["route"] == json!("jwks/internal"))
    });
    assert_eq!(line["status"], json!(200));
}

#[test]
fn a_key_that_is_replaced_signs_at_once_and_the_former_is_shown_on() {
    let made = |site: &Site, name: &str| {
        let path = site.path(name);
        let made = std::process::Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
    };
    let (scene, config) = scene(&json!({ "key": "file:signing.pem" }));
    made(&scene.site, "signing.pem");
    let gateway = scene.site.start(&config);
    let ask = |subject: &str| minted(&gateway.ask(Ask::get(API, "/").bearer(&scene.token(subject))));
    let first = part(&ask("alice"), 0)["kid"].clone();
    made(&scene.site, "next.pem");
    std::fs::rename(scene.site.path("next.pem"), scene.site.path("signing.pem")).unwrap();
    let mut callers = 0;
    let second = eventually("a new caller's token is signed by the new key", || {
        callers += 1;
        let kid = part(&ask(&format!("caller-{callers}")), 0)["kid"].clone();
        (kid != first).then_some(kid)
    });
    let shown = key_ids(&gateway);
    assert!(shown.contains(&first.as_str().unwrap().to_owned()), "{shown:?}");
    assert!(shown.contains(&second.as_str().unwrap().to_owned()), "{shown:?}");
}

#[test]
fn with_a_key_in_vault_who_holds_a_token_goes_on_while_vault_is_away_and_a_new_caller_waits() {
    let vault = Vault::dev();
    vault.enable("transit", "transit");
    vault.write("transit/keys/gateway-jwt", &json!({ "type": "ecdsa-p256" }));
    let signer = json!({ "transit": { "store": "main", "mount": "transit", "key": "gateway-jwt" } });
    let (scene, mut config) = scene(&signer);
    scene.site.write("vault-token", vault.token());
    config["secrets"] = json!({ "stores": { "main": { "vault": {
        "address": vault.url(), "timeout": "1s", "login": { "token": "file:vault-token" },
    } } } });
    let gateway = scene.site.start(&config);
    let ask = |subject: &str| gateway.ask(Ask::get(API, "/").bearer(&scene.token(subject)));
    let first = minted(&ask("alice"));
    let (_site, upstream) = service(&gateway, "app");
    assert_eq!(upstream.ask(Ask::get(API, "/").bearer(&first)).status, 200, "signed in Vault");

    vault.write("transit/keys/gateway-jwt/rotate", &json!({}));
    let bob = minted(&ask("bob"));
    assert_ne!(part(&bob, 0)["kid"], part(&first, 0)["kid"], "the newest version signs");
    assert_eq!(key_ids(&gateway).len(), 2, "and was shown first");

    vault.signal("STOP");
    assert_eq!(minted(&ask("alice")), first, "who holds one goes on");
    let refused = ask("carol");
    assert_eq!((refused.status, refused.code().as_str()), (503, "TOKEN_SIGNING_UNAVAILABLE"));
    assert_eq!(refused.header("retry-after"), ["1"]);
    assert_eq!(minted(&ask("alice")), first);
    vault.signal("CONT");
    eventually("a new caller is served again", || (ask("carol").status == 200).then_some(()));
}
