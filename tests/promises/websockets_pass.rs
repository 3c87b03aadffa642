//! WebSockets pass where a route allows them, over HTTP/1.1 and HTTP/2, both ways and unchanged; they live under the authority
//! that opened them, and what is no upgrade that both sides agreed to is never a tunnel.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use testkit::{
    Ask, Gateway, Http2, Message, Protocol, Reply, WebSocket, WebSockets, Wire, claims, eventually, unix_now,
};

use crate::scene::{API, AUDIENCE, ISSUER, Scene};

/// Over TLS; `/**` goes to the server of WebSockets, which the route allows, `/plain` to it without.
fn config(scene: &Scene, server: &str) -> Value {
    let mut config = scene.tls("off");
    config["upstreams"] = json!({ "chat": { "endpoints": [server] } });
    config["routes"] = json!([
        { "name": "chat", "on": ["edge"], "path": "/**", "authenticate": "none", "upstream": "chat", "upgrade": ["websocket"] },
        { "name": "plain", "on": ["edge"], "path": "/plain", "authenticate": "none", "upstream": "chat" },
    ]);
    config
}

fn http1(scene: &Scene, gateway: &Gateway) -> Wire {
    Wire::tls(gateway.address("edge"), &scene.client(), API, Protocol::H1).unwrap()
}

fn http2(scene: &Scene, gateway: &Gateway) -> Http2 {
    Http2::tls(gateway.address("edge"), &scene.client(), API)
}

fn open(scene: &Scene, gateway: &Gateway, protocol: Protocol, ask: Ask) -> Result<WebSocket, Box<Reply>> {
    match protocol {
        Protocol::H1 => WebSocket::open(http1(scene, gateway), ask),
        Protocol::H2 => http2(scene, gateway).open(ask),
    }
}

/// The one record of a request to this path.
fn record(gateway: &Gateway, path: &str) -> Value {
    eventually(&format!("{path} is in the log"), || {
        gateway.access_log().into_iter().find(|record| record["path"] == path)
    })
}

#[test]
fn messages_pass_both_ways_over_both_protocols() {
    let (scene, server) = (Scene::new(), WebSockets::start());
    let gateway = scene.site.start(&config(&scene, &server.url()));
    for (protocol, path, status) in [(Protocol::H1, "/one", 101), (Protocol::H2, "/two", 200)] {
        let ask = Ask::get(API, path)
            .header("sec-websocket-protocol", "chat, other")
            .header("x-real-ip", "6.6.6.6");
        let mut socket = open(&scene, &gateway, protocol, ask).unwrap();
        assert_eq!(socket.headers["sec-websocket-protocol"], "chat");
        assert_eq!(socket.headers.contains_key("sec-websocket-accept"), protocol == Protocol::H1);
        assert_eq!(gateway.metric("portcullis_tunnels_open{route=\"chat\"}"), 1.0);
        assert_eq!(socket.echo(Message::text("häßlich")), Message::text("häßlich"));
        let large: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
        assert_eq!(socket.echo(Message::binary(large.clone())), Message::binary(large));
        socket.send_in_pieces(&["a ", "text in ", "three frames"]).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong("between".into()));
        assert_eq!(socket.read().unwrap(), Message::text("a text in three frames"));
        socket.close();
        let record = record(&gateway, path);
        assert_eq!((&record["status"], &record["method"]), (&json!(status), &json!("GET")), "{record}");
        assert!(record["bytes_in"].as_u64() > Some(1 << 20) && record["bytes_out"].as_u64() > Some(1 << 20));
        assert_eq!(record["code"], Value::Null, "{record}");
        eventually("it is closed", || (gateway.metric("portcullis_tunnels_open") == 0.0).then_some(()));
    }
    for handshake in server.handshakes() {
        let fields = |name: &str| -> Vec<&str> {
            let all = handshake["headers"].as_array().unwrap().iter();
            all.filter(|field| field[0] == name).map(|field| field[1].as_str().unwrap()).collect()
        };
        assert_eq!((fields("connection"), fields("upgrade")), (vec!["Upgrade"], vec!["websocket"]));
        assert_eq!((fields("sec-websocket-version"), fields("x-real-ip")), (vec!["13"], vec!["127.0.0.1"]));
    }
}

#[test]
fn a_close_code_and_a_refusal_of_the_server_arrive() {
    let (scene, server) = (Scene::new(), WebSockets::start());
    let gateway = scene.site.start(&config(&scene, &server.url()));
    for protocol in [Protocol::H1, Protocol::H2] {
        let mut socket = open(&scene, &gateway, protocol, Ask::get(API, "/close-4001")).unwrap();
        let Message::Close(Some(frame)) = socket.echo(Message::text("bye")) else { panic!("no close") };
        assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "told to"));
        let refused = open(&scene, &gateway, protocol, Ask::get(API, "/refuse-403")).err().unwrap();
        assert_eq!((refused.status, refused.code().as_str()), (403, ""), "the server's own answer");
        // A route that allows none: over HTTP/1.1 the plain request is answered, over HTTP/2 there is none.
        let plain = open(&scene, &gateway, protocol, Ask::get(API, "/plain")).err().unwrap();
        let (status, code) = if protocol == Protocol::H1 { (400, "") } else { (501, "METHOD_UNSUPPORTED") };
        assert_eq!((plain.status, plain.code().as_str()), (status, code));
    }
}

#[test]
fn two_hundred_at_once_and_one_too_many() {
    let (scene, server) = (Scene::new(), WebSockets::start());
    let mut config = config(&scene, &server.url());
    config["routes"][0]["concurrency"] = json!(200);
    let gateway = scene.site.start(&config);
    let connection = http2(&scene, &gateway);
    let mut sockets: Vec<_> = (0..100)
        .flat_map(|_| {
            let second = connection.open(Ask::get(API, "/")).unwrap();
            [WebSocket::open(http1(&scene, &gateway), Ask::get(API, "/")).unwrap(), second]
        })
        .collect();
    assert_eq!(gateway.metric("portcullis_tunnels_open"), 200.0);
    let refused = connection.open(Ask::get(API, "/")).err().unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (503, "CONCURRENCY_REACHED"));
    for (number, socket) in sockets.iter_mut().enumerate() {
        socket.send(Message::text(number.to_string())).unwrap();
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(socket.read().unwrap(), Message::text(number.to_string()));
    }
    drop(sockets.pop());
    eventually("its place is free", || connection.open(Ask::get(API, "/")).ok());
}

#[test]
fn who_is_not_permitted_gets_no_tunnel() {
    let (scene, server) = (Scene::without_policy(), WebSockets::start());
    scene.site.policy("public", "permit(principal, action, resource == Route::\"plain\");");
    let gateway = scene.site.start(&config(&scene, &server.url()));
    for protocol in [Protocol::H1, Protocol::H2] {
        let refused = open(&scene, &gateway, protocol, Ask::get(API, "/")).err().unwrap();
        assert_eq!((refused.status, refused.code().as_str()), (403, "POLICY_NO_PERMIT"));
    }
    // What was sent behind the handshake is read by nobody.
    let mut wire = http1(&scene, &gateway);
    wire.send(format!("{}GET /plain HTTP/1.1\r\nhost: {API}\r\n\r\n", handshake("")).as_bytes()).unwrap();
    let answers = wire.read_to_close();
    assert_eq!(
        (answers.matches("HTTP/1.1 ").count(), answers.contains("connection: close")),
        (1, true),
        "{answers}"
    );
    assert_eq!(server.handshakes().len(), 0);
}

#[test]
fn a_handshake_with_two_readings_is_refused() {
    let (scene, server) = (Scene::new(), WebSockets::start());
    let gateway = scene.site.start(&config(&scene, &server.url()));
    for (from, to) in [
        ("upgrade: websocket", "upgrade: websocket, h2c"),
        ("upgrade: websocket", "upgrade: websocket\r\nupgrade: websocket"),
        ("sec-websocket-version: 13", "sec-websocket-version: 777"),
        ("sec-websocket-key: ", "sec-websocket-key: x"),
        ("upgrade: websocket", "upgrade: websocket\r\ncontent-length: 4"),
        ("GET / ", "POST / "),
    ] {
        let mut wire = http1(&scene, &gateway);
        wire.send(handshake("").replace(from, to).as_bytes()).unwrap();
        let answer = wire.read_to_close();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("UPGRADE_INVALID"), "{to}: {answer}");
        assert_eq!(answer.contains("sec-websocket-version: 13"), to.contains("777"), "{answer}");
    }
    let connection = http2(&scene, &gateway);
    for (protocol, status) in [("connect-udp", 400), ("h2c", 400), ("irc", 501)] {
        assert_eq!(
            connection.open_as(protocol, Ask::get(API, "/")).err().unwrap().status,
            status,
            "{protocol}"
        );
    }
    let old = connection.open(Ask::get(API, "/").header("sec-websocket-version", "8")).err().unwrap();
    assert_eq!((old.status, old.code().as_str()), (400, "UPGRADE_INVALID"));
    assert_eq!(server.handshakes().len(), 0);
}

#[test]
fn an_answer_that_agrees_to_something_else_opens_nothing() {
    let scene = Scene::new();
    let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n{accept}\r\n\r\n"
    );
    for (answer, over_http1, over_http2) in [
        (switch.replace("upgrade: websocket", "upgrade: h2c"), 502, 502),
        (switch.replace("connection: upgrade\r\n", ""), 502, 502),
        (switch.replace("s3pP", "S3PP"), 502, 502),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(), 200, 502),
        (
            "HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n".to_owned(),
            426,
            426,
        ),
    ] {
        let (address, _) = scripted(answer.clone());
        let gateway = scene.site.start(&config(&scene, &format!("http://{address}")));
        let mut wire = http1(&scene, &gateway);
        wire.send(handshake("").as_bytes()).unwrap();
        let got = wire.read_to_close();
        assert!(got.starts_with(&format!("HTTP/1.1 {over_http1}")), "{answer}: {got}");
        assert!(!got.contains("upgrade: "), "{got}");
        let refused = http2(&scene, &gateway).open(Ask::get(API, "/")).err().unwrap();
        assert_eq!(refused.status, over_http2, "{answer}");
    }
}

#[test]
fn what_comes_before_the_upstream_agreed_waits_until_it_has() {
    let scene = Scene::new();
    let (address, seen) = scripted(String::new());
    let gateway = scene.site.start(&config(&scene, &format!("http://{address}")));
    let mut wire = http1(&scene, &gateway);
    wire.send(format!("{}early", handshake("")).as_bytes()).unwrap();
    let (mut upstream, head) = seen.recv().unwrap();
    assert!(head.to_ascii_lowercase().contains("upgrade: websocket") && !head.contains("early"), "{head}");
    upstream.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let mut bytes = [0; 16];
    assert!(upstream.read(&mut bytes).is_err(), "nothing comes ahead of the answer");
    upstream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello")
        .unwrap();
    upstream.set_read_timeout(Some(testkit::patience())).unwrap();
    upstream.read_exact(&mut bytes[..5]).unwrap();
    assert_eq!(&bytes[..5], b"early");
    let answer = wire.read_until("hello").unwrap();
    assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[test]
fn it_ends_with_its_token_its_policy_and_its_silence() {
    let (scene, server) = (Scene::new(), WebSockets::start());
    let mut config = config(&scene, &server.url());
    config["identity"] = scene.tokens()["identity"].clone();
    config["identity"]["jwt"]["staff"]["skew"] = json!("1s");
    config["routes"][0]["authenticate"] = json!({ "any": ["staff"] });
    let gateway = scene.site.start(&config);
    let mut short = claims(ISSUER, AUDIENCE, "alice");
    short["exp"] = json!(unix_now() + 2);
    let short = scene.key.token(&short);
    let mut ending: Vec<_> = [(Protocol::H1, "/exp1"), (Protocol::H2, "/exp2")]
        .map(|(protocol, path)| open(&scene, &gateway, protocol, Ask::get(API, path).bearer(&short)).unwrap())
        .into();
    let lasting = scene.token("bob");
    let mut denied = open(&scene, &gateway, Protocol::H1, Ask::get(API, "/denied").bearer(&lasting)).unwrap();
    for socket in &mut ending {
        assert!(socket.read().is_err(), "it is cut");
    }
    for path in ["/exp1", "/exp2"] {
        assert_eq!(record(&gateway, path)["code"], "LEASE_ENDED");
    }
    assert_eq!(denied.echo(Message::text("still here")), Message::text("still here"));
    // Another route changes: it lives on. Then the policy: it ends.
    config["routes"][1]["path"] = json!("/other");
    gateway.apply(&config);
    assert_eq!(denied.echo(Message::text("and now")), Message::text("and now"));
    scene.site.policy("everybody", "permit(principal, action, resource == Route::\"plain\");");
    gateway.apply(&config);
    assert!(denied.read().is_err(), "it is cut");
    assert_eq!(record(&gateway, "/denied")["code"], "LEASE_ENDED");
    scene.site.policy("everybody", "permit(principal, action, resource);");
    config["upstreams"]["chat"]["timeouts"] = json!({ "idle": "1s" });
    gateway.apply(&config);
    let mut idle = open(&scene, &gateway, Protocol::H2, Ask::get(API, "/idle").bearer(&lasting)).unwrap();
    assert!(idle.read().is_err(), "it is cut");
    assert_eq!(record(&gateway, "/idle")["code"], "TUNNEL_IDLE");
}

#[test]
fn who_reads_nothing_holds_little_and_not_for_long() {
    let (scene, server) = (Scene::new(), WebSockets::start());
    let mut config = config(&scene, &server.url());
    config["upstreams"]["chat"]["timeouts"] = json!({ "idle": "1s" });
    config["listeners"]["edge"]["limits"] = json!({ "idle": "1s" });
    let gateway = scene.site.start(&config);
    for (protocol, path) in [(Protocol::H1, "/1/flood"), (Protocol::H2, "/2/flood")] {
        let before = server.flooded();
        let socket = open(&scene, &gateway, protocol, Ask::get(API, path)).unwrap();
        assert_eq!(record(&gateway, path)["code"], "CLIENT_STALLED", "{protocol:?}");
        // All that the kernel keeps for four sockets, and 16 KiB of ours.
        assert!(server.flooded() - before < 32 << 20, "{}", server.flooded() - before);
        drop(socket);
    }
    let mut mute = open(&scene, &gateway, Protocol::H1, Ask::get(API, "/mute")).unwrap();
    while mute.send(Message::binary(vec![0; 64 * 1024])).is_ok() {}
    assert_eq!(record(&gateway, "/mute")["code"], "UPSTREAM_STALLED");
}

#[test]
fn a_stop_closes_it_at_a_quiet_moment() {
    let (scene, server) = (Scene::new(), WebSockets::start());
    let mut gateway = scene.site.start(&config(&scene, &server.url()));
    let mut sockets = [Protocol::H1, Protocol::H2]
        .map(|protocol| open(&scene, &gateway, protocol, Ask::get(API, "/")).unwrap());
    for socket in &mut sockets {
        assert_eq!(socket.echo(Message::text("x")), Message::text("x"));
    }
    gateway.signal("TERM");
    for socket in &mut sockets {
        assert!(socket.read().is_err(), "it is closed");
    }
    let status = eventually("it ends", || gateway.ended());
    assert!(status.success(), "{status}");
    assert!(
        gateway.access_log().iter().all(|record| record["code"] == "CONNECTION_ENDED"),
        "{:?}",
        gateway.access_log()
    );
}

/// A handshake, with more fields.
fn handshake(more: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nhost: {API}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A server that reads one head on each connection and answers this, whatever it was; and what it read.
fn scripted(answer: String) -> (SocketAddr, Receiver<(TcpStream, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).ok();
            heads.send((stream, String::from_utf8_lossy(&head).into_owned())).ok();
        }
    });
    (address, seen)
}
