//! A body that is still on its way is sent on no longer than the token or certificate behind it counts, nor longer than the
//! upstream's `timeouts.request`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Ask, Connection, Protocol, Trust, claims, eventually};

use crate::scene::{API, AUDIENCE, ISSUER, ORDERS, Scene};

#[test]
fn an_upload_does_not_outlive_its_token() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["identity"]["jwt"]["staff"]["skew"] = json!("1s");
    let mut short = claims(ISSUER, AUDIENCE, "alice");
    short["exp"] = json!(short["iat"].as_u64().unwrap() + 2);
    ends_in_time(&scene, &config, &scene.key.token(&short));
}

#[test]
fn an_upload_ends_with_the_time_for_the_whole_request() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["upstreams"]["app"]["timeouts"] = json!({ "request": "2s" });
    ends_in_time(&scene, &config, &scene.token("alice"));
}

#[test]
fn a_stream_does_not_outlive_the_revocation_of_its_certificate() {
    let scene = Scene::new();
    let mut config = scene.tls("required");
    scene.site.write("crl.pem", scene.mesh.crl(&[]));
    config["trust"]["mesh"]["files"]["crl"] = json!(["crl.pem"]);
    config["routes"][0]["authenticate"] = json!({ "any": ["mesh"] });
    let gateway = scene.site.start(&config);
    let member = scene.member(ORDERS);
    for protocol in [Protocol::H1, Protocol::H2] {
        scene.site.write("crl.pem", scene.mesh.crl(&[]));
        let client = Trust::new(scene.authority.pem(), Some(&member));
        let mut connection = eventually("the certificate counts", || {
            let mut connection = Connection::tls(gateway.address("edge"), &client, API, protocol).ok()?;
            (connection.send(Ask::get(API, "/")).ok()?.status == 200).then_some(connection)
        });
        let mut events = connection.open(Ask::get(API, "/events")).unwrap();
        scene.upstream.emit("first");
        assert!(events.next_piece().unwrap().is_some());
        scene.site.write("crl.pem", scene.mesh.crl(&[&member]));
        let began = Instant::now();
        loop {
            scene.upstream.emit("more");
            if !matches!(events.next_piece(), Ok(Some(_))) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{protocol:?}: the stream goes on");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Drips a body fast enough for `body_rate`, and sees how long that is taken.
fn ends_in_time(scene: &Scene, config: &Value, token: &str) {
    let gateway = scene.site.start(config);
    let mut stream = TcpStream::connect(gateway.address("edge")).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (began, mut answer) = (Instant::now(), [0; 12]);
    loop {
        stream.write_all(&[b'x'; 1000]).unwrap();
        if let Ok(12) = stream.read(&mut answer) {
            assert_eq!(&answer, b"HTTP/1.1 504");
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "still taken after {:?}", began.elapsed());
    }
}
