//! Material that a store gives stays fresh while the store is there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use testkit::VaultFake;
use tokio::time::sleep;

use super::{DATABASE, Site, set_up, texts};

#[tokio::test(start_paused = true)]
async fn a_certificate_of_twenty_seconds_goes_through_ten_renewals_without_a_gap() {
    fastrand::seed(20);
    let fake = VaultFake::here();
    set_up(&fake);
    let site = Site::start(&fake, &fake.url(), &json!({ "token_ttl": "1h" }));
    let mut kept = site.keep(site.certificate(20));
    kept.published(1).await;
    let mut serials = BTreeSet::new();
    while kept.progress().renewals <= 10 {
        let credential = kept.shown.last().unwrap();
        assert!(credential.not_before() <= site.now() && site.now() < credential.not_after());
        serials.insert(credential.serial().to_owned());
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(serials.len(), 10);
    assert_eq!((fake.requests("pki/sign"), fake.requests("pki/issue/")), (11, 0));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_seen_with_the_next_look_at_the_list() {
    let fake = VaultFake::here();
    set_up(&fake);
    let site = Site::start(&fake, &fake.url(), &json!({ "token_ttl": "1h" }));
    let (mut certificate, mut trust) = (site.keep(site.certificate(3600)), site.keep(site.trust(60)));
    certificate.published(1).await;
    trust.published(1).await;
    let credential = certificate.shown.last().unwrap();
    trust.shown.last().unwrap().vouches_for(&credential, site.now()).unwrap();
    let serial = credential.serial().as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let serial = serial.collect::<Vec<_>>().join(":").to_lowercase();
    sleep(Duration::from_secs(5)).await;
    fake.write("pki/revoke", &json!({ "serial_number": serial }));
    sleep(Duration::from_secs(65)).await;
    let refused = trust.shown.last().unwrap().vouches_for(&credential, site.now()).unwrap_err();
    assert_eq!(refused.code(), "revoked");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_somebody_changes_is_in_use_within_its_refresh() {
    let fake = VaultFake::here();
    set_up(&fake);
    let site = Site::start(&fake, &fake.url(), &json!({ "token_ttl": "1h" }));
    let mut kept = site.keep(site.values(&["vault:main/secret/app#password"]));
    kept.published(1).await;
    assert_eq!(texts(&kept.shown.last().unwrap()), ["first"]);
    fake.put("secret/app", &json!({ "password": "second" }));
    sleep(Duration::from_secs(63)).await;
    assert_eq!(texts(&kept.shown.last().unwrap()), ["second"]);
    assert_eq!(kept.progress().renewals, 2);
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_credential_ends_with_its_job() {
    let fake = VaultFake::here();
    set_up(&fake);
    let site = Site::start(&fake, &fake.url(), &json!({ "token_ttl": "1h" }));
    let mut kept = site.keep(site.values(&DATABASE));
    kept.published(1).await;
    assert_eq!(fake.leases(), 1);
    site.jobs.0.cancel();
    site.jobs.1.close();
    site.jobs.1.wait().await;
    assert_eq!(fake.leases(), 0);
    site.stop().await;
    assert_eq!(fake.tokens(), 0);
}

/// The real server signs, lists and holds; nothing here waits for time.
#[tokio::test]
async fn the_real_server_gives_certificates_trust_and_values() {
    let server = testkit::Vault::dev();
    server.set_up_pki("pki", "edge", "24h");
    server.put("secret/app", &json!({ "password": "first" }));
    let site = Site::start(&server, &server.url(), &json!({ "token_ttl": "60s" }));
    let (mut certificate, mut trust) = (site.keep(site.certificate(3600)), site.keep(site.trust(60)));
    let mut values = site.keep(site.values(&["vault:main/secret/app#password"]));
    certificate.published(1).await;
    trust.published(1).await;
    values.published(1).await;
    let credential = certificate.shown.last().unwrap();
    assert_eq!(credential.dns_names().collect::<Vec<_>>(), ["edge.example.com"]);
    assert_eq!(credential.uris().collect::<Vec<_>>(), ["spiffe://example.org/edge"]);
    let trust = trust.shown.last().unwrap();
    assert_eq!(trust.authorities(), (1, 1));
    trust.vouches_for(&credential, site.now()).unwrap();
    assert_eq!(texts(&values.shown.last().unwrap()), ["first"]);
    site.stop().await;
    assert_eq!((server.audited("pki/sign"), server.audited("pki/issue/")), (1, 0));
}
