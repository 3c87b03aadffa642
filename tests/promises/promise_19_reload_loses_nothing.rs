//! A thousand reloads by command, under load: no request fails, streams on unchanged routes survive them all, and the process holds
//! in the end what it held in the beginning.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use std::time::Instant;

use serde_json::{Value, json};
use testkit::{Ask, Connection, Http2, Message, Protocol, WebSocket, WebSockets, Wire, eventually};

use crate::scene::{API, Scene};

const RELOADS: usize = 1000;
/// What is held is compared from here on: by now every pool, cache and arena has been used.
const WARM: usize = 200;

#[test]
fn a_thousand_reloads_under_load_lose_nothing() {
    let (scene, sockets) = (Scene::new(), WebSockets::start());
    let generation = |number| generation(&scene, &sockets, number);
    let gateway = scene.site.start(&generation(0));
    let address = gateway.address("edge");
    let ask = || Ask::get(API, "/socket");
    let wire = Wire::tls(address, &scene.client(), API, Protocol::H1).unwrap();
    let multiplexed = Http2::tls(address, &scene.client(), API);
    let mut web_sockets = [WebSocket::open(wire, ask()).unwrap(), multiplexed.open(ask()).unwrap()];
    let mut streaming = [Protocol::H1, Protocol::H2]
        .map(|protocol| Connection::tls(address, &scene.client(), API, protocol).unwrap());
    let mut events: Vec<_> =
        streaming.iter_mut().map(|connection| connection.open(Ask::get(API, "/events")).unwrap()).collect();
    eventually("the streams are open", || (scene.upstream.listeners() == 2).then_some(()));

    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut before, began) = (None, Instant::now());
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
        let socket = scene.site.path("control.sock");
        for number in 1..=RELOADS {
            let _ = scene.site.configure(&generation(number));
            let reloaded = scene.site.portcullis(&["reload", "--socket", socket.to_str().unwrap()]);
            assert_eq!(reloaded.code, 0, "{reloaded:?}");
            if number % 50 == 0 {
                let mut connection = Connection::tls(address, &scene.client(), API, Protocol::H1).unwrap();
                let told = connection.send(Ask::get(API, "/generation")).unwrap().text();
                assert_eq!(told, number.to_string(), "when the command ends the new generation serves");
                scene.upstream.emit(&format!("data: {number}\n\n"));
                for socket in &mut web_sockets {
                    assert_eq!(socket.echo(number.to_string()), Message::text(number.to_string()));
                }
                for events in &mut events {
                    let piece = events.next_piece().unwrap().expect("the stream goes on");
                    assert_eq!(String::from_utf8_lossy(&piece), format!("data: {number}\n\n"));
                }
            }
            if number == WARM {
                before = Some(gateway.resources());
            }
        }
    });
    let before = before.unwrap();
    // The load has ended: what is open now was open before. Policies are compiled on a thread that ends.
    let after = eventually("threads and descriptors are those of the start", || {
        let after = gateway.resources();
        (after.threads <= before.threads && after.descriptors <= before.descriptors).then_some(after)
    });
    let served = served.load(Ordering::SeqCst);
    println!("{served} requests during {RELOADS} reloads in {:?}; {before:?} -> {after:?}", began.elapsed());
    assert!(served > RELOADS / 2, "there was load: {served}");
    assert!(gateway.generation() >= f64::from(u32::try_from(RELOADS).unwrap()), "each was a generation");
    let most = before.resident_kib + before.resident_kib / 20;
    assert!(after.resident_kib <= most, "memory grew by more than 5 %: {before:?} -> {after:?}");
    assert_eq!(after.series, before.series);
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Routes, limits and headers change with every generation; the route under load and the listener do not.
fn generation(scene: &Scene, sockets: &WebSockets, number: usize) -> Value {
    let mut config = scene.tls("off");
    config["limits"] = json!({ "roomy": { "key": "address", "rate": format!("{}/s", 100_000 + number), "burst": 100_000, "at": "edge",
        "max_keys": 1000 } });
    config["upstreams"]["sockets"] = json!({ "endpoints": [sockets.url()] });
    let socket = json!({ "name": "socket", "on": ["edge"], "path": "/socket", "authenticate": "none", "upstream": "sockets",
        "upgrade": ["websocket"] });
    let mut changing = json!({ "name": "changing", "on": ["edge"], "path": "/changing", "authenticate": "none", "upstream": "app",
        "limits": ["roomy"], "headers": { "set": { "x-generation": number.to_string() } } });
    changing["labels"] = json!({ "generation": number.to_string() });
    let tells = json!({ "name": "tells", "on": ["edge"], "path": "/generation", "authenticate": "none",
        "respond": { "status": 200, "body": number.to_string() } });
    config["routes"].as_array_mut().unwrap().extend([changing, tells, socket]);
    config
}
