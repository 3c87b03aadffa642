//! The cluster away: nobody but the prober asks, and all goes on within 5 s of its return.

use std::time::Duration;

use secrets::Cause;
use serde_json::json;
use testkit::{Fault, VaultFake};
use tokio::time::{Instant, sleep};

use super::{HOUR, MINUTE, Tested, fake, gateway, settings};

/// A gateway with a token that lives for long.
fn at(fake: &VaultFake) -> (Tested, super::Credentials) {
    gateway(fake, &fake.url(), &json!({ "token_ttl": "12h" }))
}

/// How long it takes until the value can be read again.
async fn recovery(tested: &Tested) -> Duration {
    let start = Instant::now();
    while tested.read("secret/app").await.is_err() {
        assert!(start.elapsed() < MINUTE, "it does not come back");
        sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_sealed_cluster_is_asked_by_one_prober_only_and_serves_without_a_new_login_after() {
    let fake = fake();
    let (tested, _credentials) = at(&fake);
    tested.read("secret/app").await.unwrap();
    fake.seal(true);
    assert_eq!(tested.read("secret/app").await.unwrap_err(), Cause::Sealed);
    let asked = fake.asked().len();
    let end = Instant::now() + HOUR;
    while Instant::now() < end {
        assert_eq!(tested.read("secret/app").await.unwrap_err(), Cause::Away(Box::new(Cause::Sealed)));
        sleep(Duration::from_secs(1)).await;
    }
    let during = &fake.asked()[asked..];
    assert!(during.iter().all(|one| one.path == "sys/health"), "{during:?}");
    // 1 to 2 s apart in the first minute, then 1.5 to 2.5 s.
    assert!((1400..=2450).contains(&during.len()), "{} probes in an hour", during.len());
    assert!(!tested.status().is_reachable);
    assert_eq!(tested.status().failure.unwrap().0, Cause::Sealed);
    fake.seal(false);
    let took = recovery(&tested).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!((fake.logins(), tested.status().is_reachable), (1, true));
}

#[tokio::test(start_paused = true)]
async fn a_standby_without_an_active_node_is_no_active_node() {
    let fake = fake();
    let (tested, _credentials) = at(&fake);
    tested.read("secret/app").await.unwrap();
    fake.standby(true);
    assert_eq!(tested.read("secret/app").await.unwrap_err(), Cause::Standby);
    sleep(MINUTE).await;
    assert_eq!(tested.read("secret/app").await.unwrap_err(), Cause::Away(Box::new(Cause::Standby)));
    fake.standby(false);
    assert!(recovery(&tested).await < Duration::from_secs(5));
    assert_eq!(fake.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_without_the_cluster_heals_by_itself_with_one_login() {
    let fake = fake();
    fake.seal(true);
    let (tested, _credentials) = at(&fake);
    let first = tested.read("secret/app").await.unwrap_err();
    assert!(!first.is_configuration(), "{first}");
    sleep(10 * MINUTE).await;
    assert!(fake.requests("auth/approle/login") <= 1, "sealed, nobody logs in");
    fake.seal(false);
    let took = recovery(&tested).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(fake.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_three_times_in_a_row_is_left_alone_between_probes() {
    let fake = fake();
    let (tested, _credentials) = at(&fake);
    tested.read("secret/app").await.unwrap();
    // Health is well: a storage backend that fails looks like this.
    fake.fail("secret/", Fault::Status(500));
    let before = fake.requests("secret/");
    for _ in 0..2000 {
        tested.read("secret/app").await.unwrap_err();
        sleep(Duration::from_millis(10)).await;
    }
    let asked = fake.requests("secret/") - before;
    assert!(asked < 2000 / 2, "{asked} requests in 20 s");
    fake.heal();
    assert!(recovery(&tested).await < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_health_fails_as_well_is_away_after_one_failure() {
    let fake = fake();
    let (tested, _credentials) = at(&fake);
    tested.read("secret/app").await.unwrap();
    fake.fail("", Fault::Status(500));
    assert_eq!(tested.read("secret/app").await.unwrap_err(), Cause::Server { status: 500 });
    sleep(Duration::from_millis(500)).await;
    let asked = fake.requests("secret/");
    assert_eq!(
        tested.read("secret/app").await.unwrap_err(),
        Cause::Away(Box::new(Cause::Server { status: 500 }))
    );
    assert_eq!(fake.requests("secret/"), asked);
    fake.heal();
    assert!(recovery(&tested).await < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_answers_everything_with_200_is_no_cluster() {
    let fake = fake();
    let (tested, _credentials) = at(&fake);
    tested.read("secret/app").await.unwrap();
    fake.fail("", Fault::Body(200, "<html>welcome</html>".to_owned()));
    tested.read("secret/app").await.unwrap_err();
    sleep(Duration::from_millis(500)).await;
    assert!(matches!(tested.read("secret/app").await.unwrap_err(), Cause::Away(_)));
    fake.heal();
    assert!(recovery(&tested).await < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_costs_the_timeout_once_and_not_for_everybody() {
    let fake = fake();
    let (tested, _credentials) = at(&fake);
    tested.read("secret/app").await.unwrap();
    fake.fail("", Fault::Hang);
    let start = Instant::now();
    assert_eq!(tested.read("secret/app").await.unwrap_err(), Cause::Timeout);
    assert!(start.elapsed() >= Duration::from_secs(5), "the request timeout");
    sleep(Duration::from_secs(4)).await;
    let start = Instant::now();
    assert!(matches!(tested.read("secret/app").await.unwrap_err(), Cause::Away(_)));
    assert_eq!(start.elapsed(), Duration::ZERO);
    fake.heal();
    assert!(recovery(&tested).await < Duration::from_secs(5));
    assert_eq!(fake.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_pause_everybody_for_as_long_as_was_asked() {
    let fake = fake();
    let (tested, _credentials) = at(&fake);
    tested.read("secret/app").await.unwrap();
    fake.fail_times("secret/", 1, Fault::Throttle(Some(30)));
    let asked = Cause::Throttled { retry_after: Some(Duration::from_secs(30)) };
    assert_eq!(tested.read("secret/app").await.unwrap_err(), asked);
    let mut returned = tested.vault.returned();
    returned.mark_unchanged();
    let before = fake.asked().len();
    for _ in 0..29 {
        sleep(Duration::from_secs(1)).await;
        assert!(matches!(tested.read("secret/app").await.unwrap_err(), Cause::Throttled { .. }));
    }
    assert_eq!(fake.asked().len(), before, "nobody asked meanwhile");
    returned.changed().await.unwrap();
    tested.read("secret/app").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_without_a_time_are_asked_again_ever_more_slowly_and_never_storm() {
    let fake = fake();
    let (tested, _credentials) = at(&fake);
    tested.read("secret/app").await.unwrap();
    fake.fail("secret/", Fault::Throttle(None));
    let before = fake.requests("secret/");
    let end = Instant::now() + MINUTE;
    while Instant::now() < end {
        tested.read("secret/app").await.unwrap_err();
        sleep(Duration::from_millis(10)).await;
    }
    let asked = fake.requests("secret/") - before;
    assert!((10..=60).contains(&asked), "{asked} requests in a minute");
    fake.heal();
    assert!(recovery(&tested).await < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_drill_cuts_every_request_and_ends_by_itself() {
    let fake = fake();
    let (tested, _credentials) = at(&fake);
    tested.read("secret/app").await.unwrap();
    let before = fake.asked().len();
    tested.vault.cut(5 * MINUTE);
    let end = Instant::now() + 5 * MINUTE;
    while Instant::now() < end {
        assert_eq!(tested.read("secret/app").await.unwrap_err(), Cause::Drill);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(fake.asked().len(), before, "not even the prober asks");
    assert_eq!(tested.count("kv", "drill") + tested.count("token", "drill"), 300);
    tested.read("secret/app").await.unwrap();
    tested.vault.cut(HOUR);
    assert!(tested.status().cut_until.is_some() && !tested.status().is_reachable);
    tested.vault.cut(Duration::ZERO);
    tested.read("secret/app").await.unwrap();
    assert!(tested.status().cut_until.is_none() && tested.status().is_reachable);
    assert_eq!(fake.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_dies_during_a_drill_is_replaced_by_one_login_after_it() {
    let fake = fake();
    let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({ "token_ttl": "10m" }));
    tested.read("secret/app").await.unwrap();
    tested.vault.cut(HOUR);
    sleep(30 * MINUTE).await;
    assert!(!tested.status().is_logged_in);
    sleep(30 * MINUTE).await;
    assert!(recovery(&tested).await < Duration::from_secs(5));
    assert_eq!(fake.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_node_that_works_is_asked_and_stays_the_one() {
    let (first, second) = (fake(), fake());
    // One cluster: what one node knows, the other does.
    let token = "hvs.shared";
    for node in [&first, &second] {
        node.fail(
            "auth/token/lookup-self",
            Fault::Body(200, json!({ "data": { "ttl": 36000 } }).to_string()),
        );
        node.fail(
            "sys/internal",
            Fault::Body(
                200,
                json!({ "data": { "type": "kv", "path": "secret/", "options": { "version": "2" } } })
                    .to_string(),
            ),
        );
        let value = json!({ "data": { "data": { "password": "canary" }, "metadata": { "version": 1 } } });
        node.fail("secret/", Fault::Body(200, value.to_string()));
    }
    let credentials = super::Credentials::new();
    let login = secrets::vault::Login::Token { token: credentials.file("token", token) };
    let tested = Tested::start(settings(&[first.url(), second.url()], login));
    tested.read("secret/app").await.unwrap();
    assert_eq!(second.asked().len(), 0);
    first.heal();
    first.seal(true);
    tested.read("secret/app").await.unwrap();
    let asked = first.asked().len();
    for _ in 0..10 {
        tested.read("secret/app").await.unwrap();
    }
    assert_eq!(first.asked().len(), asked, "the sealed node is left alone");
    assert_eq!(tested.status().address, format!("{}/", second.url()));
    assert!(tested.status().is_reachable);
}

#[tokio::test]
async fn a_life_that_no_clock_can_hold_is_cut_and_the_login_lives_on() {
    let fake = fake();
    let most = u64::MAX;
    let looked = json!({ "data": { "ttl": most, "creation_ttl": most, "explicit_max_ttl": most, "period": most,
        "renewable": true, "expire_time": "2126-01-01T00:00:00Z" } });
    let auth = json!({ "auth": { "client_token": "hvs.canary", "lease_duration": most, "renewable": true } });
    let lent = json!({ "lease_id": "database/creds/x/1", "lease_duration": most, "renewable": true,
        "data": { "username": "u", "password": "p" } });
    fake.fail("auth/token/lookup-self", Fault::Body(200, looked.to_string()));
    fake.fail("auth/approle/login", Fault::Body(200, auth.to_string()));
    fake.fail("auth/token/renew-self", Fault::Body(200, auth.to_string()));
    fake.fail("database/creds/x", Fault::Body(200, lent.to_string()));
    let (gateway, _credentials) = gateway(&fake, &fake.url(), &json!({}));
    let reading = gateway.read("database/creds/x").await.unwrap();
    let duration = reading.lease.unwrap().duration;
    assert!(Instant::now().checked_add(duration * 2).is_some(), "{duration:?}");
    assert!(gateway.status().is_logged_in);
    gateway.end().await;
}
