//! The real server: short tokens, and three nodes that step down, are killed, sealed, throttled.

use std::time::{Duration, Instant};

use secrets::Cause;
use serde_json::json;
use testkit::VaultCluster;

use super::{Credentials, Tested, set_up, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cluster_goes_through_costs_no_second_login_and_is_over_five_seconds_after_it() {
    let mut cluster = VaultCluster::start(3);
    cluster.root().enable("kv-v2", "secret");
    set_up(cluster.root());
    let role = json!({ "token_ttl": "1h" });
    let (role_id, secret_id) = cluster.root().set_up_app_role("gateway", &["app"], &role);
    let credentials = Credentials::new();
    let tested = Tested::start(settings(&cluster.urls(), credentials.app_role(&role_id, &secret_id)));
    tested.read("secret/app").await.unwrap();

    cluster.step_down();
    recovers(&tested, &cluster, "a step-down").await;

    let killed = cluster.active();
    cluster.kill(killed);
    recovers(&tested, &cluster, "a kill").await;
    cluster.restart(killed);
    cluster.unseal(killed);

    for _ in 0..3 {
        cluster.seal(cluster.active());
        // The last one leaves no active node to wait for.
        if (0..3)
            .filter(|at| cluster.node(*at).call("GET", "sys/seal-status", None).1["sealed"] == false)
            .count()
            < 2
        {
            break;
        }
    }
    let cause = fails(&tested).await;
    assert!(matches!(cause, Cause::Sealed | Cause::Standby | Cause::Away(_)), "{cause:?}");
    for at in 0..3 {
        cluster.unseal(at);
    }
    recovers(&tested, &cluster, "a seal").await;

    cluster.root().set_quota("few", "secret", false);
    let cause = fails(&tested).await;
    assert!(matches!(cause, Cause::Throttled { .. }), "{cause:?}");
    cluster.root().lift_quota("few");
    recovers(&tested, &cluster, "a quota").await;

    assert_eq!(tested.status().logins, 1);
    let logins = cluster.audit().into_iter().filter(|entry| entry["request"]["path"] == "auth/approle/login");
    assert!(logins.count() <= 2, "request and answer of one login");
    tested.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_minute_of_short_tokens_loses_no_request() {
    let server = testkit::Vault::dev();
    set_up(&server);
    let role = json!({ "token_ttl": "3s", "token_max_ttl": "8s" });
    let (role_id, secret_id) = server.set_up_app_role("gateway", &["app"], &role);
    let credentials = Credentials::new();
    let mut settings = settings(&[server.url()], credentials.app_role(&role_id, &secret_id));
    settings.overlap = Duration::from_secs(1);
    let tested = Tested::start(settings);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        let read = tested.read("secret/app").await;
        assert!(read.is_ok(), "{:?} after {:?}, {:?}", read.err(), start.elapsed(), tested.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = tested.status();
    tested.end().await;
    assert!((4..=12).contains(&status.logins) && status.renewals >= status.logins, "{status:?}");
    let revoked = server.audited("auth/token/revoke-self") as u64;
    // One that ended within its overlap by itself needs none.
    assert!(revoked <= status.logins && revoked + 2 >= status.logins, "{revoked} of {status:?}");
    assert_eq!(server.audited("auth/approle/login"), usize::try_from(status.logins).unwrap());
}

async fn recovers(tested: &Tested, cluster: &VaultCluster, from: &str) {
    let active = cluster.active();
    let start = Instant::now();
    while let Err(cause) = tested.read("secret/app").await {
        assert!(!cause.is_configuration(), "{from}: {cause}");
        assert!(start.elapsed() < Duration::from_secs(5), "{from}: node {active} is active, but {cause}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn fails(tested: &Tested) -> Cause {
    let start = Instant::now();
    loop {
        match tested.read("secret/app").await {
            Err(cause) => return cause,
            Ok(_) => assert!(start.elapsed() < Duration::from_secs(20), "it does not fail"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
