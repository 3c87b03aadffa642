//! Who asks for much and takes nothing of it holds neither the service nor the route's places, also over HTTP/2, where
//! the socket below a stalled stream stays writable; in the end the connection goes too. And a service that goes silent in
//! the middle of an answer holds no client.

use serde_json::json;
use testkit::{Ask, Connection, Protocol, eventually};

use crate::scene::{API, Scene};

#[test]
fn a_stalled_stream_gives_its_place_back_and_loses_its_connection() {
    let scene = Scene::new();
    let mut config = scene.tls("off");
    config["listeners"]["edge"]["limits"] = json!({ "idle": "1s", "body_rate": "10MiB/s" });
    config["routes"][0]["concurrency"] = json!(1);
    let gateway = scene.site.start(&config);
    let connect = || {
        let client = scene.client();
        Connection::tls(gateway.address("edge"), &client, API, Protocol::H2).unwrap()
    };
    // More than the client's windows take.
    let (mut stalled, mut other) = (connect(), connect());
    let answer = stalled.open(Ask::get(API, "/download-16000000")).unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(other.send(Ask::get(API, "/")).unwrap().code(), "CONCURRENCY_REACHED");
    eventually("the place is free", || {
        // A connection of its own: the other one may have been idle for too long by now.
        (connect().send(Ask::get(API, "/")).unwrap().status == 200).then_some(())
    });
    eventually("the stalled connection ends", || {
        let log = gateway.access_log();
        log.iter().any(|record| record["code"] == "CLIENT_STALLED").then_some(())
    });
}

#[test]
fn a_slow_reader_who_reads_gets_everything() {
    let scene = Scene::new();
    let mut config = scene.tls("off");
    config["listeners"]["edge"]["limits"] = json!({ "idle": "1s" });
    let gateway = scene.site.start(&config);
    let mut connection =
        Connection::tls(gateway.address("edge"), &scene.client(), API, Protocol::H2).unwrap();
    let mut answer = connection.open(Ask::get(API, "/download-16000000")).unwrap();
    let (mut length, mut pause_at) = (0, 0);
    while let Some(piece) = answer.next_piece().unwrap() {
        length += piece.len();
        if length > pause_at {
            std::thread::sleep(std::time::Duration::from_millis(400));
            pause_at += 2_000_000;
        }
    }
    assert_eq!(length, 16_000_000);
}

#[test]
fn a_service_that_goes_silent_in_an_answer_ends_it() {
    let scene = Scene::new();
    let mut config = scene.plain();
    config["upstreams"]["app"]["timeouts"] = json!({ "idle": "1s" });
    let gateway = scene.site.start(&config);
    let mut connection = gateway.connect();
    let mut answer = connection.open(Ask::get(API, "/events")).unwrap();
    assert_eq!(answer.status(), 200);
    while let Ok(piece) = answer.next_piece() {
        assert!(piece.is_some(), "an answer that was cut off never looks whole");
    }
    eventually("it is in the log", || {
        let log = gateway.access_log();
        log.iter().any(|record| record["code"] == "UPSTREAM_STALLED").then_some(())
    });
}
