//! A route with `compress` compresses its upstreams' answers for clients who ask for it; no other one changes a byte. What comes out is
//! what went in, piece by piece where the service sends pieces, under the same clocks and leases as every answer.

use std::io::Read as _;

use serde_json::{Value, json};
use testkit::{Ask, Connection, Curl, Nginx, Protocol, Reply, Streaming, Upstream, eventually, sha256};

use crate::scene::{API, Scene};

const LARGE: usize = (4 << 20) + 12_345;

/// curl takes what nginx serves, compressed between the gateway and itself.
#[test]
fn curl_reads_what_nginx_wrote() {
    let (scene, nginx) = (Scene::new(), Nginx::start(None, None));
    let page = "<p>one line like another</p>\n".repeat(4000);
    nginx.serve("page", page.as_bytes());
    let mut config = scene.tls("off");
    config["upstreams"]["app"]["endpoints"] = json!([nginx.url()]);
    config["routes"][0]["compress"] = json!({});
    let gateway = scene.site.start(&config);
    for version in ["--http1.1", "--http2"] {
        let curl = |arguments: &[&str]| {
            let head = scene.site.path("head");
            let reply = Curl::new(&format!("https://{API}/page"), gateway.address("edge"))
                .args(&[version, "--compressed", "--dump-header", head.to_str().unwrap()])
                .args(arguments)
                .trusting(&scene.site.path("roots.pem"))
                .run();
            assert_eq!(reply.complaint, "", "{version} {arguments:?}");
            (reply, Head::read(&std::fs::read_to_string(head).unwrap()))
        };
        let (plain, head) = curl(&["-H", "accept-encoding: identity"]);
        assert_eq!((plain.body.len(), head.field("content-encoding")), (page.len(), None));
        assert_eq!(head.field("vary"), Some("accept-encoding"), "another client gets another answer");
        let strong = head.field("etag").unwrap().to_owned();
        let weak = format!("W/{strong}");
        for (accepts, coding) in
            [("deflate, gzip, br, zstd", "br"), ("gzip", "gzip"), ("br;q=0.5, gzip;q=0.6", "gzip")]
        {
            let accepts = format!("accept-encoding: {accepts}");
            for method in ["GET", "HEAD"] {
                let asked: &[&str] =
                    if method == "HEAD" { &["-H", &accepts, "--head"] } else { &["-H", &accepts] };
                let (reply, head) = curl(asked);
                assert_eq!(reply.status, 200);
                assert_eq!(head.field("content-encoding"), Some(coding), "{version} {method} {accepts}");
                assert_eq!(head.field("vary"), Some("accept-encoding"));
                assert_eq!(head.field("etag"), Some(weak.as_str()));
                assert_eq!((head.field("content-length"), head.field("accept-ranges")), (None, None));
                if method == "GET" {
                    assert_eq!(reply.body, page.as_bytes(), "{version} {accepts}");
                }
            }
            let (known, head) = curl(&["-H", &accepts, "-H", &format!("if-none-match: {weak}")]);
            assert_eq!((known.status, head.field("etag")), (304, Some(weak.as_str())));
            let (part, head) = curl(&["-H", &accepts, "-H", "range: bytes=0-1999"]);
            assert_eq!((part.status, part.body.len(), head.field("content-encoding")), (206, 2000, None));
        }
    }
    let bytes = |direction: &str| {
        gateway
            .metric(&format!("portcullis_compression_bytes_total{{route=\"all\",direction=\"{direction}\"}}"))
    };
    let answers = |result: &str| {
        gateway.metric(&format!("portcullis_compressed_answers_total{{route=\"all\",result=\"{result}\"}}"))
    };
    assert_eq!((answers("br"), answers("gzip")), (2.0, 4.0));
    assert_eq!(bytes("in"), 6.0 * page.len() as f64);
    assert!(bytes("out") < bytes("in") / 20.0, "{}", bytes("out"));
}

#[test]
fn a_large_answer_arrives_unchanged_and_the_log_says_what_went_out() {
    let scene = Scene::new();
    let gateway = scene.site.start(&compressing(&scene, "text/plain"));
    for version in ["--http1.1", "--http2"] {
        for coding in ["gzip", "br"] {
            let reply = Curl::new(&format!("https://{API}/download-{LARGE}"), gateway.address("edge"))
                .args(&[version, "--compressed", "-H", &format!("accept-encoding: {coding}")])
                .trusting(&scene.site.path("roots.pem"))
                .run();
            assert_eq!((reply.complaint.as_str(), reply.body.len()), ("", LARGE), "{version} {coding}");
            assert_eq!(sha256(&reply.body), sha256(&Upstream::pattern(LARGE)));
        }
    }
    let log = eventually("four records", || Some(gateway.access_log()).filter(|log| log.len() == 4));
    let out: f64 = log.iter().map(|record| record["bytes_out"].as_f64().unwrap()).sum();
    let counted = gateway.metric("portcullis_compression_bytes_total{route=\"all\",direction=\"out\"}");
    assert_eq!((out, log.iter().all(|record| record["code"].is_null())), (counted, true));
}

/// What a service has sent is not kept for what it may send later.
#[test]
fn each_piece_comes_as_it_is_sent() {
    let scene = Scene::new();
    let gateway = scene.site.start(&compressing(&scene, "application/x-ndjson"));
    for (protocol, coding) in
        [(Protocol::H1, "gzip"), (Protocol::H1, "br"), (Protocol::H2, "gzip"), (Protocol::H2, "br")]
    {
        let mut connection = connect(&scene, gateway.address("edge"), protocol);
        let mut stream = connection.open(Ask::get(API, "/events").header("accept-encoding", coding)).unwrap();
        eventually("it listens", || (scene.upstream.listeners() == 1).then_some(()));
        let (mut sent, mut came) = (String::new(), Vec::new());
        for piece in ["{\"n\":1}\n", "{\"n\":2}\n", "{\"n\":3}\n"] {
            scene.upstream.emit(piece);
            sent += piece;
            read_until(&mut stream, &mut came, |came| decoded(coding, came) == sent.as_bytes());
        }
        drop(connection);
        eventually("the service is told", || {
            scene.upstream.emit("to nobody\n");
            (scene.upstream.listeners() == 0).then_some(())
        });
    }
}

#[test]
fn what_is_live_or_not_asked_for_is_not_touched() {
    let scene = Scene::new();
    let mut config = scene.tls("off");
    config["routes"][0]["compress"] =
        json!({ "encodings": ["gzip"], "types": ["text/*", "application/json"] });
    let mut plain = config["routes"][0].clone();
    plain["name"] = json!("plain");
    plain["path"] = json!("/plain/**");
    plain["compress"] = Value::Null;
    plain.as_object_mut().unwrap().remove("compress");
    config["routes"].as_array_mut().unwrap().push(plain);
    let gateway = scene.site.start(&config);
    let mut connection = connect(&scene, gateway.address("edge"), Protocol::H2);
    let mut ask = |path: &str, accepts: &str| {
        let ask = Ask::get(API, path).header("accept-encoding", accepts).header("x-long", &"x".repeat(2000));
        connection.send(ask).unwrap()
    };
    assert_eq!(ask("/", "gzip").header("content-encoding"), ["gzip"]);
    for (path, accepts) in [("/", "br"), ("/", "gzip;q=0"), ("/plain/", "gzip"), ("/trailers", "gzip")] {
        let reply = ask(path, accepts);
        assert!(reply.header("content-encoding").is_empty(), "{path} {accepts}");
        assert_eq!(reply.upstream_saw("accept-encoding"), [accepts], "the service may do it itself");
    }
    let mut stream = connection.open(Ask::get(API, "/events").header("accept-encoding", "gzip")).unwrap();
    eventually("it listens", || (scene.upstream.listeners() == 1).then_some(()));
    scene.upstream.emit("data: one\n\n");
    assert_eq!(stream.next_piece().unwrap().unwrap(), "data: one\n\n");
}

/// What is remembered under a key is the service's answer: each client gets it as it asks for it.
#[test]
fn a_kept_answer_is_compressed_for_each_client_anew() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["routes"][0]["idempotency"] = json!({});
    config["routes"][0]["compress"] = json!({});
    let gateway = scene.site.start(&config);
    let ask = |accepts: &str| {
        let ask = Ask::new("POST", API, "/").bearer(&scene.token("alice")).body("one tea ".repeat(4000));
        gateway.ask(ask.header("idempotency-key", "k").header("accept-encoding", accepts))
    };
    let text = |coding: &str, reply: &Reply| {
        assert_eq!(reply.header("content-encoding"), [coding], "{}", reply.text());
        decoded(coding, &reply.body)
    };
    let first = text("gzip", &ask("gzip"));
    assert_eq!(text("br", &ask("br")), first);
    let plain = ask("identity");
    assert_eq!((plain.body.to_vec(), plain.header("idempotency-replayed")), (first, vec!["true".to_owned()]));
    assert_eq!(scene.upstream.requests().len(), 1);
}

/// More than is kept: what was read of it and the rest are one compressed answer.
#[test]
fn an_answer_too_long_to_be_kept_is_compressed_as_one() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["routes"][0]["idempotency"] = json!({ "body": "64KiB", "memory": "1MiB" });
    config["routes"][0]["compress"] = json!({});
    config["routes"][0]["headers"] = json!({ "response": { "set": { "content-type": "text/plain" } } });
    let gateway = scene.site.start(&config);
    let ask = Ask::new("POST", API, "/download-300000").bearer(&scene.token("alice")).body("x");
    let reply = gateway.ask(ask.header("idempotency-key", "k").header("accept-encoding", "gzip"));
    assert_eq!(decoded("gzip", &reply.body), Upstream::pattern(300_000));
}

#[test]
fn a_compressed_answer_ends_with_its_lease_and_with_a_silent_service() {
    for (key, code) in [("request", "LEASE_ENDED"), ("idle", "UPSTREAM_STALLED")] {
        let scene = Scene::new();
        let mut config = compressing(&scene, "text/plain");
        config["upstreams"]["app"]["timeouts"] = json!({ key: "1s" });
        let gateway = scene.site.start(&config);
        let mut connection = connect(&scene, gateway.address("edge"), Protocol::H2);
        let mut stream = connection.open(Ask::get(API, "/events").header("accept-encoding", "br")).unwrap();
        eventually("it listens", || (scene.upstream.listeners() == 1).then_some(()));
        scene.upstream.emit("one");
        let mut came = Vec::new();
        read_until(&mut stream, &mut came, |came| decoded("br", came) == b"one");
        while let Ok(piece) = stream.next_piece() {
            assert!(piece.is_some(), "an answer that was cut off never looks whole");
        }
        eventually("it is in the log", || {
            gateway.access_log().iter().any(|record| record["code"] == code).then_some(())
        });
    }
}

/// The clock of who takes nothing runs against the client, although the coder has more to do.
#[test]
fn who_takes_nothing_of_a_compressed_answer_is_given_up() {
    let (scene, nginx) = (Scene::new(), Nginx::start(None, None));
    // More than the client's windows take, also compressed.
    nginx.serve("noise", &noise(16_000_000));
    let mut config = compressing(&scene, "text/plain");
    config["upstreams"]["app"]["endpoints"] = json!([nginx.url()]);
    config["listeners"]["edge"]["limits"] = json!({ "idle": "1s", "body_rate": "10MiB/s" });
    config["routes"][0]["concurrency"] = json!(1);
    let gateway = scene.site.start(&config);
    let mut stalled = connect(&scene, gateway.address("edge"), Protocol::H2);
    let answer = stalled.open(Ask::get(API, "/noise").header("accept-encoding", "gzip")).unwrap();
    assert_eq!(answer.status(), 200);
    eventually("the stalled connection ends", || {
        gateway.access_log().iter().any(|record| record["code"] == "CLIENT_STALLED").then_some(())
    });
    let mut other = connect(&scene, gateway.address("edge"), Protocol::H2);
    assert_eq!(other.send(Ask::get(API, "/who")).unwrap().status, 200, "its place is free");
}

/// Over TLS; every answer is of this type, so that what the upstream sends may be compressed.
fn compressing(scene: &Scene, kind: &str) -> Value {
    let mut config = scene.tls("off");
    config["routes"][0]["compress"] = json!({});
    config["routes"][0]["headers"] = json!({ "response": { "set": { "content-type": kind } } });
    config
}

fn connect(scene: &Scene, address: std::net::SocketAddr, protocol: Protocol) -> Connection {
    Connection::tls(address, &scene.client(), API, protocol).unwrap()
}

fn read_until(stream: &mut Streaming<'_>, came: &mut Vec<u8>, is_enough: impl Fn(&[u8]) -> bool) {
    while !is_enough(came) {
        came.extend_from_slice(&stream.next_piece().unwrap().expect("more comes"));
    }
}

/// What can be read of these bytes, whether their end has come or not.
fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let _ = match coding {
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
        _ => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
    };
    plain
}

/// What nobody can compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length / 8).flat_map(|_| next()).collect()
}

/// The head of an answer as curl dumps it.
struct Head(Vec<(String, String)>);

impl Head {
    fn read(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.split_once(": "));
        Self(fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect())
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
