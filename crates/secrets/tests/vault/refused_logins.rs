//! What no gateway can live on is refused, said in words, tried again, and never storms.

use std::time::Duration;

use secrets::Cause;
use secrets::vault::{Login, Wrapped};
use serde_json::{Value, json};
use testkit::Fault;
use tokio::time::sleep;

use super::{Credentials, HOUR, Log, MINUTE, Tested, fake, gateway, settings};

#[tokio::test(start_paused = true)]
async fn a_secret_id_that_is_wrong_is_refused_tried_for_ever_and_read_anew_each_time() {
    let fake = fake();
    let (role_id, secret_id) = fake.set_up_app_role("gateway", &["app"], &json!({}));
    let credentials = Credentials::new();
    let tested = Tested::start(settings(&[fake.url()], credentials.app_role(&role_id, "wrong")));
    let refused = tested.read("secret/app").await.unwrap_err();
    assert!(
        matches!(&refused, Cause::LoginRefused(said) if said.contains("invalid role or secret ID")),
        "{refused}"
    );
    sleep(HOUR).await;
    let tries = fake.requests("auth/approle/login");
    assert!((60..=180).contains(&tries), "{tries} tries in an hour");
    credentials.file("secret", &secret_id);
    sleep(MINUTE + Duration::from_secs(1)).await;
    tested.read("secret/app").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_for_a_number_of_uses_is_refused_and_revoked() {
    let fake = fake();
    let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({ "token_num_uses": 10 }));
    let refused = tested.read("secret/app").await.unwrap_err();
    assert!(refused.to_string().contains("10 uses"), "{refused}");
    assert_eq!(fake.tokens(), 0);
}

#[tokio::test(start_paused = true)]
async fn batch_tokens_second_factors_and_answers_without_a_token_are_refused_logins() {
    let auth = |auth: Value| Fault::Body(200, json!({ "auth": auth }).to_string());
    let batch =
        json!({ "client_token": "hvb.x", "lease_duration": 60, "renewable": false, "token_type": "batch" });
    let factor = json!({ "client_token": "", "lease_duration": 0, "renewable": false,
        "mfa_requirement": { "mfa_request_id": "1" } });
    let empty = json!({ "client_token": "", "lease_duration": 0, "renewable": false });
    for (answer, said) in [(batch, "batch token"), (factor, "second factor"), (empty, "gave no token")] {
        let fake = fake();
        fake.fail("auth/approle/login", auth(answer));
        let (tested, _credentials) = gateway(&fake, &fake.url(), &json!({}));
        let refused = tested.read("secret/app").await.unwrap_err();
        assert!(matches!(&refused, Cause::LoginRefused(_)), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_repeats_what_was_shown_is_not_quoted() {
    let fake = fake();
    let said = json!({ "errors": ["no such secret id: canary-secret-id", "try another"] });
    fake.fail("auth/approle/login", Fault::Body(400, said.to_string()));
    let credentials = Credentials::new();
    let login = credentials.app_role("role", "canary-secret-id");
    let tested = Tested::start(settings(&[fake.url()], login));
    let refused = tested.read("secret/app").await.unwrap_err().to_string();
    assert!(refused.contains("try another") && !refused.contains("canary"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_wrapped_secret_id_is_unwrapped_once_and_serves_every_login() {
    let fake = fake();
    let (role_id, _) = fake.set_up_app_role(
        "gateway",
        &["app"],
        &json!({ "token_ttl": "10m", "token_explicit_max_ttl": "10m" }),
    );
    let credentials = Credentials::new();
    let tested = Tested::start(settings(
        &[fake.url()],
        wrapped(&credentials, &role_id, &fake.wrapped_secret_id("gateway")),
    ));
    sleep(HOUR).await;
    tested.read("secret/app").await.unwrap();
    assert!(fake.logins() > 5);
    assert_eq!(fake.requests("sys/wrapping/unwrap"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wrapping_token_that_somebody_used_or_that_is_for_another_role_is_refused_and_told_once() {
    let (log, _guard) = Log::at(tracing::Level::WARN);
    let fake = fake();
    let (role_id, _) = fake.set_up_app_role("gateway", &["app"], &json!({}));
    let _ = fake.set_up_app_role("gateway2", &["app"], &json!({}));
    let credentials = Credentials::new();
    let other = fake.wrapped_secret_id("gateway2");
    let tested = Tested::start(settings(&[fake.url()], wrapped(&credentials, &role_id, &other)));
    let refused = tested.read("secret/app").await.unwrap_err().to_string();
    assert!(refused.contains("was made for `auth/approle/role/gateway2/secret-id`"), "{refused}");
    assert_eq!(fake.requests("sys/wrapping/unwrap"), 0, "what is not for us is not used");

    let used = fake.wrapped_secret_id("gateway");
    assert_eq!(fake.with_token(&used).call("POST", "sys/wrapping/unwrap", None).0, 200);
    credentials.file("wrapped", &used);
    sleep(HOUR).await;
    let refused = tested.read("secret/app").await.unwrap_err();
    assert!(matches!(&refused, Cause::LoginRefused(said) if said.contains("used or expired")), "{refused}");
    assert_eq!(fake.logins(), 0);
    assert_eq!(log.text().matches("wrapping_token_misused").count(), 2, "once for each of the two tokens");
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_not_there_names_itself() {
    let fake = fake();
    let token = secrets::Reference::File { path: "/nowhere/token".into() };
    let login = Login::Kubernetes { mount: "kubernetes".to_owned(), role: "gateway".to_owned(), token };
    let tested = Tested::start(settings(&[fake.url()], login));
    let absent = tested.read("secret/app").await.unwrap_err();
    assert!(matches!(&absent, Cause::Absent(what) if what.contains("/nowhere/token")), "{absent}");
}

#[tokio::test(start_paused = true)]
async fn a_service_account_and_a_jwt_are_shown_to_their_methods() {
    let fake = fake();
    let credentials = Credentials::new();
    for method in ["kubernetes", "jwt"] {
        fake.enable_auth(method);
        fake.write(&format!("auth/{method}/role/gateway"), &json!({ "token_policies": ["app"] }));
        fake.accept_jwt(method, "gateway", "a.b.c");
        let (mount, role) = (method.to_owned(), "gateway".to_owned());
        let token = credentials.file("jwt", "a.b.c\n");
        let login = match method {
            "kubernetes" => Login::Kubernetes { mount, role, token },
            _ => Login::Jwt { mount, role, token },
        };
        let tested = Tested::start(settings(&[fake.url()], login));
        tested.read("secret/app").await.unwrap();
        tested.end().await;
    }
    assert_eq!(fake.tokens(), 0);
}

fn wrapped(credentials: &Credentials, role_id: &str, token: &str) -> Login {
    Login::AppRole {
        mount: "approle".to_owned(),
        role_id: credentials.file("role", role_id),
        secret_id: Some(credentials.file("wrapped", token)),
        wrapped: Some(Wrapped { role: "gateway".to_owned() }),
    }
}
