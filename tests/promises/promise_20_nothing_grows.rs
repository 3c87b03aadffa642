//! Nothing grows: whatever callers can make up (addresses, hosts, paths, methods, tokens with unknown keys, principals,
//! connections), the process holds in the end what it held at the start, within 5 %.
//!
//! The start is the moment at which every planned bound has been reached: tables of limiters and caches of tokens are full, both cores
//! have served every kind of request. Then four times as much of everything comes, and none of it has been there before.
//! A million keys of one limiter, which take an unoptimised build minutes, are a unit test of the crate `limit`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use testkit::{Ask, Connection, Gateway, Protocol, eventually};

use crate::scene::{API, Scene};

/// Of each kind, in one round.
const ROUND: usize = 2_000;
/// Rounds before the start; each limiter has room for half a round.
const WARM: usize = 2;
const ROUNDS: usize = 8;

#[test]
fn nothing_that_callers_make_up_is_kept() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["listeners"]["edge"]["trusted_proxies"] = json!(["127.0.0.1"]);
    config["listeners"]["tls"] = scene.tls("off")["listeners"]["edge"].clone();
    config["certificates"] = scene.tls("off")["certificates"].clone();
    config["limits"] = json!({
        "by-address": { "key": "address", "rate": "10/h", "burst": 10, "at": "edge", "max_keys": ROUND / 2 },
        "by-principal": { "key": "principal", "rate": "10/h", "burst": 10, "max_keys": ROUND / 2 },
    });
    config["routes"][0]["on"] = json!(["edge", "tls"]);
    config["routes"][0]["limits"] = json!(["by-address"]);
    let mut principals = config["routes"][0].clone();
    principals["name"] = json!("principals");
    principals["path"] = json!("/principals");
    principals["limits"] = json!(["by-principal"]);
    config["routes"].as_array_mut().unwrap().push(principals);
    let gateway = scene.site.start(&config);
    let began = Instant::now();
    (0..WARM).for_each(|round| churn(&scene, &gateway, round));
    settled(&gateway);
    let before = gateway.resources();
    (WARM..WARM + ROUNDS).for_each(|round| churn(&scene, &gateway, round));
    settled(&gateway);
    let after = gateway.resources();
    println!("{before:?} -> {after:?} in {:?}", began.elapsed());
    let most = |count: usize| count + count / 20;
    assert!(after.resident_kib <= most(before.resident_kib), "memory: {before:?} -> {after:?}");
    assert!(after.descriptors <= most(before.descriptors), "descriptors: {before:?} -> {after:?}");
    assert_eq!(after.threads, before.threads, "{before:?} -> {after:?}");
    assert!(after.series <= most(before.series), "series: {before:?} -> {after:?}");
    for limit in ["by-address", "by-principal"] {
        let keys = gateway.metric(&format!("portcullis_limit_keys{{limit=\"{limit}\""));
        let bound = f64::from(u32::try_from(ROUND).unwrap());
        assert!(keys > 0.0 && keys <= bound, "{limit}: {keys} keys");
    }
}

/// A round of callers that nobody has seen before.
fn churn(scene: &Scene, gateway: &Gateway, round: usize) {
    let address = gateway.address("edge");
    let numbers = || round * ROUND..(round + 1) * ROUND;
    let valid = scene.token("alice");
    let request = |method: &str, host: &str, path: &str, n: usize, token: &str| {
        let client = format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255);
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {client}\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
    };
    // Addresses, paths and queries; hosts; methods.
    pipelined(
        address,
        numbers().map(|n| request("GET", API, &format!("/status-204/{n}/x?q={n}"), n, &valid)),
    );
    pipelined(address, numbers().map(|n| request("GET", &format!("h{n}.example"), "/x", n, &valid)));
    pipelined(address, numbers().map(|n| request(&format!("M{n}"), API, "/x", n, &valid)));
    // Keys that no issuer has, and issuers that nobody knows.
    pipelined(address, numbers().map(|n| request("GET", API, "/x", n, &unknown_key(n))));
    // Principals; an ES256 signature takes an unoptimised build long.
    let principals = numbers().step_by(10);
    pipelined(
        address,
        principals.map(|n| request("GET", API, "/principals", n, &scene.token(&format!("user-{n}")))),
    );
    let trust = scene.client();
    for protocol in [Protocol::H1, Protocol::H2] {
        for _ in 0..ROUND / 50 {
            let mut fresh = Connection::tls(gateway.address("tls"), &trust, API, protocol).unwrap();
            assert_ne!(fresh.send(Ask::get(API, "/").bearer(&valid)).unwrap().status, 0);
        }
    }
}

/// A token whose head names a key and an issuer that are made up.
fn unknown_key(n: usize) -> String {
    let part = |value: serde_json::Value| base64url(value.to_string().as_bytes());
    let head = part(json!({ "alg": "ES256", "kid": format!("key-{n}") }));
    let issuer =
        if n.is_multiple_of(2) { crate::scene::ISSUER.to_owned() } else { format!("https://{n}.example") };
    let claims =
        part(json!({ "iss": issuer, "aud": "gateway", "sub": "x", "exp": testkit::unix_now() + 60 }));
    format!("{head}.{claims}.{}", base64url(&[7; 64]))
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Sends requests in batches; waits for an answer to each.
fn pipelined(address: SocketAddr, requests: impl Iterator<Item = String>) {
    let requests: Vec<_> = requests.collect();
    let mut stream = connect(address);
    for batch in requests.chunks(50) {
        stream.write_all(batch.concat().as_bytes()).unwrap();
        let (mut read, mut answers, mut buffer) = (Vec::new(), 0, vec![0; 65536]);
        while answers < batch.len() {
            let count = stream.read(&mut buffer).unwrap();
            assert!(
                count > 0,
                "closed after {answers} of {}: {}",
                batch.len(),
                String::from_utf8_lossy(&read)
            );
            read.extend_from_slice(&buffer[..count]);
            answers = read.windows(9).filter(|window| window == b"HTTP/1.1 ").count();
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Waits until all connections of clients have ended.
fn settled(gateway: &Gateway) {
    eventually("no connection is open", || {
        (gateway.metric("portcullis_connections_open") == 0.0).then_some(())
    });
}
