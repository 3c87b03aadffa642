//! Upstreams are spoken to in HTTP/2 where it is configured, and gRPC passes: trailers, streams, deadlines, refusals as statuses.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Ask, Connection, Gateway, Protocol, Reply, ServerTls, Upstream, eventually};

use crate::scene::{API, Scene, edge};

#[test]
fn calls_pass_with_their_trailers_over_h2c_and_over_tls() {
    let scene = Scene::new();
    let tls = || ServerTls::new(&scene.authority.issue(edge()), None);
    for (upstream, protocol, version) in [
        (Upstream::http2("plain", None), "http2", "HTTP/2.0"),
        (Upstream::http2("secure", Some(tls())), "http2", "HTTP/2.0"),
        (Upstream::http2("secure", Some(tls())), "negotiate", "HTTP/2.0"),
        (Upstream::tls("older", tls()), "negotiate", "HTTP/1.1"),
    ] {
        let gateway = scene.site.start(&over(&scene, &upstream, protocol));
        let mut connection = connect(&scene, &gateway);
        for _ in 0..3 {
            let call = call("/shop.Orders/trailers")
                .trailer("x-client-trailer", "theirs")
                .header("trailer", "x-client-trailer");
            let reply = connection.send(call).unwrap();
            assert_eq!(reply.status, 200, "{protocol}: {}", reply.text());
            assert_eq!(reply.trailers["x-upstream-trailer"], "after the body", "{protocol}");
            let seen: Value = reply.json();
            assert_eq!(seen["version"], version, "{protocol}");
            assert_eq!(reply.upstream_saw("te"), ["trailers"], "{protocol}");
            assert_eq!(reply.upstream_saw("x-forwarded-host"), [API], "{protocol}");
            assert_eq!(seen["trailers"], json!([["x-client-trailer", "theirs"]]), "{protocol}");
        }
        assert_eq!(upstream.connections(), 1, "{protocol}: calls share a connection");
        assert!(
            gateway.access_log().iter().all(|record| record["code"].is_null()),
            "{protocol}: they are whole"
        );
    }
}

#[test]
fn who_does_not_agree_on_http2_is_sent_nothing() {
    let scene = Scene::new();
    let older = Upstream::tls("older", ServerTls::new(&scene.authority.issue(edge()), None));
    let gateway = scene.site.start(&over(&scene, &older, "http2"));
    let reply = connect(&scene, &gateway).send(call("/shop.Orders/Get")).unwrap();
    assert_eq!(status(&reply), ("14", "UPSTREAM_CONNECT"));
    assert!(older.requests().is_empty());
    assert!(
        gateway.metric("portcullis_upstream_connects_total{upstream=\"app\",result=\"no_http2\"}") >= 1.0
    );
}

#[test]
fn streams_of_many_calls_share_a_connection_and_pieces_come_as_they_are_sent() {
    let (scene, upstream) = (Scene::new(), Upstream::http2("plain", None));
    let gateway = scene.site.start(&over(&scene, &upstream, "http2"));
    let mut connections: Vec<Connection> = (0..8).map(|_| connect(&scene, &gateway)).collect();
    let mut streams: Vec<_> = connections
        .iter_mut()
        .map(|connection| connection.open(call("/shop.Orders/events")).unwrap())
        .collect();
    eventually("all of them listen", || (upstream.listeners() == 8).then_some(()));
    for piece in ["one", "two", "three"] {
        upstream.emit(piece);
        for stream in &mut streams {
            assert_eq!(stream.next_piece().unwrap().unwrap(), piece);
        }
    }
    assert!(upstream.connections() <= 8, "one for each core at most: {}", upstream.connections());
    drop(streams);
    drop(connections);
    eventually("a client that is gone ends its stream", || {
        upstream.emit("to nobody");
        (upstream.listeners() == 0).then_some(())
    });
}

#[test]
fn a_denied_call_has_the_status_of_its_refusal() {
    let (scene, upstream) = (Scene::without_policy(), Upstream::http2("plain", None));
    let gateway = scene.site.start(&over(&scene, &upstream, "http2"));
    let mut connection = connect(&scene, &gateway);
    let reply = connection.send(call("/shop.Orders/Get")).unwrap();
    assert_eq!((reply.status, status(&reply)), (200, ("7", "POLICY_NO_PERMIT")));
    assert_eq!(reply.headers["content-type"], "application/grpc");
    assert_eq!(reply.headers["grpc-message"], "denied by policy");
    assert!(reply.body.is_empty() && upstream.requests().is_empty());
    assert_eq!(
        connection.send(Ask::new("POST", API, "/x")).unwrap().status,
        403,
        "everybody else reads HTTP"
    );
    assert!(
        gateway.metric("portcullis_requests_total{route=\"all\",status=\"4xx\"}") >= 2.0,
        "both count as what they are"
    );
}

#[test]
fn a_call_ends_with_its_deadline() {
    let (scene, upstream) = (Scene::new(), Upstream::http2("plain", None));
    let gateway = scene.site.start(&over(&scene, &upstream, "http2"));
    let mut connection = connect(&scene, &gateway);
    let began = Instant::now();
    let reply = connection.send(call("/shop.Orders/hold").header("grpc-timeout", "200m")).unwrap();
    assert_eq!(status(&reply), ("4", "UPSTREAM_TIMEOUT"));
    assert!(began.elapsed() >= Duration::from_millis(200));
    let reply = connection.send(call("/shop.Orders/hold").header("grpc-timeout", "soon")).unwrap();
    assert_eq!(status(&reply), ("13", "GRPC_TIMEOUT_INVALID"));
}

#[test]
fn an_endpoint_that_is_slow_to_answer_loses_what_is_safe_to_another_one() {
    let scene = Scene::new();
    // It takes connections, and nothing of what comes on them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = scene.plain();
    config["upstreams"]["app"] = json!({
        "endpoints": [format!("http://{}", silent.local_addr().unwrap()), scene.upstream.url()],
        "timeouts": { "try": "150ms" },
        "ejection": "off",
    });
    let gateway = scene.site.start(&config);
    let mut connection = gateway.connect();
    let (mut safe, mut unsafe_) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        safe.push(connection.send(Ask::get(API, "/x")).unwrap().status);
    }
    // By themselves: they take turns, and every other one comes to the silent endpoint first.
    for _ in 0..4 {
        unsafe_.push(connection.send(Ask::new("POST", API, "/x").body("x")).unwrap().status);
    }
    assert_eq!(safe, [200; 4]);
    assert!(unsafe_.contains(&504), "a POST may have arrived: {unsafe_:?}");
    let posts = scene.upstream.requests().iter().filter(|seen| seen["method"] == "POST").count();
    assert_eq!(posts, unsafe_.iter().filter(|status| **status == 200).count());
    assert!(gateway.metric("portcullis_upstream_retries_total{upstream=\"app\",reason=\"slow\"}") >= 1.0);
}

/// TLS in, `protocol` to the upstream.
fn over(scene: &Scene, upstream: &Upstream, protocol: &str) -> Value {
    let mut config = scene.tls("off");
    config["upstreams"]["app"] = json!({ "endpoints": [upstream.url()], "protocol": protocol });
    if upstream.url().starts_with("https") {
        config["trust"]["web"] = json!({ "files": { "ca": "roots.pem" }, "names": "dns" });
        config["upstreams"]["app"]["tls"] = json!({ "trust": ["web"], "expect": "localhost" });
    }
    config
}

fn connect(scene: &Scene, gateway: &Gateway) -> Connection {
    Connection::tls(gateway.address("edge"), &scene.client(), API, Protocol::H2).unwrap()
}

fn call(path: &str) -> Ask {
    Ask::new("POST", API, path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body("a message")
}

/// The status of a call that was refused, and our code.
fn status(reply: &Reply) -> (&str, &str) {
    (reply.headers["grpc-status"].to_str().unwrap(), reply.headers["x-portcullis-code"].to_str().unwrap())
}
