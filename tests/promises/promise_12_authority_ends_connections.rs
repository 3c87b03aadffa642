//! What a caller was let in by ends, and so does what it let in: idle connections at once, streams with the token, the certificate,
//! the policy or the route that they rest on, and the upstream's side with them. What still rests on something lives on.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use serde_json::{Value, json};
use testkit::{Ask, Connection, Protocol, Streaming, Trust, claims, eventually, jwks, patience};

use crate::scene::{API, AUDIENCE, ISSUER, ORDERS, Scene};

#[test]
fn idle_connections_and_streams_end_with_the_client_certificate() {
    let scene = Scene::new();
    let mut config = scene.tls("required");
    config["routes"][0]["authenticate"] = json!({ "any": ["mesh"] });
    let gateway = scene.site.start(&config);
    let member = scene.mesh.issue(testkit::Leaf::spiffe(ORDERS).valid(-60..5));
    let client = Trust::new(scene.authority.pem(), Some(&member));
    let connect = |protocol| Connection::tls(gateway.address("edge"), &client, API, protocol);
    let mut all: Vec<Connection> = [Protocol::H1, Protocol::H2, Protocol::H1, Protocol::H2]
        .map(|protocol| connect(protocol).expect("the certificate counts"))
        .into();
    for connection in &mut all {
        assert_eq!(connection.send(Ask::get(API, "/")).unwrap().status, 200);
    }
    let mut streaming = all.split_off(2);
    let mut streams: Vec<Streaming<'_>> =
        streaming.iter_mut().map(|connection| connection.open(Ask::get(API, "/events")).unwrap()).collect();
    eventually("both streams are open", || (scene.upstream.listeners() == 2).then_some(()));
    for stream in &mut streams {
        lives(&scene, stream);
    }
    eventually("the idle connections end", || all.iter_mut().all(Connection::closed).then_some(()));
    streams.iter_mut().for_each(|stream| ends(&scene, stream));
    nobody_listens(&scene);
    let refused = connect(Protocol::H1).and_then(|mut connection| connection.send(Ask::get(API, "/")));
    assert!(refused.is_err(), "nobody comes in with it any more");
}

#[test]
fn a_stream_ends_with_its_token_and_the_connection_of_others_does_not() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["identity"]["jwt"]["staff"]["skew"] = json!("1s");
    config["listeners"]["edge"]["tls"] = scene.tls("off")["listeners"]["edge"]["tls"].clone();
    config["certificates"] = scene.tls("off")["certificates"].clone();
    let gateway = scene.site.start(&config);
    let mut short = claims(ISSUER, AUDIENCE, "alice");
    short["exp"] = json!(short["iat"].as_u64().unwrap() + 3);
    let short = scene.key.token(&short);
    let mut connection =
        Connection::tls(gateway.address("edge"), &scene.client(), API, Protocol::H2).unwrap();
    let mut stream = connection.open(Ask::get(API, "/events").bearer(&short)).unwrap();
    lives(&scene, &mut stream);
    ends(&scene, &mut stream);
    nobody_listens(&scene);
    let reply = connection.send(Ask::get(API, "/").bearer(&scene.token("bob"))).unwrap();
    assert_eq!(reply.status, 200, "only the stream has ended");
    assert!(gateway.metric("portcullis_leases_ended_total{why=\"time\"}") >= 1.0);
    eventually("the access log says why", || {
        gateway.access_log().iter().any(|record| record["code"] == "LEASE_ENDED").then_some(())
    });
}

#[test]
fn streams_end_when_policies_or_routes_let_them_in_no_longer_and_others_live_on() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["routes"].as_array_mut().unwrap().push(json!({
        "name": "other", "on": ["edge"], "path": "/other/**", "authenticate": { "any": ["staff"] }, "upstream": "app",
    }));
    let gateway = scene.site.start(&config);
    let (alice, bob) = (scene.token("alice"), scene.token("bob"));
    let mut connections = [(); 3].map(|()| gateway.connect());
    let [for_alice, for_bob, for_other] = &mut connections;
    let mut of_alice = for_alice.open(Ask::get(API, "/events").bearer(&alice)).unwrap();
    let mut of_bob = for_bob.open(Ask::get(API, "/events").bearer(&bob)).unwrap();
    let mut of_other = for_other.open(Ask::get(API, "/other/events").bearer(&bob)).unwrap();
    for stream in [&mut of_alice, &mut of_bob, &mut of_other] {
        lives(&scene, stream);
    }
    scene.site.policy("everybody", &format!("permit(principal == Jwt::\"{ISSUER}#bob\", action, resource);"));
    ends(&scene, &mut of_alice);
    assert_eq!(gateway.ask(Ask::get(API, "/").bearer(&alice)).code(), "POLICY_NO_PERMIT");
    config["routes"].as_array_mut().unwrap().pop();
    gateway.apply(&config);
    // The path is that of the other route now, which permits it as well: it is another one all the same.
    ends(&scene, &mut of_other);
    lives(&scene, &mut of_bob);
    let ended = |why: &str| gateway.metric(&format!("portcullis_leases_ended_total{{why=\"{why}\"}}"));
    assert_eq!((ended("policy"), ended("route")), (1.0, 1.0));
}

#[test]
fn a_stream_ends_with_the_key_of_its_token_and_with_its_issuer() {
    let scene = Scene::new();
    let config = scene.tokens();
    let gateway = scene.site.start(&config);
    let other = testkit::TokenKey::generate(testkit::Algorithm::Es256, "key-2");
    scene.site.write("jwks.json", jwks(&[&scene.key, &other]).to_string());
    let second = other.token(&claims(ISSUER, AUDIENCE, "bob"));
    eventually("the new key counts", || {
        (gateway.ask(Ask::get(API, "/").bearer(&second)).status == 200).then_some(())
    });
    let mut connections = [(); 2].map(|()| gateway.connect());
    let [first_connection, second_connection] = &mut connections;
    let mut of_first = first_connection.open(Ask::get(API, "/events").bearer(&scene.token("alice"))).unwrap();
    let mut of_second = second_connection.open(Ask::get(API, "/events").bearer(&second)).unwrap();
    lives(&scene, &mut of_first);
    lives(&scene, &mut of_second);
    scene.site.write("jwks.json", jwks(&[&other]).to_string());
    ends(&scene, &mut of_first);
    lives(&scene, &mut of_second);
    let mut next: Value = config;
    next["identity"]["jwt"]["staff"]["audience"] = json!(["another"]);
    gateway.apply(&next);
    ends(&scene, &mut of_second);
    assert_eq!(gateway.metric("portcullis_leases_ended_total{why=\"proof\"}"), 2.0);
}

#[test]
fn an_idle_upstream_connection_ends_with_the_credential_that_it_carried() {
    let scene = Scene::new();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    let (ended, told) = channel();
    std::thread::spawn(move || {
        for stream in upstream.incoming() {
            let ended = ended.clone();
            std::thread::spawn(move || ended.send(answer_until_closed(stream.unwrap())));
        }
    });
    scene.site.write("bearer", "first");
    let mut config = scene.plain();
    config["upstreams"]["app"] =
        json!({ "endpoints": [format!("http://{address}")], "credentials": { "bearer": "file:bearer" } });
    let gateway = scene.site.start(&config);
    assert_eq!(gateway.ask(Ask::get(API, "/")).status, 200);
    assert!(told.try_recv().is_err(), "it is kept for the next request");
    scene.site.write("bearer", "second");
    // Nobody asks: the gateway itself closes what carried the former one.
    assert_eq!(told.recv_timeout(patience()), Ok(1), "one answer, then the end");
}

/// Answers requests without a body; says how many when the other side closes.
fn answer_until_closed(mut stream: TcpStream) -> usize {
    let (mut head, mut byte, mut answered) = (Vec::new(), [0], 0);
    while let Ok(1) = stream.read(&mut byte) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            answered += 1;
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                break;
            }
        }
    }
    answered
}

/// What is sent from now on comes through.
fn lives(scene: &Scene, stream: &mut Streaming<'_>) {
    static MARKS: AtomicUsize = AtomicUsize::new(0);
    assert_eq!(stream.status(), 200);
    eventually("the upstream streams", || (scene.upstream.listeners() > 0).then_some(()));
    let mark = format!("[{}]", MARKS.fetch_add(1, Ordering::Relaxed));
    scene.upstream.emit(&mark);
    let mut so_far = String::new();
    while !so_far.contains(&mark) {
        let piece = stream.next_piece().expect("the stream goes on").expect("it has not ended");
        so_far.push_str(&String::from_utf8_lossy(&piece));
    }
}

/// No piece comes through any more, and the answer has no proper end.
fn ends(scene: &Scene, stream: &mut Streaming<'_>) {
    eventually("the stream ends", || {
        scene.upstream.emit("more");
        match stream.next_piece() {
            Ok(Some(_)) => None,
            Ok(None) => panic!("it seems to be whole"),
            Err(_) => Some(()),
        }
    });
}

/// The upstream's side has ended, too.
fn nobody_listens(scene: &Scene) {
    eventually("the upstream is left", || {
        scene.upstream.emit("anybody?");
        (scene.upstream.listeners() == 0).then_some(())
    });
}
