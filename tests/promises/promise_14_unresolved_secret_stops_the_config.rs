//! A reference that does not resolve stops the configuration: at the start and at a reload, which then keeps the generation that
//! serves. `check` says the same of what lies on this machine, `secret resolve` also of what Vault holds. The message names the
//! reference, its store and the cause; what was written is never used literally.

use serde_json::{Value, json};
use testkit::{Vault, eventually};

use crate::scene::{AUDIENCE, ISSUER};
use crate::vault_scene::VaultScene;

#[test]
fn each_kind_of_reference_that_does_not_resolve_stops_start_check_and_reload() {
    let vault = Vault::dev();
    let scene = prepared(&vault);
    let good = with_stores(&scene, &vault);
    let with = |reference: &str| {
        let mut bad = good.clone();
        bad["upstreams"]["guarded"]["credentials"] = json!({ "bearer": reference });
        bad
    };
    for (reference, words) in UNRESOLVED {
        let _ = scene.scene.site.configure(&with(reference));
        let beforehand = if reference.starts_with("vault:main") { RESOLVE } else { CHECK };
        told(&scene, reference, words, &[RUN, beforehand]);
    }
    let gateway = scene.scene.site.start(&good);
    scene.guarded_is_served(&gateway);
    for (reference, words) in UNRESOLVED {
        gateway.reload(&with(reference));
        eventually("the reload is refused", || {
            (gateway.metric("portcullis_config_last_reload_success") == 0.0).then_some(())
        });
        let problems = scene.status()["configuration"]["problems"].to_string();
        for word in *words {
            assert!(problems.contains(word), "`{reference}`: `{word}` is missing: {problems}");
        }
        scene.guarded_is_served(&gateway);
        gateway.reload(&good);
        eventually("the good one is taken", || {
            (gateway.metric("portcullis_config_last_reload_success") == 1.0).then_some(())
        });
    }
    let sent = json!(scene.scene.upstream.requests()).to_string();
    assert!(UNRESOLVED.iter().all(|(reference, _)| !sent.contains(reference)), "nothing is sent literally");
    assert!(!gateway.everything_said().contains(LITERAL), "what may be a secret is not quoted");
}

#[test]
fn a_reference_stops_the_configuration_in_every_place() {
    let vault = Vault::dev();
    let scene = prepared(&vault);
    let gone = json!("vault:main/kv/gateway/gone#x");
    let places: [Place; 8] = [
        ("bearer", |config, gone| config["upstreams"]["guarded"]["credentials"] = json!({ "bearer": gone })),
        ("basic", |config, gone| {
            config["upstreams"]["guarded"]["credentials"] =
                json!({ "basic": { "username": "vault:main/kv/gateway/app#token", "password": gone } });
        }),
        ("field", |config, gone| {
            config["upstreams"]["guarded"]["credentials"] =
                json!({ "field": { "name": "x-api-key", "value": gone } });
        }),
        ("certificate", |config, gone| {
            config["certificates"]["edge"] =
                json!({ "files": { "certificate": gone, "key": "vault:main/kv/gateway/pair#key" } });
        }),
        ("key", |config, gone| {
            config["certificates"]["edge"] =
                json!({ "files": { "certificate": "vault:main/kv/gateway/pair#certificate", "key": gone } });
        }),
        ("signing key", |config, gone| {
            config["identity"] = json!({
                "jwt": { "staff": {
                    "issuer": ISSUER, "audience": [AUDIENCE], "jwks": { "file": "jwks.json" }, "algorithms": ["ES256"],
                } },
                "tokens": { "internal": {
                    "issuer": "https://gw.internal", "sign_with": { "key": gone }, "ttl": "60s",
                } },
            });
            config["routes"][0]["authenticate"] = json!({ "any": ["staff"] });
            config["routes"][0]["token"] = json!("internal");
        }),
        ("role of PKI", |config, _| config["certificates"]["edge"]["vault_pki"]["role"] = json!("gone")),
        ("mount of PKI", |config, _| config["certificates"]["edge"]["vault_pki"]["mount"] = json!("gone")),
    ];
    for (what, change) in places {
        let mut bad = with_stores(&scene, &vault);
        change(&mut bad, gone.clone());
        let _ = scene.scene.site.configure(&bad);
        let is_reference = !what.contains("PKI");
        told(&scene, what, &["gone", "main"], if is_reference { &[RUN, RESOLVE] } else { &[RUN] });
    }
}

#[test]
fn what_opens_a_store_or_proves_a_login_must_resolve_too() {
    let vault = Vault::dev();
    let scene = prepared(&vault);
    let places: [(Place, &str); 4] = [
        (
            ("a login's file", |config, _| {
                config["secrets"]["stores"]["main"]["vault"]["login"] = json!({ "token": "file:gone" });
            }),
            "gone",
        ),
        (
            ("a login's variable", |config, _| {
                config["secrets"]["stores"]["main"]["vault"]["login"] =
                    json!({ "token": "env:PORTCULLIS_TEST_GONE" });
            }),
            "PORTCULLIS_TEST_GONE",
        ),
        (
            ("a store's key", |config, _| {
                config["secrets"]["stores"]["local"]["embedded"]["key"] = json!("file:gone");
            }),
            "gone",
        ),
        (
            ("a login from its own store", |config, _| {
                config["secrets"]["stores"]["main"]["vault"]["login"] =
                    json!({ "token": "vault:main/kv/gone#x" });
            }),
            "a login cannot show what Vault holds",
        ),
    ];
    for ((what, change), word) in places {
        let mut bad = with_stores(&scene, &vault);
        change(&mut bad, Value::Null);
        let _ = scene.scene.site.configure(&bad);
        told(&scene, what, &[word], &[RUN, CHECK]);
    }
}

#[test]
fn a_login_that_vault_refuses_stops_the_configuration() {
    let vault = Vault::dev();
    let scene = prepared(&vault);
    let config = with_stores(&scene, &vault);
    scene.scene.site.write("secret-id", "00000000-0000-0000-0000-000000000000");
    let _ = scene.scene.site.configure(&config);
    told(&scene, "a wrong secret id", &["main", "login"], &[RUN, RESOLVE]);
}

#[test]
fn secret_resolve_tells_which_references_resolve_and_shows_no_value() {
    let vault = Vault::dev();
    let scene = prepared(&vault);
    let mut config = with_stores(&scene, &vault);
    let resolve = |config: &Value| {
        let path = scene.scene.site.configure(config);
        scene.scene.site.portcullis(&["secret", "resolve", "--config", path.to_str().unwrap()])
    };
    let good = resolve(&config);
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.stdout.contains("vault:main/kv/gateway/app#token"), "{good:?}");
    config["upstreams"]["guarded"]["credentials"]["bearer"] = json!("vault:main/kv/gateway/gone#token");
    let bad = resolve(&config);
    let said = format!("{}{}", bad.stdout, bad.stderr);
    assert!(bad.code > 0 && said.contains("vault:main/kv/gateway/gone#token"), "{bad:?}");
    assert!(!format!("{good:?}{bad:?}").contains(crate::vault_scene::BEARER));
}

/// A value that the gateway may not read, and one that is empty.
fn prepared(vault: &Vault) -> VaultScene {
    let scene = VaultScene::new(vault, &json!({}));
    vault.put("kv/secret", &json!({ "token": "not for the gateway" }));
    vault.put("kv/gateway/empty", &json!({ "token": "" }));
    let pair = scene.scene.authority.issue(crate::scene::edge());
    vault.put("kv/gateway/pair", &json!({ "certificate": pair.chain, "key": pair.key }));
    scene.scene.site.write("empty", "\n");
    let path = scene.scene.site.configure(&with_stores(&scene, vault));
    let made = scene.scene.site.portcullis(&["secret", "init", "-c", path.to_str().unwrap()]);
    assert_eq!(made.code, 0, "{made:?}");
    scene
}

fn with_stores(scene: &VaultScene, vault: &Vault) -> Value {
    let mut config = scene.config(&json!([vault.url()]));
    config["secrets"]["stores"]["local"] =
        json!({ "embedded": { "directory": "store", "key": "file:store-key" } });
    config
}

/// What is changed, to name something that is not there.
type Place = (&'static str, fn(&mut Value, Value));

/// The file as it lies there is refused by these commands, each with place and words, none quoting a literal.
fn told(scene: &VaultScene, what: &str, words: &[&str], commands: &[&[&str]]) {
    let path = scene.scene.site.path("portcullis.yaml");
    for command in commands {
        let finished = scene.scene.site.portcullis(&[command, &["-c", path.to_str().unwrap()][..]].concat());
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(finished.code > 0, "{what}: `{command:?}` accepts it: {said}");
        assert!(
            said.contains("portcullis.yaml:") || *command == RESOLVE,
            "{what}: `{command:?}` names no place: {said}"
        );
        for word in words {
            assert!(said.contains(word), "{what}: `{command:?}` does not say `{word}`: {said}");
        }
        assert!(!said.contains(LITERAL) && !said.contains("panicked"), "{what}: {said}");
    }
}

const RUN: &[&str] = &["run"];
const CHECK: &[&str] = &["check"];
const RESOLVE: &[&str] = &["secret", "resolve"];
const LITERAL: &str = "hunter2-is-a-password";

/// What does not resolve, and what must be said of it.
const UNRESOLVED: &[(&str, &[&str])] = &[
    ("vault:main/kv/gateway/gone#token", &["vault:main/kv/gateway/gone#token", "main", "there is no"]),
    ("vault:main/kv/gateway/app#gone", &["vault:main/kv/gateway/app#gone", "main", "field `gone`"]),
    ("vault:main/gone/app#token", &["vault:main/gone/app#token", "main"]),
    ("vault:main/kv/secret#token", &["vault:main/kv/secret#token", "main", "permission denied"]),
    ("vault:nobody/kv/gateway/app#token", &["nobody"]),
    ("embedded:gone", &["embedded:gone", "local", "there is no"]),
    ("file:gone", &["gone"]),
    ("file:empty", &["empty"]),
    ("env:PORTCULLIS_TEST_NOT_SET", &["env:PORTCULLIS_TEST_NOT_SET", "there is no"]),
    (LITERAL, &["not a reference"]),
];
