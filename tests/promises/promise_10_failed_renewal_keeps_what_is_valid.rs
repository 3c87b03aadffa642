//! A renewal that fails, or brings something that does not check, changes nothing: what is valid serves to its own end, tries go
//! on, and the first success is used within five seconds.

use std::time::Instant;

use serde_json::json;
use testkit::{Meddling, Middle, Vault, VaultCluster, eventually};

use crate::vault_scene::{VaultScene, renewal_failures, soon};

#[test]
fn with_vault_gone_a_certificate_serves_to_its_end_and_tries_never_stop() {
    let mut cluster = VaultCluster::start(1);
    let scene = VaultScene::new(cluster.root(), &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!(cluster.urls())));
    let first = scene.served(&gateway).expect("a certificate");
    cluster.kill(0);
    let left = || scene.status()["certificates"]["edge"]["seconds_left"].as_i64().expect("a certificate");
    eventually("its last second", || {
        assert_eq!(scene.served(&gateway), Some(first.clone()), "{} seconds before its end", left());
        (left() <= 1).then_some(())
    });
    let tried = renewal_failures(&gateway);
    assert!(tried >= 2.0, "{tried} tries so far");
    eventually("it ends", || (left() < 0).then_some(()));
    assert!(scene.served(&gateway).is_none(), "nobody takes what has ended");
    eventually("it says that it is not ready", || (gateway.probe("/readyz") == 503).then_some(()));
    let pending = scene.status()["pending"].to_string();
    assert!(pending.contains("certificate `edge` (it has ended)"), "{pending}");
    eventually("tries go on after the end", || (renewal_failures(&gateway) >= tried + 2.0).then_some(()));
    cluster.restart(0);
    cluster.unseal(0);
    let _ = cluster.active();
    let back = Instant::now();
    eventually("a new certificate", || scene.served(&gateway));
    assert!(back.elapsed() <= soon(), "the first success was used after {:?}", back.elapsed());
    eventually("it is ready again", || (gateway.probe("/readyz") == 200).then_some(()));
}

#[test]
fn a_certificate_for_another_key_never_replaces_what_serves() {
    let vault = Vault::dev();
    let middle = Middle::before(vault.address());
    let scene = VaultScene::new(&vault, &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!([middle.url()])));
    let first = scene.served(&gateway);
    // Vault's first answer again: a good certificate, for the key of the last time.
    middle.meddle("pki/sign/", Meddling::Replay);
    eventually("the candidate is refused", || (renewal_failures(&gateway) >= 1.0).then_some(()));
    assert_eq!(scene.served(&gateway), first, "what is valid serves");
    let said = scene.status()["degraded"].to_string();
    assert!(said.contains("edge") && said.contains("key"), "{said}");
    middle.behave();
    eventually("a candidate that fits is taken", || {
        scene.served(&gateway).filter(|now| Some(now) != first.as_ref())
    });
}

#[test]
fn a_certificate_that_ends_before_the_one_that_serves_never_replaces_it() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!([vault.url()])));
    let first = scene.served(&gateway);
    vault.write(
        "pki/roles/edge",
        &json!({
            "allowed_domains": "example.com,localhost", "allow_subdomains": true, "allow_bare_domains": true,
            "require_cn": false, "key_type": "any", "max_ttl": "2s",
        }),
    );
    eventually("a candidate of two seconds is refused", || {
        assert_eq!(scene.served(&gateway), first);
        (renewal_failures(&gateway) >= 1.0).then_some(())
    });
    assert_eq!(scene.served(&gateway), first);
    assert!(vault.audited("pki/sign/edge") >= 2, "it was asked for and given");
}
