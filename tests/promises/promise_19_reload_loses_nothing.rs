//! A hundred reloads under load: no request fails, and a stream on an unchanged route survives them all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::{Ask, Connection, Protocol, eventually};

use crate::scene::{API, Scene};

const RELOADS: usize = 100;

#[test]
fn a_hundred_reloads_under_load_lose_nothing() {
    let scene = Scene::new();
    let gateway = scene.site.start(&generation(&scene, 0));
    let address = gateway.address("edge");
    let mut streaming = Connection::tls(address, &scene.client(), API, Protocol::H2).unwrap();
    let mut events = streaming.open(Ask::get(API, "/events")).unwrap();
    eventually("the stream is open", || (scene.upstream.listeners() == 1).then_some(()));

    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for protocol in [Protocol::H1, Protocol::H2] {
            let (scene, done, served) = (&scene, &done, &served);
            // One connection that lives through all reloads, and one per request.
            threads.spawn(move || {
                let trust = scene.client();
                let mut lasting = Connection::tls(address, &trust, API, protocol).unwrap();
                while !done.load(Ordering::SeqCst) {
                    let mut fresh = Connection::tls(address, &trust, API, protocol).unwrap();
                    for connection in [&mut lasting, &mut fresh] {
                        let reply = connection.send(Ask::get(API, "/steady").body("x")).unwrap();
                        assert_eq!(reply.status, 200, "{}", reply.text());
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        // The flag falls also when an assertion here fails: the load must not go on for ever.
        let _stop = Stop(&done);
        for number in 1..=RELOADS {
            gateway.reload(&generation(&scene, number));
            eventually("the new generation serves", || {
                let mut connection = Connection::tls(address, &scene.client(), API, Protocol::H1).ok()?;
                (connection.send(Ask::get(API, "/generation")).ok()?.text() == number.to_string())
                    .then_some(())
            });
            scene.upstream.emit(&format!("data: {number}\n\n"));
            let piece = events.next_piece().unwrap().expect("the stream goes on");
            assert_eq!(String::from_utf8_lossy(&piece), format!("data: {number}\n\n"));
        }
    });
    let served = served.load(Ordering::SeqCst);
    println!("{served} requests during {RELOADS} reloads");
    assert!(served > RELOADS, "there was load: {served}");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Routes, limits and headers change with every generation; the route under load and the listener do not.
fn generation(scene: &Scene, number: usize) -> Value {
    let mut config = scene.tls("off");
    config["limits"] = json!({ "roomy": { "key": "address", "rate": format!("{}/s", 100_000 + number), "burst": 100_000, "at": "edge" } });
    let mut changing = json!({ "name": "changing", "on": ["edge"], "path": "/changing", "authenticate": "none", "upstream": "app",
        "limits": ["roomy"], "headers": { "set": { "x-generation": number.to_string() } } });
    changing["labels"] = json!({ "generation": number.to_string() });
    let tells = json!({ "name": "tells", "on": ["edge"], "path": "/generation", "authenticate": "none",
        "respond": { "status": 200, "body": number.to_string() } });
    config["routes"].as_array_mut().unwrap().extend([changing, tells]);
    config
}
