//! Every way of logging in, with real proofs: AppRole with a plain and a wrapped secret id, a Kubernetes service account, a JWT,
//! a TLS client certificate, a token; each proof is read anew when it is needed.

use serde_json::{Value, json};
use testkit::{
    Algorithm, Authority, Gateway, KubernetesApi, Leaf, TokenKey, Vault, VaultClient, claims, eventually,
};

use crate::vault_scene::VaultScene;

#[test]
fn an_app_role_logs_in_with_a_plain_and_with_a_wrapped_secret_id() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    drop(logs_in(&scene, &vault, app_role(false)));
    scene.scene.site.write("secret-id", vault.wrapped_secret_id("gateway"));
    let gateway = logs_in(&scene, &vault, app_role(true));
    assert_eq!(vault.audited("sys/wrapping/unwrap"), 1);
    drop(gateway);
    // Somebody was faster: the token is spent, and that is told as what it may be.
    let config = with_login(&scene, &vault, app_role(true));
    let path = scene.scene.site.configure(&config);
    let refused = scene.scene.site.portcullis(&["run", "-c", path.to_str().unwrap()]);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(refused.code > 0 && said.contains("wrap"), "{said}");
}

#[test]
fn a_wrapped_secret_id_of_another_role_is_not_used() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    let _ = vault.set_up_app_role("somebody-else", &["gateway"], &json!({}));
    scene.scene.site.write("secret-id", vault.wrapped_secret_id("somebody-else"));
    let path = scene.scene.site.configure(&with_login(&scene, &vault, app_role(true)));
    let refused = scene.scene.site.portcullis(&["run", "-c", path.to_str().unwrap()]);
    assert!(refused.code > 0, "{refused:?}");
    assert_eq!(vault.audited("sys/wrapping/unwrap"), 0, "it is not even unwrapped");
    assert_eq!(vault.audited("auth/approle/login"), 0);
}

#[test]
fn a_real_service_account_logs_in_and_its_token_is_read_anew() {
    let (vault, kubernetes) = (Vault::dev(), KubernetesApi::start());
    let scene = VaultScene::new(&vault, &json!({}));
    kubernetes.service_account("gateway");
    kubernetes.let_in(&vault, "gateway", "gateway", "vault", &["gateway"]);
    let token = || drop(scene.scene.site.write("sa-token", kubernetes.token("gateway", "vault")));
    token();
    let login = json!({ "kubernetes": { "role": "gateway", "token": "file:sa-token" } });
    let gateway = logs_in(&scene, &vault, login);
    // The kubelet writes a new token before the former ends; the next login shows it.
    scene.scene.site.write("sa-token", "spent");
    vault.write("sys/leases/revoke-prefix/auth/kubernetes/login", &json!({}));
    eventually("the spent token is refused", || (vault.audited("auth/kubernetes/login") >= 2).then_some(()));
    scene.guarded_is_served(&gateway);
    token();
    eventually("the new one is shown", || (gateway.metric(crate::vault_scene::LOGINS) >= 2.0).then_some(()));
}

#[test]
fn a_jwt_of_an_issuer_that_vault_trusts_logs_in() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    let key = TokenKey::generate(Algorithm::Es256, "vault-1");
    vault.enable_auth("jwt");
    vault.write("auth/jwt/config", &json!({ "jwt_validation_pubkeys": [key.public_key_pem()] }));
    vault.write("auth/jwt/role/gateway", &json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_policies": ["gateway"],
    }));
    scene.scene.site.write("login.jwt", key.token(&claims("https://ci.example.com", "vault", "gateway")));
    drop(logs_in(&scene, &vault, json!({ "jwt": { "role": "gateway", "token": "file:login.jwt" } })));
}

#[test]
fn a_client_certificate_logs_in_and_its_successor_too() {
    let vault = Vault::dev_tls();
    let scene = VaultScene::new(&vault, &json!({}));
    let machines = Authority::root("machines");
    vault.enable_auth("cert");
    let settings = json!({ "certificate": machines.pem(), "token_policies": ["gateway"], "token_ttl": "8s", "token_max_ttl": "10m" });
    vault.write("auth/cert/certs/gateway", &settings);
    let write = || scene.scene.site.certificate("machine", &machines.issue(Leaf::client("gateway")));
    write();
    scene.scene.site.write("vault-ca.pem", vault.ca());
    let login = json!({ "certificate": {
        "files": { "certificate": "machine.pem", "key": "machine.key" }, "name": "gateway",
    } });
    let mut config = with_login(&scene, &vault, login);
    config["secrets"]["stores"]["main"]["vault"]["trust"] = json!("vault-ca.pem");
    let gateway = scene.scene.site.start(&config);
    scene.guarded_is_served(&gateway);
    // Renewal with another certificate may be refused (OpenBao does): there is a new login then, with the new one.
    write();
    let logins = gateway.metric(crate::vault_scene::LOGINS);
    eventually("it logs in with the new certificate", || {
        scene.guarded_is_served(&gateway);
        (gateway.metric(crate::vault_scene::LOGINS) > logins).then_some(())
    });
}

#[test]
fn a_token_that_somebody_made_is_used_and_renewed_but_never_replaced() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    let token =
        vault.make_token(&json!({ "policies": ["gateway"], "period": "6s", "no_default_policy": true }));
    scene.scene.site.write("vault-token", &token);
    let gateway = logs_in(&scene, &vault, json!({ "token": "file:vault-token" }));
    eventually("it is renewed", || (vault.audited("auth/token/renew-self") >= 2).then_some(()));
    assert!(vault.token_lives(&token));
    // Somebody else's token is not ours to revoke.
    gateway.signal("TERM");
    let mut gateway = gateway;
    eventually("it ends", || gateway.ended());
    assert!(vault.token_lives(&token));
}

fn app_role(wrapped: bool) -> Value {
    let mut login = json!({ "app_role": { "role_id": "file:role-id", "secret_id": "file:secret-id" } });
    if wrapped {
        login["app_role"]["wrapped"] = json!({ "role": "gateway" });
    }
    login
}

fn with_login(scene: &VaultScene, vault: &VaultClient, login: Value) -> Value {
    let mut config = scene.config(&json!([vault.url()]));
    config["secrets"]["stores"]["main"]["vault"]["login"] = login;
    config
}

/// A gateway that logs in like this gets a certificate and a credential.
fn logs_in(scene: &VaultScene, vault: &VaultClient, login: Value) -> Gateway {
    let gateway = scene.scene.site.start(&with_login(scene, vault, login));
    assert!(scene.served(&gateway).is_some());
    scene.guarded_is_served(&gateway);
    gateway
}
