//! A listener serves a certificate from Vault PKI with a life of twenty seconds through ten renewals under load: no request
//! fails, every new handshake sees a valid certificate, and no private key was ever asked of Vault.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Ask, Vault};

use crate::scene::API;
use crate::vault_scene::VaultScene;

#[test]
fn ten_renewals_under_load_lose_no_request_and_no_key_leaves_the_gateway() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    let mut config = scene.config(&json!([vault.url()]));
    config["certificates"]["edge"]["vault_pki"]["ttl"] = json!("20s");
    let gateway = scene.scene.site.start(&config);
    let (ended, failed, requests) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let served = Mutex::new(BTreeSet::new());
    std::thread::scope(|threads| {
        // New handshakes, each checked against the root and the clock by the client.
        threads.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                match scene.handshake(&gateway) {
                    None => drop(failed.fetch_add(1, Ordering::Relaxed)),
                    Some(mut connection) => {
                        served.lock().unwrap().extend(connection.server_certificate().map(str::to_owned));
                        count(
                            connection.send(Ask::get(API, "/")).is_ok_and(|reply| reply.status == 200),
                            &requests,
                            &failed,
                        );
                    }
                }
            }
        });
        // Connections that stay.
        threads.spawn(|| {
            let mut connection = scene.handshake(&gateway).expect("a first handshake");
            while !ended.load(Ordering::Relaxed) {
                count(
                    connection.send(Ask::get(API, "/")).is_ok_and(|reply| reply.status == 200),
                    &requests,
                    &failed,
                );
            }
        });
        let end = Instant::now() + LONGEST;
        while served.lock().unwrap().len() <= RENEWALS && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(200));
        }
        ended.store(true, Ordering::Relaxed);
    });
    let (failed, requests) = (failed.into_inner(), requests.into_inner());
    let served = served.into_inner().unwrap().len();
    assert!(served > RENEWALS, "{served} certificates were served");
    assert_eq!(failed, 0, "of {requests} requests: {}", gateway.output());
    assert!(requests > 1_000, "{requests} requests");
    assert!(vault.audited("pki/sign/edge") >= served);
    assert_eq!(vault.audited("pki/issue/"), 0, "no key was made outside of the gateway");
    assert_eq!(vault.audited("auth/approle/login"), 1);
}

fn count(succeeded: bool, requests: &AtomicUsize, failed: &AtomicUsize) {
    requests.fetch_add(1, Ordering::Relaxed);
    if !succeeded {
        failed.fetch_add(1, Ordering::Relaxed);
    }
}

const RENEWALS: usize = 10;
/// Ten renewals take some 135 seconds: each comes at two thirds of twenty.
const LONGEST: Duration = Duration::from_secs(200);
