//! Sealed, without an active node, forbidden, asked too often, failing, slow, lying, unprovable, unfindable, killed: with each,
//! traffic goes on with what is held, `status` and metrics say why, and once Vault is back everything is fresh again within
//! five seconds, after at most one login, or none where the token still holds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use testkit::{
    Ask, Authority, Gateway, Meddling, Middle, Vault, VaultClient, VaultCluster, eventually, free_port,
};

use crate::scene::API;
use crate::vault_scene::{LOGINS, VaultScene, renewal_failures, soon};

#[test]
fn a_sealed_vault_and_one_that_was_killed_are_survived_without_a_login() {
    let mut cluster = VaultCluster::start(1);
    let scene = VaultScene::new(cluster.root(), &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!(cluster.urls())));
    scene.survives(&gateway, ("sealed", 0.0), || cluster.seal(0), || cluster.unseal(0));
    assert_eq!(logins(&cluster), 1);
    let cell = std::cell::RefCell::new(&mut cluster);
    let restart = || {
        cell.borrow_mut().restart(0);
        cell.borrow().unseal(0);
        let _ = cell.borrow().active();
    };
    scene.survives(&gateway, ("cannot connect", 0.0), || cell.borrow_mut().kill(0), restart);
    assert_eq!(logins(&cluster), 1);
}

#[test]
fn a_cluster_that_loses_its_active_node_is_survived_and_one_without_a_quorum_too() {
    let mut cluster = VaultCluster::start(3);
    let scene = VaultScene::new(cluster.root(), &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!(cluster.urls())));
    let first = scene.served(&gateway);
    let former = cluster.step_down();
    eventually("another is active", || (cluster.active() != former).then_some(()));
    let killed = cluster.active();
    cluster.kill(killed);
    let _ = cluster.active();
    // Two of three are left: renewals go on, whichever addresses are dead.
    eventually("a new certificate", || scene.served(&gateway).filter(|now| Some(now) != first.as_ref()));
    scene.guarded_is_served(&gateway);
    assert_eq!(gateway.metric(LOGINS), 1.0);
    let last = cluster.active();
    let cell = std::cell::RefCell::new(&mut cluster);
    let restart = || {
        for at in [killed, last] {
            cell.borrow_mut().restart(at);
            cell.borrow().unseal(at);
        }
        let _ = cell.borrow().active();
    };
    // One of three: it answers, but there is nobody to answer for it.
    scene.survives(&gateway, ("", 0.0), || cell.borrow_mut().kill(last), restart);
}

#[test]
fn a_quota_is_survived_whether_or_not_vault_says_when_to_come_again() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!([vault.url()])));
    for with_headers in [true, false] {
        // Somebody else at the same address uses up what the quota allows.
        let lifted = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let forbid = || {
                vault.set_quota("tight", "pki", with_headers);
                threads.spawn(|| {
                    while !lifted.load(Ordering::Relaxed) {
                        let _ = vault.call("GET", "pki/roles/edge", None);
                    }
                });
            };
            let lift = || {
                vault.lift_quota("tight");
                lifted.store(true, Ordering::Relaxed);
            };
            let _ends = Ends(&lifted);
            scene.survives(&gateway, ("asked too often", 0.0), forbid, lift);
        });
    }
}

/// Ends a loop, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_slow_vault_is_survived() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!([vault.url()])));
    scene.survives(&gateway, ("no answer in time", 0.0), || vault.signal("STOP"), || vault.signal("CONT"));
}

#[test]
fn a_failing_vault_and_one_that_hangs_up_are_survived() {
    let vault = Vault::dev();
    let middle = Middle::before(vault.address());
    let scene = VaultScene::new(&vault, &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!([middle.url()])));
    for (word, meddling) in [
        ("answered status 500", Meddling::Answer(500, None)),
        ("", Meddling::HangUp),
        ("the answer cannot be used", Meddling::Truncate),
    ] {
        scene.survives(&gateway, (word, 0.0), || middle.meddle("", meddling), || middle.behave());
    }
}

#[test]
fn a_lying_vault_is_survived_and_gets_no_token_elsewhere() {
    let vault = Vault::dev();
    let (middle, elsewhere) = (Middle::before(vault.address()), Middle::before(vault.address()));
    let scene = VaultScene::new(&vault, &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!([middle.url()])));
    for meddling in [
        Meddling::Lie("{}".to_owned()),
        Meddling::Bloat(64 << 20),
        Meddling::Redirect(format!("{}/v1/pki/sign/edge", elsewhere.url())),
    ] {
        scene.survives(&gateway, ("", 0.0), || middle.meddle("pki/", meddling), || middle.behave());
    }
    assert!(elsewhere.shown().is_empty(), "no redirect is followed");
}

#[test]
fn a_token_that_is_revoked_costs_one_login_and_no_request() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!([vault.url()])));
    let before = scene.served(&gateway);
    vault.write("sys/leases/revoke-prefix/auth/approle/login", &json!({}));
    let after = || scene.served(&gateway).expect("handshakes go on");
    eventually("a new certificate", || {
        scene.guarded_is_served(&gateway);
        (Some(after()) != before).then_some(())
    });
    assert_eq!(vault.audited("auth/approle/login"), 2, "the first, and one anew");
}

#[test]
fn a_policy_that_is_taken_away_is_told_apart_from_a_dead_token() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!([vault.url()])));
    vault.policy("gateway", r#"path "kv/data/gateway/*" { capabilities = ["read"] }"#);
    eventually("the renewal is refused", || (renewal_failures(&gateway) > 0.0).then_some(()));
    assert!(scene.served(&gateway).is_some(), "what is held goes on");
    scene.guarded_is_served(&gateway);
    let said = scene.status()["degraded"].to_string();
    assert!(said.contains("permission denied") && said.contains("pki/sign/edge"), "{said}");
    assert_eq!(vault.audited("auth/approle/login"), 1);
}

#[test]
fn a_vault_that_cannot_prove_itself_or_be_found_is_waited_for() {
    let vault = Vault::dev_tls();
    let scene = VaultScene::new(&vault, &json!({}));
    scene.scene.site.write("vault-ca.pem", Authority::root("somebody else").pem());
    let mut config = scene.config(&json!([vault.url()]));
    config["secrets"]["stores"]["main"]["vault"]["trust"] = json!("vault-ca.pem");
    waits(&scene, &config, "TLS", |_| drop(scene.scene.site.write("vault-ca.pem", vault.ca())));
    assert_eq!(vault.audited("auth/approle/login"), 1);

    let mut lost = config.clone();
    lost["secrets"]["stores"]["main"]["vault"]["address"] = json!("https://vault.invalid:8200");
    waits(&scene, &lost, "vault.invalid", |gateway| gateway.reload(&config));
}

/// Starts without Vault: says why, opens nothing that needs it; once `mend`ed, everything is there within five seconds.
fn waits(scene: &VaultScene, config: &Value, word: &str, mend: impl FnOnce(&Gateway)) {
    let gateway = scene.scene.site.boot(config, &[]);
    eventually("the reason is told", || scene.status().to_string().contains(word).then_some(()));
    assert!(scene.served(&gateway).is_none());
    assert_eq!(gateway.ask(Ask::get(API, "/")).status, 200, "what needs no Vault works");
    mend(&gateway);
    let mended = Instant::now();
    eventually("it serves", || scene.served(&gateway));
    eventually("it is ready", || (gateway.probe("/readyz") == 200).then_some(()));
    scene.guarded_is_served(&gateway);
    assert!(mended.elapsed() <= soon() * 2, "{word}: recovery took {:?}", mended.elapsed());
}

#[test]
fn a_reload_during_an_outage_takes_what_is_held_and_nothing_else() {
    let vault = Vault::dev();
    let middle = Middle::before(vault.address());
    let scene = VaultScene::new(&vault, &json!({}));
    vault.put("kv/gateway/new", &json!({ "token": "new" }));
    let mut config = scene.config(&json!([middle.url()]));
    let gateway = scene.scene.site.start(&config);
    middle.meddle("", Meddling::Answer(503, None));
    config["routes"][0]["path"] = json!("/elsewhere/**");
    gateway.apply(&config);
    assert_eq!(gateway.ask(Ask::get(API, "/")).status, 404, "what needs nothing new is taken");
    scene.guarded_is_served(&gateway);
    let mut bad = config.clone();
    bad["upstreams"]["guarded"]["credentials"]["bearer"] = json!("vault:main/kv/gateway/new#token");
    gateway.reload(&bad);
    eventually("the reload is refused", || {
        (gateway.metric("portcullis_config_last_reload_success") == 0.0).then_some(())
    });
    let said = scene.status()["configuration"]["problems"].to_string();
    assert!(said.contains("vault:main/kv/gateway/new#token"), "{said}");
    scene.guarded_is_served(&gateway);
    middle.behave();
    eventually("the same file is taken once Vault is back", || {
        let reply = gateway.ask(Ask::get(API, "/guarded/x"));
        (reply.upstream_saw("authorization") == ["Bearer new"]).then_some(())
    });
}

#[test]
fn a_drill_cuts_the_gateways_own_path_and_ends_by_itself() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    let gateway = scene.scene.site.start(&scene.config(&json!([vault.url()])));
    let before = scene.served(&gateway);
    let socket = scene.scene.site.path("control.sock");
    let drill =
        ["drill", "vault-down", "--for", "15s", "--format", "json", "--socket", socket.to_str().unwrap()];
    let said = scene.scene.site.portcullis(&drill);
    assert_eq!(said.code, 0, "{said:?}");
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    let forecast = said["forecast"]["material"].as_array().unwrap();
    assert!(forecast.iter().any(|material| material["name"] == "edge"), "{said}");
    assert!(said["failed"].to_string().contains("edge"), "renewals that failed are told: {said}");
    assert!(renewal_failures(&gateway) > 0.0);
    let over = Instant::now();
    eventually("a new certificate", || scene.served(&gateway).filter(|now| Some(now) != before.as_ref()));
    assert!(over.elapsed() <= soon(), "recovery took {:?}", over.elapsed());
    assert_eq!(vault.audited("auth/approle/login"), 1);
    let nobody = VaultClient::clone(&vault).call("GET", &format!("nobody/{}", free_port()), None).0;
    assert_eq!(nobody, 404, "Vault itself was there all the time");
}

fn logins(cluster: &VaultCluster) -> usize {
    cluster.audited("auth/approle/login")
}
