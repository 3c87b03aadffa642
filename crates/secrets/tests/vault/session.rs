//! Logging in, renewing, replacing, revoking.

use std::time::Duration;

use secrets::{Cause, ExposeSecret as _};
use serde_json::json;
use testkit::VaultFake;
use tokio::time::{Instant, sleep};

use super::{Credentials, Tested, settings};

const READS_APP: &str = r#"
    path "secret/data/app" { capabilities = ["read"] }
    path "sys/internal/ui/mounts/*" { capabilities = ["read"] }
"#;

#[tokio::test]
async fn the_real_server_serves_a_login_that_is_revoked_and_taken_back() {
    let server = testkit::Vault::dev();
    server.policy("app", READS_APP);
    server.put("secret/app", &json!({ "password": "canary" }));
    let (role_id, secret_id) = server.set_up_app_role("gateway", &["app"], &json!({ "token_ttl": "60s" }));
    let credentials = Credentials::new();
    let tested = Tested::start(settings(&[server.url()], credentials.app_role(&role_id, &secret_id)));
    let reading = tested.read("secret/app").await.unwrap();
    assert_eq!(reading.fields["password"].expose_secret(), "canary");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(matches!(tested.read("secret/other").await, Err(Cause::Denied(_))));
    eprintln!("{:?}", tested.status());
    tested.end().await;
    eprintln!("{:?}", server.audit().iter().map(|e| e["request"]["path"].clone()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn three_days_of_renewals_and_maximum_lives_lose_no_request_and_storm_nobody() {
    fastrand::seed(72);
    let fake = VaultFake::here();
    fake.put("secret/app", &json!({ "password": "canary" }));
    fake.policy("app", READS_APP);
    let lives = json!({ "token_ttl": "20m", "token_max_ttl": "2h" });
    let (role_id, secret_id) = fake.set_up_app_role("gateway", &["app"], &lives);
    let credentials = Credentials::new();
    let tested = Tested::start(settings(&[fake.url()], credentials.app_role(&role_id, &secret_id)));
    let start = Instant::now();
    let began = std::time::Instant::now();
    let mut reads = 0;
    while start.elapsed() < Duration::from_secs(72 * 3600) {
        let read = tested.read("secret/app").await;
        assert!(read.is_ok(), "{:?} after {:?}", read.err(), start.elapsed());
        reads += 1;
        sleep(Duration::from_secs(60)).await;
    }
    eprintln!("{reads} {:?} {:?}", tested.status(), began.elapsed());
    eprintln!("logins {} tokens {} revoke {} renew {}", fake.logins(), fake.tokens(), fake.requests("auth/token/revoke-self"), fake.requests("auth/token/renew-self"));
    tested.end().await;
    assert_eq!(fake.tokens(), 0);
}
