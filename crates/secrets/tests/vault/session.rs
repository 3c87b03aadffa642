//! A login's life: renewed, replaced, found dead, ended.

use std::time::Duration;

use secrets::vault::Login;
use secrets::{Cause, ExposeSecret as _};
use serde_json::json;
use testkit::Fault;
use tokio::time::{Instant, sleep, timeout};

use super::{Credentials, HOUR, MINUTE, Tested, fake, gateway, set_up, settings};

#[tokio::test]
async fn the_real_server_serves_a_login_that_is_taken_back_at_the_end() {
    let server = testkit::Vault::dev();
    set_up(&server);
    let (tested, _credentials) = gateway(&server, &server.url(), &json!({ "token_ttl": "60s" }));
    let reading = tested.read("secret/app").await.unwrap();
    assert_eq!(reading.fields["password"].expose_secret(), "canary");
    assert_eq!(tested.status().logins, 1);
    tested.end().await;
    assert_eq!(server.audited("auth/approle/login"), 1);
    assert_eq!(server.audited("auth/token/revoke-self"), 1);
}

#[tokio::test(start_paused = true)]
async fn three_days_of_renewals_and_maximum_lives_lose_no_request_and_storm_nobody() {
    fastrand::seed(72);
    let fake = fake();
    let (tested, _credentials) =
        gateway(&fake, &fake.url(), &json!({ "token_ttl": "20m", "token_max_ttl": "2h" }));
    let start = Instant::now();
    while start.elapsed() < 72 * HOUR {
        let read = tested.read("secret/app").await;
        assert!(read.is_ok(), "{:?} after {:?}", read.err(), start.elapsed());
        assert!(fake.tokens() <= 2, "{} tokens after {:?}", fake.tokens(), start.elapsed());
        sleep(MINUTE).await;
    }
    // A login lives for 2 h at first, and then for at most two thirds of that: 54 to 60 of them; a grant of 20 min is renewed
    // after 12 to 13:20 min.
    let (logins, renewals) = (fake.logins(), fake.requests("auth/token/renew-self"));
    assert!((54..=62).contains(&logins), "{logins} logins");
    assert!((logins * 5..=logins * 7).contains(&renewals), "{renewals} renewals in {logins} logins");
    assert_eq!(fake.requests("auth/token/revoke-self"), logins - 1, "each former token, once");
    assert_eq!(tested.status().logins, logins as u64);
    assert_eq!(tested.status().renewals, renewals as u64);
    let refused = fake.asked().into_iter().filter(|asked| asked.status >= 400).count();
    assert_eq!(refused, 0, "nothing was asked with a dead token, or past its maximum");
    tested.end().await;
    assert_eq!(fake.tokens(), 0);
}

#[tokio::test(start_paused = true)]
async fn three_days_with_an_outage_every_five_hours_cost_one_login_where_the_token_died() {
    fastrand::seed(73);
    let fake = fake();
    let (tested, _credentials) =
        gateway(&fake, &fake.url(), &json!({ "token_ttl": "1h", "token_period": "1h" }));
    let start = Instant::now();
    let (mut outages, mut expected) = (0, 1);
    while start.elapsed() < 72 * HOUR {
        for _ in 0..5 * 60 {
            assert!(tested.read("secret/app").await.is_ok(), "after {:?}", start.elapsed());
            sleep(MINUTE).await;
        }
        // A token of an hour survives ten minutes for certain, and two hours certainly not.
        let lasts = if outages % 2 == 0 { 10 * MINUTE } else { 2 * HOUR };
        (outages, expected) = (outages + 1, expected + outages % 2);
        fake.seal(true);
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            assert!(!tested.read("secret/app").await.unwrap_err().is_configuration());
            sleep(MINUTE).await;
        }
        fake.seal(false);
        let back = Instant::now();
        while tested.read("secret/app").await.is_err() {
            assert!(back.elapsed() < Duration::from_secs(5), "back within 5 s");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(fake.logins(), expected, "after outage {outages}");
    }
    assert!(outages >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_new_login_serves_first_is_counted_and_the_former_token_is_revoked_an_overlap_later() {
    let fake = fake();
    let role = json!({ "token_ttl": "10m", "token_explicit_max_ttl": "10m" });
    let (tested, _credentials) = gateway(&fake, &fake.url(), &role);
    tested.read("secret/app").await.unwrap();
    let mut login = tested.vault.login();
    assert_eq!(*login.borrow_and_update(), 1);
    login.changed().await.unwrap();
    assert_eq!(*login.borrow_and_update(), 2);
    assert!(fake.now() < 7 * MINUTE, "at two thirds: {:?}", fake.now());
    assert_eq!((fake.tokens(), fake.requests("auth/token/renew-self")), (2, 0), "both live");
    sleep(Duration::from_secs(29)).await;
    assert_eq!(fake.tokens(), 2);
    sleep(Duration::from_secs(2)).await;
    assert_eq!((fake.tokens(), fake.requests("auth/token/revoke-self")), (1, 1));
    tested.read("secret/app").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_root_token_and_a_periodic_one_need_no_second_login() {
    let fake = fake();
    let credentials = Credentials::new();
    let token = credentials.file("token", fake.token());
    let root = Tested::start(settings(&[fake.url()], Login::Token { token }));
    root.read("secret/app").await.unwrap();
    assert_eq!((root.status().is_logged_in, root.status().token_ends), (true, None));
    let (periodic, _credentials) = gateway(&fake, &fake.url(), &json!({ "token_period": "1h" }));
    sleep(100 * HOUR).await;
    assert_eq!((root.status().renewals, root.status().logins), (0, 1));
    assert_eq!(periodic.status().logins, 1);
    assert!(periodic.status().renewals >= 150, "{:?}", periodic.status());
    root.end().await;
    assert_eq!(fake.requests("auth/token/revoke-self"), 0, "nobody else's token is revoked");
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_means_a_new_login_and_no_second_try() {
    let fake = fake();
    let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({ "token_period": "1h" }));
    fake.fail("auth/token/renew-self", Fault::Status(403));
    sleep(3 * HOUR).await;
    let (logins, renewals) = (fake.logins(), fake.requests("auth/token/renew-self"));
    assert!((4..=6).contains(&logins), "{logins} logins in 3 h");
    assert_eq!(renewals, logins - 1, "one refused renewal in each life");
    tested.read("secret/app").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_revoked_behind_our_back_costs_one_look_and_one_login_for_all_callers() {
    let fake = fake();
    let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({ "token_ttl": "1h" }));
    tested.read("secret/app").await.unwrap();
    sleep(MINUTE).await;
    let looks = fake.requests("auth/token/lookup-self");
    let accessors = (0..40).map(|number| json!({ "accessor": format!("accessor-{number}") }));
    for accessor in accessors {
        let _ = fake.call("POST", "auth/token/revoke-accessor", Some(&accessor));
    }
    assert_eq!(fake.tokens(), 0);
    let start = Instant::now();
    let reads = (0..20).map(|_| {
        let store = tested.store();
        tokio::spawn(async move { store.read("secret/app").await })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap().unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(fake.logins(), 2);
    assert_eq!(
        fake.requests("auth/token/lookup-self") - looks,
        2,
        "one asks whether it lives, one is the new login's"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_policy_forbids_is_denied_and_looked_into_once_a_minute() {
    let fake = fake();
    let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({ "token_ttl": "1h" }));
    tested.read("secret/app").await.unwrap();
    sleep(MINUTE).await;
    let looks = fake.requests("auth/token/lookup-self");
    for _ in 0..50 {
        assert!(matches!(tested.read("secret/other").await, Err(Cause::Denied(_))));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(fake.requests("auth/token/lookup-self") - looks, 1);
    assert_eq!(fake.logins(), 1);
    tested.read("secret/app").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_403_right_after_a_login_may_be_a_node_that_lags_and_is_asked_again_once() {
    let fake = fake();
    fake.fail_times("sys/internal/ui/mounts", 1, Fault::Status(403));
    let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({ "token_ttl": "1h" }));
    tested.read("secret/app").await.unwrap();
    assert_eq!(fake.logins(), 1);
    assert_eq!(fake.requests("auth/token/lookup-self"), 1, "only the login's own");
}

#[tokio::test(start_paused = true)]
async fn a_token_file_that_somebody_replaces_is_read_again_before_the_token_ends() {
    let fake = fake();
    let credentials = Credentials::new();
    let made =
        |ttl: &str| fake.make_token(&json!({ "policies": ["app"], "ttl": ttl, "explicit_max_ttl": ttl }));
    let token = credentials.file("token", &made("10m"));
    let tested = Tested::start(settings(&[fake.url()], Login::Token { token }));
    tested.read("secret/app").await.unwrap();
    sleep(5 * MINUTE).await;
    credentials.file("token", &made("10m"));
    let mut login = tested.vault.login();
    assert_eq!(*login.borrow_and_update(), 1);
    timeout(5 * MINUTE, login.changed()).await.unwrap().unwrap();
    assert_eq!(tested.status().logins, 2);
    tested.read("secret/app").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn requests_before_the_first_login_wait_for_it() {
    let fake = fake();
    fake.fail_times("auth/approle/login", 1, Fault::Slow(Duration::from_secs(3)));
    let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({}));
    let start = Instant::now();
    tested.read("secret/app").await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(3));
}
