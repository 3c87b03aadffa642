//! On a route with `idempotency` a request with an `Idempotency-Key` is done once, however often it is sent: the service counts.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::{Value, json};
use testkit::{Ask, Gateway, Reply, eventually};

use crate::scene::{API, Scene};

fn config(scene: &Scene) -> Value {
    let mut config = scene.tokens();
    config["routes"][0]["idempotency"] =
        json!({ "ttl": "1h", "required": true, "memory": "1MiB", "body": "8KiB" });
    config
}

fn ask(scene: &Scene, who: &str, path: &str, key: &str) -> Ask {
    Ask::new("POST", API, path).bearer(&scene.token(who)).header("idempotency-key", key).body("one tea")
}

fn refused(gateway: &Gateway, ask: Ask) -> (u16, String) {
    let reply = gateway.ask(ask);
    (reply.status, reply.code())
}

fn is_replayed(reply: &Reply) -> bool {
    reply.header("idempotency-replayed") == ["true"]
}

#[test]
fn the_same_request_again_gets_the_same_answer_and_reaches_nobody() {
    let scene = Scene::new();
    let gateway = scene.site.start(&config(&scene));
    let first = gateway.ask(ask(&scene, "alice", "/status-201", "k1"));
    assert_eq!((first.status, is_replayed(&first)), (201, false));
    for key in ["k1", "\"k1\""] {
        let again = gateway.ask(ask(&scene, "alice", "/status-201", key));
        assert_eq!((again.status, is_replayed(&again), &again.body), (201, true, &first.body));
        assert_eq!(again.header("content-type"), ["application/json"]);
    }
    assert_eq!(scene.upstream.requests().len(), 1);

    let other = ask(&scene, "alice", "/status-201", "k1").body("two teas");
    assert_eq!(refused(&gateway, other), (422, "IDEMPOTENCY_KEY_REUSED".to_owned()));
    assert_eq!(
        refused(&gateway, ask(&scene, "alice", "/other", "k1")),
        (422, "IDEMPOTENCY_KEY_REUSED".to_owned())
    );
    let bob = gateway.ask(ask(&scene, "bob", "/status-201", "k1"));
    assert_eq!((bob.status, is_replayed(&bob)), (201, false), "his key is another one");
    let forged = Ask::new("POST", API, "/status-201").header("idempotency-key", "k1").body("one tea");
    assert_eq!(refused(&gateway, forged), (401, "TOKEN_MISSING".to_owned()), "a key proves nothing");

    let bare = Ask::new("POST", API, "/").bearer(&scene.token("alice")).body("x");
    assert_eq!(refused(&gateway, bare.clone()), (400, "IDEMPOTENCY_KEY_MISSING".to_owned()));
    assert_eq!(
        refused(&gateway, bare.header("idempotency-key", "a b")),
        (400, "IDEMPOTENCY_KEY_INVALID".to_owned())
    );
    assert_eq!(
        gateway.ask(Ask::get(API, "/").bearer(&scene.token("alice"))).status,
        200,
        "what changes nothing needs none"
    );
    let large = ask(&scene, "alice", "/", "k2").body(vec![b'x'; 9000]);
    assert_eq!(refused(&gateway, large), (413, "BODY_TOO_LARGE".to_owned()));
    assert_eq!(gateway.metric(r#"portcullis_idempotency_keys_total{route="all",result="replayed"}"#), 2.0);
}

#[test]
fn while_it_is_being_done_it_is_not_done_again_even_when_its_client_is_gone() {
    let scene = Scene::new();
    let gateway = scene.site.start(&config(&scene));
    let token = scene.token("alice");
    let mut client = TcpStream::connect(gateway.address("edge")).unwrap();
    let head = format!(
        "POST /hold HTTP/1.1\r\nHost: {API}\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: k\r\n"
    );
    client.write_all(format!("{head}Content-Length: 7\r\n\r\none tea").as_bytes()).unwrap();
    eventually("the service has it", || (scene.upstream.requests().len() == 1).then_some(()));
    assert_eq!(
        refused(&gateway, ask(&scene, "alice", "/hold", "k")),
        (409, "IDEMPOTENCY_KEY_BUSY".to_owned())
    );
    drop(client);
    eventually("the gateway knows that the client is gone", || {
        gateway.access_log().iter().any(|line| line["code"] == json!("CLIENT_GONE")).then_some(())
    });
    assert_eq!(
        refused(&gateway, ask(&scene, "alice", "/hold", "k")),
        (409, "IDEMPOTENCY_KEY_BUSY".to_owned())
    );
    scene.upstream.release();
    let answer = eventually("the answer is kept for its client", || {
        let reply = gateway.ask(ask(&scene, "alice", "/hold", "k"));
        (reply.status != 409).then_some(reply)
    });
    assert_eq!((answer.status, is_replayed(&answer), &answer.json()["body"]), (200, true, &json!("one tea")));
    assert_eq!(scene.upstream.requests().len(), 1);
}

#[test]
fn what_went_wrong_may_be_tried_again_and_what_is_too_long_is_not_done_twice() {
    let scene = Scene::new();
    let gateway = scene.site.start(&config(&scene));
    for path in ["/status-503", "/status-429"] {
        for _ in 0..2 {
            assert!(!is_replayed(&gateway.ask(ask(&scene, "alice", path, path))));
        }
    }
    assert_eq!(refused(&gateway, ask(&scene, "alice", "/die", "died")).0, 502);
    assert_eq!(refused(&gateway, ask(&scene, "alice", "/die", "died")).0, 502);
    assert_eq!(scene.upstream.requests().len(), 6, "each was done");

    let long = gateway.ask(ask(&scene, "alice", "/download-100000", "long"));
    assert_eq!((long.status, long.body.len()), (200, 100_000));
    let again = ask(&scene, "alice", "/download-100000", "long");
    assert_eq!(refused(&gateway, again), (409, "IDEMPOTENCY_ANSWER_NOT_KEPT".to_owned()));
    assert_eq!(scene.upstream.requests().len(), 7);
}
