//! A gateway that uses all of Vault that it can runs under exactly the policy file that the README prints, and that file allows
//! nothing else.

use serde_json::json;
use testkit::{Ask, Postgres, Vault, eventually};

use crate::scene::API;
use crate::vault_scene::{BEARER, VaultScene, renewal_failures};

#[test]
fn the_printed_policy_is_enough_and_allows_nothing_else() {
    let (vault, postgres) = (Vault::dev(), Postgres::start());
    let scene = VaultScene::new(&vault, &json!({}));
    vault.put("secret/gateway/app", &json!({ "token": BEARER }));
    vault.put("secret/somebody/else", &json!({ "token": "theirs" }));
    postgres.serve_credentials(&vault, "gateway", "6s", "12s");
    vault.enable("transit", "transit");
    vault.write("transit/keys/gateway-jwt", &json!({ "type": "ecdsa-p256" }));
    let policy =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/vault/portcullis.hcl"));
    vault.policy("printed", &policy.unwrap());
    let settings = json!({ "token_ttl": "6s", "token_max_ttl": "20s", "token_no_default_policy": true });
    let (role, secret) = vault.set_up_app_role("printed", &["printed"], &settings);
    scene.scene.site.write("role-id", role);
    scene.scene.site.write("secret-id", secret);

    let mut config = scene.config(&json!([vault.url()]));
    config["upstreams"]["guarded"]["credentials"]["bearer"] = json!("vault:main/secret/gateway/app#token");
    config["upstreams"]["reports"] = json!({
        "endpoints": [scene.scene.upstream.url()],
        "credentials": { "basic": {
            "username": "vault:main/database/creds/gateway#username",
            "password": "vault:main/database/creds/gateway#password",
        } },
    });
    config["identity"] = scene.scene.tokens()["identity"].clone();
    config["identity"]["tokens"] = json!({ "internal": {
        "issuer": "https://gw.internal", "ttl": "60s",
        "sign_with": { "transit": { "store": "main", "mount": "transit", "key": "gateway-jwt" } },
    } });
    config["routes"].as_array_mut().unwrap().push(json!({
        "name": "reports", "on": ["edge"], "path": "/reports/**", "authenticate": "none", "upstream": "reports",
    }));
    config["routes"].as_array_mut().unwrap().push(json!({
        "name": "minted", "on": ["edge"], "path": "/minted/**", "authenticate": { "any": ["staff"] }, "upstream": "app",
        "token": "internal",
    }));
    let mut gateway = scene.scene.site.start(&config);
    scene.guarded_is_served(&gateway);
    assert!(scene.served(&gateway).is_some());
    let reports = || gateway.ask(Ask::get(API, "/reports/x"));
    let first = reports().upstream_saw("authorization");
    assert!(first[0].starts_with("Basic "), "{first:?}");
    let token = scene.scene.token("alice");
    let minted = gateway.ask(Ask::get(API, "/minted/x").bearer(&token)).upstream_saw("authorization");
    assert!(minted[0].starts_with("Bearer ey") && minted[0] != format!("Bearer {token}"), "{minted:?}");
    // Renewals of the token, the lease and the certificate, and a second account.
    eventually("another account", || (reports().upstream_saw("authorization") != first).then_some(()));
    eventually("another certificate", || (vault.audited("pki/sign/edge") >= 2).then_some(()));
    assert!(renewal_failures(&gateway) == 0.0, "{}", gateway.output());
    gateway.signal("TERM");
    assert!(eventually("it ends", || gateway.ended()).success());

    let refused: Vec<_> = vault.audit().into_iter().filter(|entry| entry.get("error").is_some()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let made = vault
        .write("auth/token/create-orphan", &json!({ "policies": ["printed"], "no_default_policy": true }));
    let holder = vault.with_token(made["auth"]["client_token"].as_str().unwrap());
    for (method, path) in [
        ("GET", "secret/data/somebody/else"),
        ("GET", "secret/metadata/gateway/app"),
        ("POST", "secret/data/gateway/app"),
        ("POST", "pki/issue/edge"),
        ("POST", "pki/sign/other"),
        ("POST", "transit/keys/gateway-jwt/rotate"),
        ("GET", "transit/export/signing-key/gateway-jwt"),
        ("GET", "sys/mounts"),
        ("POST", "auth/token/create"),
    ] {
        assert_eq!(holder.call(method, path, Some(&json!({}))).0, 403, "{method} {path}");
    }
}
