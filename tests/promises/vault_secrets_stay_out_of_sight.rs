//! Promise 24 for stores: values of Vault and of the embedded store, tokens, secret ids, private keys and passwords appear in no
//! log at the most talkative level, no metric, no answer, no status.

use serde_json::json;
use testkit::{Ask, Meddling, Middle, Vault, base64, eventually};

use crate::scene::API;
use crate::vault_scene::{VaultScene, renewal_failures};

const CANARY: &str = "canary-7c44d1aa";

#[test]
fn no_value_of_a_store_shows_in_any_output_at_the_most_talkative_level() {
    let vault = Vault::dev();
    let middle = Middle::before(vault.address());
    let scene = VaultScene::new(&vault, &json!({ "token_ttl": "6s" }));
    let site = &scene.scene.site;
    vault.put("kv/gateway/app", &json!({ "token": CANARY, "password": format!("{CANARY}-password") }));
    let pair = scene.scene.authority.issue(crate::scene::edge());
    vault.put("kv/gateway/pair", &json!({ "certificate": pair.chain, "key": pair.key }));
    let mut config = scene.config(&json!([middle.url()]));
    config["telemetry"] = json!({
        "access_log": { "to": { "file": site.path("access.log") } }, "log": { "level": "trace", "format": "json" },
    });
    config["secrets"]["stores"]["local"] =
        json!({ "embedded": { "directory": "store", "key": "file:store-key" } });
    config["certificates"]["held"] = json!({ "files": {
        "certificate": "vault:main/kv/gateway/pair#certificate", "key": "vault:main/kv/gateway/pair#key",
    } });
    config["listeners"]["held"] =
        json!({ "bind": "127.0.0.1:0", "tls": { "certificates": ["held"], "client": { "mode": "off" } } });
    config["routes"][0]["on"] = json!(["edge", "secure", "held"]);
    config["upstreams"]["basic"] = json!({ "endpoints": [scene.scene.upstream.url()], "credentials": { "basic": {
        "username": "vault:main/kv/gateway/app#token", "password": "vault:main/kv/gateway/app#password",
    } } });
    config["upstreams"]["field"] = json!({ "endpoints": ["http://127.0.0.1:9"], "credentials": {
        "field": { "name": "x-api-key", "value": "embedded:api-key" },
    } });
    for name in ["basic", "field"] {
        config["routes"].as_array_mut().unwrap().push(json!({
            "name": name, "on": ["edge"], "path": format!("/{name}/**"), "authenticate": "none", "upstream": name,
        }));
    }
    let path = site.configure(&config);
    let made = site.portcullis(&["secret", "init", "-c", path.to_str().unwrap()]);
    assert_eq!(made.code, 0, "{made:?}");
    let set = ["secret", "set", "api-key", "--config", path.to_str().unwrap()];
    let set = site.portcullis_reading(&set, &format!("{CANARY}-embedded"));
    assert_eq!(set.code, 0, "{set:?}");

    let gateway = site.start(&config);
    let mut answers = format!("{made:?}{set:?}");
    for path in ["/guarded/x", "/basic/x", "/field/x", "/guarded/die", "/"] {
        let reply = gateway.ask(Ask::get(API, path).header("x-probe", CANARY));
        if reply.status != 200 {
            answers += &format!("{:?}{}", reply.headers, reply.text());
        }
    }
    assert!(answers.contains("UPSTREAM_CONNECT"), "an upstream that is not there: {answers}");
    // Failures say a lot: lies, refusals, an outage, a refused reload.
    for meddling in [
        Meddling::Answer(500, None),
        Meddling::Truncate,
        Meddling::Lie(json!({ "data": { "certificate": CANARY, "data": { "token": 7 } } }).to_string()),
    ] {
        let failures = renewal_failures(&gateway);
        middle.meddle("", meddling);
        eventually("a renewal fails", || (renewal_failures(&gateway) > failures).then_some(()));
    }
    middle.behave();
    let mut bad = config.clone();
    bad["upstreams"]["basic"]["credentials"]["basic"]["password"] = json!("vault:main/kv/gateway/app#gone");
    gateway.reload(&bad);
    eventually("the bad one is refused", || {
        (gateway.metric("portcullis_config_last_reload_success") == 0.0).then_some(())
    });
    answers += &scene.status().to_string();
    let checked = site.portcullis(&["check", "-c", path.to_str().unwrap()]);
    answers += &format!("{checked:?}");

    let said = format!("{answers}{}", gateway.everything_said());
    let shown = middle.shown().into_iter().filter_map(|(token, _)| token);
    let mut secrets: Vec<(String, String)> = shown.map(|token| ("a Vault token".to_owned(), token)).collect();
    assert!(!secrets.is_empty());
    secrets.push(("a value".to_owned(), CANARY.to_owned()));
    secrets.push(("base64 of a value".to_owned(), base64(format!("{CANARY}:{CANARY}-password").as_bytes())));
    secrets.push(("the secret id".to_owned(), std::fs::read_to_string(site.path("secret-id")).unwrap()));
    secrets.push((
        "the store's key".to_owned(),
        std::fs::read_to_string(site.path("store-key")).unwrap().trim().to_owned(),
    ));
    secrets.push(("a private key".to_owned(), pair.key.lines().nth(1).unwrap().to_owned()));
    for (what, secret) in secrets {
        let line = said.lines().find(|line| line.contains(&secret));
        assert!(line.is_none(), "{what} shows in: {}", line.unwrap_or_default());
    }
    assert!(said.len() > 10_000, "the gateway did talk");
}
