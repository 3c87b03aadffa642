//! A mirror gets copies of what a route forwards. Whatever it does with them, callers get the same answers in the same time.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Ask, Gateway, Upstream, eventually};

use crate::scene::{API, Scene};

fn config(scene: &Scene, shadow: &str, mirror: &Value) -> Value {
    let mut config = scene.tokens();
    config["upstreams"]["shadow"] = json!({ "endpoints": [shadow] });
    config["routes"][0]["mirror"] = mirror.clone();
    config["routes"][0]["mirror"]["upstream"] = json!("shadow");
    config
}

fn counted(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric(&format!(r#"portcullis_mirrored_requests_total{{route="all",result="{result}"}}"#))
}

fn fields<'a>(seen: &'a Value, name: &str) -> Vec<&'a str> {
    let fields = seen["headers"].as_array().unwrap().iter();
    fields.filter(|field| field[0] == name).map(|field| field[1].as_str().unwrap()).collect()
}

#[test]
fn a_mirror_gets_the_request_with_a_mark_and_without_the_callers_credential() {
    let (scene, shadow) = (Scene::new(), Upstream::named("shadow"));
    let gateway = scene.site.start(&config(&scene, &shadow.url(), &json!({ "body": "1KiB" })));
    let mut connection = gateway.connect();
    let token = scene.token("alice");
    let ask = Ask::new("POST", API, "/orders?a=b")
        .bearer(&token)
        .header("x-portcullis-mirrored", "forged")
        .body("tea");
    let reply = connection.send(ask).unwrap();
    assert_eq!((reply.status, &reply.json()["upstream"]), (200, &json!("upstream")));
    assert!(reply.upstream_saw("x-portcullis-mirrored").is_empty(), "nobody else sends the mark");
    let seen =
        eventually("the copy arrives", || shadow.requests().into_iter().find(|seen| seen["bytes"] == 3));
    assert_eq!(
        (&seen["method"], &seen["target"], &seen["body"]),
        (&json!("POST"), &json!("/orders?a=b"), &json!("tea"))
    );
    assert_eq!(fields(&seen, "x-portcullis-mirrored"), ["?1"]);
    assert!(fields(&seen, "authorization").is_empty());

    let large =
        connection.send(Ask::new("POST", API, "/large").bearer(&token).body(vec![b'x'; 4096])).unwrap();
    assert_eq!(large.json()["bytes"], json!(4096), "the request itself is whole");
    assert_eq!(connection.send(Ask::get(API, "/refused")).unwrap().status, 401);
    assert_eq!(connection.send(Ask::get(API, "/last").bearer(&token)).unwrap().status, 200);
    eventually("the last copy arrives", || {
        shadow.requests().iter().any(|seen| seen["target"] == "/last").then_some(())
    });
    assert_eq!(
        shadow.requests().len(),
        2,
        "neither what is too large nor what is refused: {:?}",
        shadow.requests()
    );
    eventually("they are counted", || (counted(&gateway, "answered") == 2.0).then_some(()));
    assert_eq!(counted(&gateway, "too_large"), 1.0);
}

#[test]
fn a_mirror_that_hangs_slows_nobody_and_takes_no_more_than_its_share() {
    let scene = Scene::new();
    // It accepts, in the kernel, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let shadow = format!("http://{}", silent.local_addr().unwrap());
    let gateway = scene.site.start(&config(&scene, &shadow, &json!({ "concurrency": 2, "timeout": "60s" })));
    let mut connection = gateway.connect();
    let token = scene.token("alice");
    let began = Instant::now();
    for number in 0..50 {
        let body = format!("order {number}");
        let reply =
            connection.send(Ask::new("POST", API, "/orders").bearer(&token).body(body.clone())).unwrap();
        assert_eq!((reply.status, &reply.json()["body"]), (200, &json!(body)));
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "far less than one copy may take: {:?}",
        began.elapsed()
    );
    assert_eq!(counted(&gateway, "full"), 48.0, "two hang, and no third is begun");
}

#[test]
fn a_mirror_that_is_not_there_is_a_number_and_nothing_else() {
    let scene = Scene::new();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = scene.site.start(&config(&scene, &format!("http://{gone}"), &json!({})));
    let reply = gateway.ask(Ask::get(API, "/").bearer(&scene.token("alice")));
    assert_eq!((reply.status, &reply.json()["upstream"]), (200, &json!("upstream")));
    eventually("its failure is counted", || (counted(&gateway, "failed") == 1.0).then_some(()));
}
