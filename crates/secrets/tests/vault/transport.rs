//! Names, connections, TLS, and what the environment may not change.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::certificate::NameForm;
use secrets::Cause;
use secrets::vault::{Login, Vault};
use serde_json::json;
use testkit::{Authority, Issued, Leaf, ServerTls, VaultFake};
use tls::{Credential, Slot, SlotWriter, StaleCrl, Trust, TrustOptions};

use super::{Credentials, Log, Tested, set_up, settings};

fn trust(authority: &Authority) -> Slot<Trust> {
    let options = TrustOptions { names: NameForm::Dns, when_stale: StaleCrl::Reject };
    let trust =
        Trust::from_pem("vault", authority.pem().as_bytes(), &[], options, SystemTime::now()).unwrap();
    let mut writer = SlotWriter::empty();
    writer.publish(Arc::new(trust));
    writer.reader()
}

fn credential(issued: &Issued) -> Arc<Credential> {
    let (chain, key) = (issued.chain.as_bytes(), issued.key.as_bytes());
    Arc::new(Credential::from_pem(chain, key, SystemTime::now()).unwrap())
}

async fn first_cause(tested: &Tested) -> Cause {
    tested.read("secret/app").await.unwrap_err()
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_is_refused_before_anything_is_sent() {
    let (ours, theirs) = (Authority::root("ours"), Authority::root("theirs"));
    let credentials = Credentials::new();
    for (server, authority) in [
        (theirs.issue(Leaf::server(&["127.0.0.1"])), &ours),
        (ours.issue(Leaf::server(&["vault.example"])), &ours),
    ] {
        let fake = VaultFake::start_tls(ServerTls::new(&server, None));
        let login = Login::Token { token: credentials.file("token", fake.token()) };
        let mut settings = settings(&[fake.url()], login);
        settings.trust = Some(trust(authority));
        let tested = Tested::start(settings);
        let cause = first_cause(&tested).await;
        assert!(matches!(cause, Cause::Tls(_)), "{cause:?}");
        assert_eq!(fake.asked().len(), 0);
    }
}

#[tokio::test]
async fn a_trusted_server_is_asked_and_a_new_certificate_of_ours_logs_in_anew_on_a_new_connection() {
    let authority = Authority::root("vault");
    let server = authority.issue(Leaf::server(&["127.0.0.1"]));
    let fake = VaultFake::start_tls(ServerTls::new(&server, Some(authority.pem())));
    set_up(&fake);
    fake.enable_auth("cert");
    fake.write("auth/cert/certs/gateway", &json!({ "token_policies": ["app"] }));
    let (one, two) = (authority.issue(Leaf::client("one")), authority.issue(Leaf::client("two")));
    fake.accept_certificate("cert", "gateway", &one.fingerprint());
    fake.accept_certificate("cert", "gateway", &two.fingerprint());
    let mut writer = SlotWriter::empty();
    writer.publish(credential(&one));
    let name = Some("gateway".to_owned());
    let mut settings = settings(&[fake.url()], Login::Certificate { mount: "cert".to_owned(), name });
    settings.trust = Some(trust(&authority));
    settings.certificate = Some(writer.reader());
    let tested = Tested::start(settings);
    tested.read("secret/app").await.unwrap();
    assert_eq!((fake.logins(), fake.connections()), (1, 1));
    let mut login = tested.vault.login();
    login.borrow_and_update();
    writer.publish(credential(&two));
    tokio::time::timeout(Duration::from_secs(20), login.changed()).await.unwrap().unwrap();
    tested.read("secret/app").await.unwrap();
    assert_eq!(fake.logins(), 2);
    assert!(fake.connections() >= 2, "the pool of the former certificate is left");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_and_a_port_that_nobody_has_say_so() {
    let credentials = Credentials::new();
    let token = || Login::Token { token: credentials.file("token", "hvs.x") };
    let mut unresolved = settings(&["https://vault.invalid:8200".to_owned()], token());
    unresolved.trust = Some(trust(&Authority::root("vault")));
    let cause = first_cause(&Tested::start(unresolved)).await;
    assert_eq!(cause, Cause::Dns("vault.invalid".to_owned()));
    let port = testkit::free_port();
    let cause = first_cause(&Tested::start(settings(&[format!("http://127.0.0.1:{port}")], token()))).await;
    assert!(matches!(&cause, Cause::Connect(said) if said.contains("refused")), "{cause:?}");
}

#[test]
fn an_address_that_would_carry_the_token_in_the_open_is_refused() {
    let credentials = Credentials::new();
    for address in [
        "http://vault.example:8200",
        "http://10.0.0.1:8200",
        "ftp://127.0.0.1",
        "https://user:password@vault:8200",
        "https://vault:8200/v1/team",
        "https://vault:8200/?x=y",
    ] {
        let login = Login::Token { token: credentials.file("token", "hvs.x") };
        let mut settings = settings(&[address.to_owned()], login);
        settings.trust = Some(trust(&Authority::root("vault")));
        let refused = Vault::new(settings).unwrap_err();
        assert!(refused.contains("expected") && !refused.contains("password"), "{refused}");
    }
}

#[test]
fn the_environment_changes_nothing() {
    // This test in a process of its own, with every variable that a client of Vault or of HTTP could read.
    let nowhere = "http://127.0.0.1:9";
    let variables =
        ["VAULT_ADDR", "BAO_ADDR", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"];
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "transport::reads_a_value", "--ignored", "--nocapture"])
        .envs(variables.map(|name| (name, nowhere)))
        .envs([("VAULT_TOKEN", "hvs.other"), ("VAULT_NAMESPACE", "other"), ("VAULT_SKIP_VERIFY", "true")])
        .envs([
            ("VAULT_CACERT", "/nowhere.pem"),
            ("VAULT_CLIENT_TIMEOUT", "1"),
            ("SSLKEYLOGFILE", "/nowhere/keys"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "run by `the_environment_changes_nothing`"]
async fn reads_a_value() {
    let fake = VaultFake::start();
    set_up(&fake);
    let credentials = Credentials::new();
    let token = credentials.file("token", &fake.make_token(&json!({ "policies": ["app"] })));
    let tested = Tested::start(settings(&[fake.url()], Login::Token { token }));
    tested.read("secret/app").await.unwrap();
    assert!(fake.asked().iter().all(|asked| asked.namespace.is_none()));
}

#[tokio::test(start_paused = true)]
async fn no_level_of_the_log_shows_a_token_a_credential_or_a_value() {
    let (log, _guard) = Log::at(tracing::Level::TRACE);
    let fake = super::fake();
    let (role_id, secret_id) =
        fake.set_up_app_role("gateway", &["app"], &json!({ "token_ttl": "10m", "token_max_ttl": "30m" }));
    let credentials = Credentials::new();
    let tested = Tested::start(settings(&[fake.url()], credentials.app_role(&role_id, &secret_id)));
    tested.read("secret/app").await.unwrap();
    tested.read("secret/none").await.unwrap_err();
    tokio::time::sleep(super::HOUR).await;
    fake.fail("secret/", testkit::Fault::Truncated);
    tested.read("secret/app").await.unwrap_err();
    tested.end().await;
    let text = log.text();
    assert!(text.contains("logged in") && text.contains("TRACE"), "the log is what it should be");
    for canary in ["canary", secret_id.as_str(), "hvs.fake"] {
        let found = text.lines().find(|line| line.contains(canary));
        assert_eq!(found, None, "{canary}");
    }
}
