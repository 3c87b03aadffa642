//! What is held serves on while the store is away, and what became due meanwhile is obtained as soon as it is back.

use std::time::Duration;

use serde_json::json;
use testkit::{Fault, VaultFake};
use tokio::time::{Instant, sleep, timeout};

use super::{DATABASE, Site, set_up};

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_due_comes_within_five_seconds_of_the_stores_return() {
    for seed in 0..5 {
        fastrand::seed(seed);
        let fake = VaultFake::here();
        set_up(&fake);
        let site = Site::start(&fake, &fake.url(), &json!({ "token_period": "24h" }));
        let mut kept = site.keep(site.certificate(3 * 3600));
        kept.published(1).await;
        fake.seal(true);
        // Due after two hours at the latest 2:12; the backoff is at its longest by then.
        sleep(Duration::from_secs(9900)).await;
        assert!(kept.progress().failures > 3);
        assert!(kept.serves(site.now()));
        fake.seal(false);
        timeout(Duration::from_secs(5), kept.published(2)).await.expect("within 5 s");
        assert_eq!(kept.progress().failures, 0);
        assert_eq!(fake.logins(), 1, "the token still holds");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_at_the_start_is_waited_for() {
    let fake = VaultFake::here();
    set_up(&fake);
    fake.seal(true);
    let site = Site::start(&fake, &fake.url(), &json!({ "token_ttl": "1h" }));
    let mut kept = site.keep(site.certificate(3600));
    sleep(Duration::from_secs(3600)).await;
    assert!(kept.progress().held.is_none() && kept.progress().last_error.is_some());
    fake.seal(false);
    timeout(Duration::from_secs(5), kept.published(1)).await.expect("within 5 s");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_is_left_alone_and_what_serves_stays() {
    let fake = VaultFake::here();
    set_up(&fake);
    let site = Site::start(&fake, &fake.url(), &json!({ "token_period": "24h" }));
    let mut kept = site.keep(site.certificate(24 * 3600));
    kept.published(1).await;
    fake.fail("pki/sign", Fault::Status(403));
    sleep(Duration::from_secs(20 * 3600)).await;
    assert!(kept.serves(site.now()));
    let error = kept.progress().last_error.unwrap();
    assert!(error.is_configuration, "{error:?}");
    // Due between 14:24 and 17:36 h: then 5, 15, 35, 75 min later, and every hour (with jitter), not every second.
    let asked = fake.requests("pki/sign");
    assert!((3..=14).contains(&asked), "{asked} requests");
}

/// Three days of everything at once: logins that live for two hours, leases for three, certificates for one; the store sealed for up to
/// a quarter of an hour every few hours.
#[tokio::test(start_paused = true)]
async fn three_days_leave_nothing_without_valid_material_and_the_store_in_peace() {
    fastrand::seed(72);
    let fake = VaultFake::here();
    set_up(&fake);
    let site = Site::start(&fake, &fake.url(), &json!({ "token_ttl": "30m", "token_max_ttl": "2h" }));
    let mut certificate = site.keep(site.certificate(3600));
    let mut credential = site.keep(site.values(&DATABASE));
    let trust = site.keep(site.trust(300));
    certificate.published(1).await;
    credential.published(1).await;
    let (start, mut outages) = (Instant::now(), 0_u32);
    while start.elapsed() < Duration::from_secs(72 * 3600) {
        for _ in 0..5 * 60 {
            sleep(Duration::from_secs(60)).await;
            let at = start.elapsed();
            assert!(certificate.serves(site.now()), "certificate: {:?} after {at:?}", certificate.progress());
            assert!(credential.serves(site.now()), "credential: {:?} after {at:?}", credential.progress());
            assert!(trust.serves(site.now()), "trust: {:?} after {at:?}", trust.progress());
            assert!((1..=2).contains(&fake.leases()), "{} leases after {at:?}", fake.leases());
        }
        outages += 1;
        fake.seal(true);
        // A lease of twenty minutes has six left when it is due.
        sleep(Duration::from_secs(fastrand::u64(30..330))).await;
        fake.seal(false);
        sleep(Duration::from_secs(5)).await;
        assert!(fake.leases() >= 1, "after outage {outages}");
    }
    assert!(outages >= 14);
    let (signed, renewed) = (fake.requests("pki/sign"), fake.requests("sys/leases/renew"));
    let minted = fake.requests("db/creds");
    assert!((98..=130).contains(&signed), "{signed} certificates of an hour");
    assert!((250..=420).contains(&renewed), "{renewed} renewals of leases of twenty minutes");
    // A lease moves with every login (about 54) and ends by itself never before.
    assert!(minted <= fake.logins() + 5, "{minted} leases in {} logins", fake.logins());
    let refused: Vec<_> =
        fake.asked().into_iter().filter(|asked| (400..500).contains(&asked.status)).collect();
    assert!(
        refused.is_empty(),
        "nothing was asked with a dead token or for a dead lease: {:?}",
        refused.first()
    );
    site.stop().await;
    assert_eq!((fake.leases(), fake.tokens()), (0, 0));
}
