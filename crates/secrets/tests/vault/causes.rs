//! What a node answers, and what it is called.

use std::time::Duration;

use secrets::Cause;
use serde_json::json;
use testkit::{Fault, VaultFake};
use tokio::time::sleep;

use super::{Credentials, Tested, fake, gateway, settings};

/// The cause of a read while the server fails so.
async fn cause(fault: Fault) -> Cause {
    let fake = fake();
    let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({ "token_ttl": "12h" }));
    tested.read("secret/app").await.unwrap();
    fake.fail("secret/", fault);
    tested.read("secret/app").await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn every_status_has_its_cause() {
    for (status, expected) in [
        (412, Cause::Inconsistent),
        (472, Cause::Standby),
        (500, Cause::Server { status: 500 }),
        (501, Cause::Uninitialised),
        (502, Cause::Server { status: 502 }),
        (503, Cause::Server { status: 503 }),
        (530, Cause::Standby),
    ] {
        assert_eq!(cause(Fault::Status(status)).await, expected, "{status}");
    }
    let refused = cause(Fault::Status(405)).await;
    assert!(matches!(&refused, Cause::Refused(_)) && refused.is_configuration(), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn the_error_of_an_election_is_no_active_node_and_not_any_500() {
    let said = json!({ "errors": ["local node not active but active cluster node not found"] });
    assert_eq!(cause(Fault::Body(500, said.to_string())).await, Cause::Standby);
    assert_eq!(
        cause(Fault::Body(503, json!({ "errors": ["Vault is sealed"] }).to_string())).await,
        Cause::Sealed
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_lies_is_never_a_value_and_never_a_missing_one() {
    for fault in [
        Fault::Truncated,
        Fault::LyingLength(100),
        Fault::Huge(40 << 20),
        Fault::Drop,
        Fault::Body(200, "<html>welcome</html>".to_owned()),
        // A load balancer's own words are no `no such value`.
        Fault::Body(404, "<html>not found</html>".to_owned()),
        Fault::Body(403, "<html>blocked</html>".to_owned()),
        Fault::Body(200, "{}".to_owned()),
    ] {
        let cause = cause(fault.clone()).await;
        assert!(matches!(cause, Cause::Answer(_)), "{fault:?}: {cause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_broke_is_made_again_once_where_that_does_no_harm() {
    let fake = fake();
    let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({ "token_ttl": "12h" }));
    tested.read("secret/app").await.unwrap();
    fake.fail_times("secret/", 1, Fault::Drop);
    tested.read("secret/app").await.unwrap();
    fake.fail_times("secret/", 1, Fault::Status(412));
    tested.read("secret/app").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_token_is_never_sent_to_where_an_answer_points() {
    let (fake, stranger) = (fake(), VaultFake::here());
    let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({ "token_ttl": "12h" }));
    tested.read("secret/app").await.unwrap();
    fake.fail("secret/", Fault::Redirect(stranger.url()));
    assert_eq!(tested.read("secret/app").await.unwrap_err(), Cause::Standby);
    assert_eq!((stranger.asked().len(), stranger.connections()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_standby_may_point_to_a_configured_node_once() {
    let (standby, active) = (fake(), fake());
    let credentials = Credentials::new();
    let token = active.make_token(&json!({ "policies": ["root"] }));
    let login = secrets::vault::Login::Token { token: credentials.file("token", &token) };
    standby.fail("auth/", Fault::Redirect(active.url()));
    standby.fail("secret/", Fault::Redirect(active.url()));
    standby.fail("sys/", Fault::Redirect(active.url()));
    let tested = Tested::start(settings(&[standby.url(), active.url()], login));
    tested.read("secret/app").await.unwrap();
    let asked = standby.asked().len();
    tested.read("secret/app").await.unwrap();
    assert_eq!(standby.asked().len(), asked, "the one that answered is asked first from now on");
    active.fail("secret/", Fault::Redirect(standby.url()));
    standby.heal();
    standby.fail("secret/", Fault::Redirect(active.url()));
    assert_eq!(tested.read("secret/app").await.unwrap_err(), Cause::Standby, "no ping-pong");
}

#[tokio::test(start_paused = true)]
async fn the_namespace_stands_in_the_field_of_everything_but_health() {
    let fake = fake();
    let (role_id, secret_id) = fake.set_up_app_role("gateway", &["app"], &json!({}));
    let credentials = Credentials::new();
    let mut settings = settings(&[fake.url()], credentials.app_role(&role_id, &secret_id));
    settings.namespace = Some("/team/a/".to_owned());
    fake.namespace(Some("team/a"));
    let tested = Tested::start(settings);
    tested.read("secret/app").await.unwrap();
    fake.seal(true);
    tested.read("secret/app").await.unwrap_err();
    sleep(Duration::from_secs(3)).await;
    let (health, others): (Vec<_>, Vec<_>) =
        fake.asked().into_iter().partition(|one| one.path.starts_with("sys/health"));
    assert!(!health.is_empty() && health.iter().all(|one| one.namespace.is_none()));
    assert!(
        others.iter().all(|one| one.namespace.as_deref() == Some("team/a") && !one.path.contains("team"))
    );
}
