//! Three real nodes: stepping down, killed, sealed, with a quota. One login outlives it all.

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
