//! With Vault and the token issuer away at the start, the gateway lives; listeners and routes that need them wait and say so,
//! others work, and everything heals alone.

use std::net::TcpStream;
use std::time::Instant;

use serde_json::json;
use testkit::{Ask, KeyServer, Mood, VaultCluster, claims, eventually, jwks};

use crate::scene::{API, AUDIENCE};
use crate::vault_scene::{VaultScene, soon};

#[test]
fn without_vault_and_the_token_issuer_it_lives_says_what_waits_and_heals_alone() {
    let mut cluster = VaultCluster::start(1);
    let scene = VaultScene::new(cluster.root(), &json!({}));
    let keys = KeyServer::start(jwks(&[&scene.scene.key]), None);
    keys.mood(Mood::Fail);
    let mut config = scene.config(&json!(cluster.urls()));
    config["identity"] = json!({ "jwt": { "staff": {
        "issuer": keys.issuer(), "audience": [AUDIENCE], "jwks": { "url": keys.jwks_url() }, "algorithms": ["ES256"],
        "refresh": "10s",
    } } });
    config["routes"].as_array_mut().unwrap().push(json!({
        "name": "staff", "on": ["edge"], "path": "/staff/**", "authenticate": { "any": ["staff"] }, "upstream": "app",
    }));
    // A listener whose certificate is a file needs nobody.
    config["certificates"]["own"] = json!({ "files": { "certificate": "edge.pem", "key": "edge.key" } });
    config["listeners"]["own"] =
        json!({ "bind": "127.0.0.1:0", "tls": { "certificates": ["own"], "client": { "mode": "off" } } });
    config["routes"][0]["on"] = json!(["edge", "secure", "own"]);
    cluster.kill(0);

    let gateway = scene.scene.site.boot(&config, &[]);
    let token = scene.scene.key.token(&claims(&keys.issuer(), AUDIENCE, "alice"));
    let staff = || gateway.ask(Ask::get(API, "/staff/x").bearer(&token));
    assert_eq!(gateway.probe("/readyz"), 503);
    let pending = scene.status()["pending"].to_string();
    assert!(pending.contains("edge") && pending.contains("guarded"), "{pending}");
    let secure = gateway.address("secure");
    assert!(TcpStream::connect(secure).is_err(), "a listener without a certificate refuses connections");
    let guarded = gateway.ask(Ask::get(API, "/guarded/x"));
    assert_eq!((guarded.status, guarded.code().as_str()), (503, "UPSTREAM_CREDENTIAL_UNAVAILABLE"));
    assert_eq!((staff().status, staff().code().as_str()), (503, "KEYS_UNAVAILABLE"));
    assert_eq!(gateway.ask(Ask::get(API, "/")).status, 200);
    let own =
        testkit::Connection::tls(gateway.address("own"), &scene.scene.client(), API, testkit::Protocol::H2);
    assert_eq!(own.unwrap().send(Ask::get(API, "/")).unwrap().status, 200);
    let upstream_saw = scene.scene.upstream.requests();
    assert!(upstream_saw.iter().all(|request| !request["target"].to_string().contains("guarded")));

    keys.mood(Mood::Serve);
    eventually("tokens verify", || (staff().status == 200).then_some(()));
    assert_eq!(gateway.probe("/readyz"), 503, "Vault is still away");
    cluster.restart(0);
    cluster.unseal(0);
    let _ = cluster.active();
    let back = Instant::now();
    eventually("the listener opens", || scene.served(&gateway));
    eventually("it is ready", || (gateway.probe("/readyz") == 200).then_some(()));
    scene.guarded_is_served(&gateway);
    assert!(back.elapsed() <= soon(), "recovery took {:?}", back.elapsed());
    assert_eq!(cluster.audited("auth/approle/login"), 1);
    eventually("nothing is degraded", || scene.status()["degraded"].as_object()?.is_empty().then_some(()));
}
