//! Tokens and leases are renewed at two thirds of their life; at the end of what can be renewed there is a new login, and new
//! credentials, with overlap; no request notices; a clean exit gives back what was held.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::{Ask, Gateway, Postgres, Reply, Vault, eventually};

use crate::scene::API;
use crate::vault_scene::{LOGINS, VaultScene};

#[test]
fn a_token_is_renewed_and_replaced_before_its_maximum_and_no_request_notices() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({ "token_ttl": "6s", "token_max_ttl": "15s" }));
    let gateway = scene.scene.site.start(&scene.config(&json!([vault.url()])));
    let before = scene.served(&gateway);
    let failed = under_load(&gateway, "/guarded/x", || {
        eventually("a third login", || (gateway.metric(LOGINS) >= 3.0).then_some(()));
    });
    assert_eq!(failed, 0, "{}", gateway.output());
    assert_ne!(scene.served(&gateway), before, "material was renewed across logins");
    let renewals = gateway.metric("portcullis_secret_store_token_renewals_total");
    assert!(renewals >= 2.0, "{renewals} renewals");
    let (logins, renewed) = (vault.audited("auth/approle/login"), vault.audited("auth/token/renew-self"));
    assert!(logins <= 5 && renewed <= 20, "{logins} logins, {renewed} renewals: no storm");
    let refused = vault.audit();
    let refused: Vec<_> = refused.iter().filter(|entry| entry.get("error").is_some()).collect();
    assert!(refused.is_empty(), "no token was used after its end: {refused:?}");
}

#[test]
fn database_credentials_are_swapped_with_overlap_and_given_back() {
    let (vault, postgres) = (Vault::dev(), Postgres::start());
    let scene = VaultScene::new(&vault, &json!({}));
    postgres.serve_credentials(&vault, "app", "6s", "12s");
    let mut gateway = scene.scene.site.start(&with_database(&scene, &vault));
    let ended = AtomicBool::new(false);
    // A reader beside the load: each account works when a request carries it.
    let seen = std::thread::scope(|threads| {
        let end = End(&ended);
        let watching = threads.spawn(|| {
            let mut seen = BTreeSet::new();
            while !ended.load(Ordering::Relaxed) {
                let reply = gateway.ask(Ask::get(API, "/guarded/x"));
                assert_eq!(reply.status, 200, "{}", reply.text());
                seen.insert(works(&gateway, &postgres, &reply));
                let held = postgres.leased_accounts().len();
                assert!(held <= 3, "{held} accounts at once");
            }
            seen
        });
        let swapped = Instant::now();
        let failed = under_load(&gateway, "/guarded/y", || {
            while swapped.elapsed() < Duration::from_secs(30) && !watching.is_finished() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        drop(end);
        assert_eq!(failed, 0, "{}", gateway.output());
        watching.join().unwrap()
    });
    assert!(seen.len() >= 3, "swapped before the longest life of twelve seconds: {seen:?}");
    assert!(vault.audited("database/creds/app") <= seen.len() + 1, "no more accounts than were used");
    assert!(vault.audited("sys/leases/renew") >= 2, "and renewed before");
    eventually("former accounts are given back", || (postgres.leased_accounts().len() == 1).then_some(()));

    gateway.signal("TERM");
    let status = eventually("it ends", || gateway.ended());
    assert!(status.success());
    assert!(postgres.leased_accounts().is_empty(), "a clean exit gives its account back");
    assert_eq!(vault.audited("auth/token/revoke-self"), 1, "and its token");
}

#[test]
fn a_new_login_moves_leases_before_the_former_token_takes_them_along() {
    let (vault, postgres) = (Vault::dev(), Postgres::start());
    let scene = VaultScene::new(&vault, &json!({ "token_ttl": "8s", "token_max_ttl": "16s" }));
    // Leases that would outlive the token: they die with it all the same.
    postgres.serve_credentials(&vault, "app", "1h", "2h");
    let gateway = scene.scene.site.start(&with_database(&scene, &vault));
    let failed = under_load(&gateway, "/guarded/x", || {
        eventually("a third login", || {
            let reply = gateway.ask(Ask::get(API, "/guarded/x"));
            works(&gateway, &postgres, &reply);
            (gateway.metric(LOGINS) >= 3.0).then_some(())
        });
    });
    assert_eq!(failed, 0, "{}", gateway.output());
}

/// The account that a request carried. It works, unless it was swapped since the request ended: then the next one carries another.
fn works(gateway: &Gateway, postgres: &Postgres, reply: &Reply) -> String {
    let (user, password) = basic(&reply.upstream_saw("authorization")[0]);
    if !postgres.logs_in(&user, &password) {
        let next = gateway.ask(Ask::get(API, "/guarded/x"));
        let (now, _) = basic(&next.upstream_saw("authorization")[0]);
        assert_ne!(now, user, "the account works while it is used");
    }
    user
}

/// How many requests failed while `until` ran: two clients that ask without a pause.
pub(crate) fn under_load(gateway: &Gateway, path: &str, until: impl FnOnce()) -> usize {
    let (ended, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        // Also when `until` panics: the scope waits for its threads.
        let end = End(&ended);
        for _ in 0..2 {
            threads.spawn(|| {
                let mut connection = gateway.connect();
                while !ended.load(Ordering::Relaxed) {
                    if !connection.send(Ask::get(API, path)).is_ok_and(|reply| reply.status == 200) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        connection = gateway.connect();
                    }
                }
            });
        }
        until();
        drop(end);
    });
    failed.into_inner()
}

/// Says so when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn with_database(scene: &VaultScene, vault: &Vault) -> Value {
    let mut config = scene.config(&json!([vault.url()]));
    config["upstreams"]["guarded"]["credentials"] = json!({ "basic": {
        "username": "vault:main/database/creds/app#username", "password": "vault:main/database/creds/app#password",
    } });
    config
}

/// The user and the password of a `Basic` field.
fn basic(field: &str) -> (String, String) {
    let pair = STANDARD.decode(field.strip_prefix("Basic ").expect("a Basic field")).unwrap();
    let pair = String::from_utf8(pair).unwrap();
    let (user, password) = pair.split_once(':').unwrap();
    (user.to_owned(), password.to_owned())
}
