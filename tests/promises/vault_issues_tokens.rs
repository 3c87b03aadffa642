//! Vault as a real token issuer with rotating keys (its identity engine): its tokens open routes, found by discovery; after a
//! rotation new tokens verify at once, and a key that is gone verifies nothing.

use serde_json::json;
use testkit::{Ask, Vault, eventually};

use crate::scene::{API, Scene};

#[test]
fn tokens_of_vaults_identity_engine_open_routes_across_key_rotations() {
    let vault = Vault::dev();
    let issuer = format!("{}/v1/identity/oidc", vault.url());
    vault.write("identity/oidc/config", &json!({ "issuer": vault.url() }));
    let key = json!({
        "allowed_client_ids": "*", "algorithm": "ES256", "rotation_period": "1h", "verification_ttl": "1h",
    });
    vault.write("identity/oidc/key/k", &key);
    vault.write("identity/oidc/role/staff", &json!({ "key": "k", "client_id": "gateway", "ttl": "10m" }));
    vault.policy("holder", r#"path "identity/oidc/token/*" { capabilities = ["read"] }"#);
    // Only a login has an identity that the engine can speak of.
    let (role, secret) = vault.set_up_app_role("alice", &["holder"], &json!({}));
    let login = vault.write("auth/approle/login", &json!({ "role_id": role, "secret_id": secret }));
    let alice = vault.with_token(login["auth"]["client_token"].as_str().unwrap());
    let issued = || {
        let answer = alice.read("identity/oidc/token/staff");
        answer["data"]["token"].as_str().unwrap().to_owned()
    };

    let scene = Scene::new();
    let mut config = scene.tokens();
    config["identity"]["jwt"]["staff"] = json!({
        "issuer": issuer, "audience": ["gateway"], "jwks": "discover", "algorithms": ["ES256"], "refresh": "10s",
    });
    let gateway = scene.site.start(&config);
    let status = |token: &str| gateway.ask(Ask::get(API, "/").bearer(token)).status;
    let first = issued();
    eventually("keys arrive", || (status(&first) == 200).then_some(()));
    vault.write("identity/oidc/key/k/rotate", &json!({ "verification_ttl": "1h" }));
    assert_eq!((status(&issued()), status(&first)), (200, 200), "the new key at once, the former still");
    vault.write("identity/oidc/key/k/rotate", &json!({ "verification_ttl": "1s" }));
    let last = issued();
    eventually("the key before the last verifies no more", || {
        vault.write("identity/oidc/key/k/rotate", &json!({ "verification_ttl": "1s" }));
        (status(&last) == 401).then_some(())
    });
}
