//! The fake's own: its clock, its faults, its counts. What it answers is held against the real one by the contract suite.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Fault, VaultFake};
use crate::wire::exchange;

/// Everything that the product's door says to a GET, as text.
async fn ask(fake: &VaultFake, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(fake.address()).await.unwrap();
    let request =
        format!("GET /v1/{path} HTTP/1.1\r\nhost: x\r\nx-vault-token: {token}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(start_paused = true)]
async fn on_a_paused_runtime_tokens_end_by_its_clock() {
    let fake = VaultFake::here();
    let token = fake.make_token(&json!({ "ttl": "1h" }));
    assert!(ask(&fake, "auth/token/lookup-self", &token).await.contains("\"ttl\":3600"));
    tokio::time::sleep(Duration::from_secs(3599)).await;
    assert!(ask(&fake, "auth/token/lookup-self", &token).await.starts_with("HTTP/1.1 200"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ask(&fake, "auth/token/lookup-self", &token).await.starts_with("HTTP/1.1 403"));
    assert_eq!(fake.asked().len(), 3);
    assert_eq!(fake.asked()[2].status, 403);
}

#[tokio::test]
async fn faults_end_after_their_times_or_when_healed() {
    let fake = VaultFake::start();
    fake.fail_times("auth/", 1, Fault::Throttle(Some(7)));
    let throttled = ask(&fake, "auth/token/lookup-self", fake.token()).await;
    assert!(throttled.starts_with("HTTP/1.1 429") && throttled.contains("retry-after: 7"), "{throttled}");
    fake.fail("", Fault::Status(472));
    assert!(ask(&fake, "sys/health", "").await.starts_with("HTTP/1.1 472"));
    fake.heal();
    assert!(ask(&fake, "sys/health", "").await.starts_with("HTTP/1.1 200"));
    fake.seal(true);
    assert!(ask(&fake, "auth/token/lookup-self", fake.token()).await.starts_with("HTTP/1.1 503"));
    assert_eq!(fake.read("auth/token/lookup-self")["data"]["ttl"], 0, "the operator's door is never sealed");
    assert_eq!(fake.requests("auth/"), 2);
}

#[tokio::test]
async fn a_lying_length_and_a_truncated_answer_are_what_they_say() {
    let fake = VaultFake::start();
    let whole = ask(&fake, "sys/health", "").await.split_once("\r\n\r\n").unwrap().1.len();
    fake.fail("sys/health", Fault::LyingLength(10));
    let lying = ask(&fake, "sys/health", "").await;
    assert!(lying.contains(&format!("content-length: {}", whole + 10)), "{lying}");
    assert_eq!(lying.split_once("\r\n\r\n").unwrap().1.len(), whole);
    fake.heal();
    fake.fail("sys/health", Fault::Truncated);
    let truncated = ask(&fake, "sys/health", "").await;
    assert!(truncated.contains(&format!("content-length: {}", whole / 2)), "{truncated}");
}

#[tokio::test]
async fn what_hangs_goes_on_when_healed() {
    let fake = VaultFake::start();
    fake.fail("sys/", Fault::Hang);
    let asked = ask(&fake, "sys/health", "");
    let (answer, ()) = tokio::join!(asked, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        fake.heal();
    });
    assert!(answer.starts_with("HTTP/1.1 200"));
}

#[test]
fn a_namespace_must_be_named() {
    let fake = VaultFake::start();
    fake.namespace(Some("team/a"));
    let ask = |field: &str| {
        let head = "GET /v1/auth/token/lookup-self HTTP/1.1\r\nhost: x\r\nconnection: close";
        exchange(fake.address(), &format!("{head}\r\nx-vault-token: {}\r\n{field}\r\n", fake.token()))
    };
    assert!(ask("").starts_with("HTTP/1.1 403"));
    assert!(ask("x-vault-namespace: team/a/\r\n").starts_with("HTTP/1.1 200"));
}
