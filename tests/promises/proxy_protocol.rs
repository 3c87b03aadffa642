//! A listener with `proxy_protocol: required` takes the client's address from the header that a trusted proxy sends, before TLS:
//! for limits, caps, policies, the log and what the upstream sees. Without a header, with a bad one, or from anybody else, there
//! is no connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use testkit::{Ask, Connection, Gateway, Haproxy, Protocol, eventually, patience};

use crate::scene::{API, Scene};

const V4: &str = "PROXY TCP4 203.0.113.7 198.51.100.1 51234 443\r\n";

#[test]
fn the_client_is_whom_the_header_names() {
    let scene = Scene::without_policy();
    scene.site.policy(
        "address",
        r#"permit(principal, action, resource) when { context.address == ip("203.0.113.7") };"#,
    );
    let gateway = scene.site.start(&behind_a_proxy(&scene));
    for header in [
        V4.as_bytes().to_vec(),
        v2(0x21, 0x11, &[203, 0, 113, 7, 198, 51, 100, 1, 200, 34, 1, 187, 4, 0, 1, 0]),
    ] {
        let answer = exchange(&gateway, &header);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(r#"["x-forwarded-for","203.0.113.7"]"#), "{answer}");
    }
    let other = exchange(&gateway, b"PROXY TCP6 2001:db8::7 ::1 51234 443\r\n");
    assert!(other.contains("POLICY_NO_PERMIT"), "{other}");
    let records =
        eventually("three records", || Some(gateway.access_log()).filter(|records| records.len() == 3));
    // Each core writes its own records: in no order.
    let mut clients: Vec<_> = records.iter().map(|record| record["client"].as_str().unwrap()).collect();
    clients.sort_unstable();
    assert_eq!(clients, ["2001:db8::7", "203.0.113.7", "203.0.113.7"]);
}

/// The header's address is a client's: what it says of others is nobody's word, although it came through a trusted proxy.
#[test]
fn a_client_behind_the_proxy_is_not_believed() {
    let scene = Scene::new();
    let gateway = scene.site.start(&behind_a_proxy(&scene));
    let answer = exchange_with(&gateway, V4.as_bytes(), "X-Forwarded-For: 192.0.2.99\r\n");
    assert!(answer.contains(r#"["x-forwarded-for","203.0.113.7"]"#), "{answer}");
    // The proxy's own connection is the proxy: it is trusted.
    let own = exchange_with(&gateway, &v2(0x20, 0, &[]), "X-Forwarded-For: 192.0.2.99\r\n");
    assert!(own.contains(r#"["x-forwarded-for","192.0.2.99"]"#), "{own}");
}

#[test]
fn without_a_header_that_names_a_client_there_is_no_connection() {
    let scene = Scene::new();
    let gateway = scene.site.start(&behind_a_proxy(&scene));
    let nameless = v2(0x21, 0, &[]);
    let unix = v2(0x21, 0x31, &[0; 216]);
    let long = v2(0x21, 0x11, &[0; 5000]);
    let headers: [&[u8]; 7] = [
        b"",
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 443\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 443 \r\n",
        &nameless,
        &unix,
        &long,
    ];
    for (count, header) in headers.iter().enumerate() {
        assert_eq!(exchange(&gateway, header), "", "{header:?}");
        let counted =
            gateway.metric("portcullis_handshake_failures_total{listener=\"edge\",cause=\"proxy_header\"}");
        assert_eq!(counted, count as f64 + 1.0, "{header:?}");
    }
    assert!(scene.upstream.requests().is_empty());
    assert!(gateway.output().contains("no PROXY protocol header"));
}

#[test]
fn nobody_but_a_trusted_proxy_may_connect() {
    let scene = Scene::new();
    let mut config = behind_a_proxy(&scene);
    config["listeners"]["edge"]["trusted_proxies"] = json!(["192.0.2.0/24"]);
    let gateway = scene.site.start(&config);
    assert_eq!(exchange(&gateway, V4.as_bytes()), "");
    let refused = "portcullis_handshake_failures_total{listener=\"edge\",cause=\"proxy_untrusted\"}";
    assert_eq!(gateway.metric(refused), 1.0);
}

#[test]
fn a_header_that_does_not_end_is_waited_for_no_longer_than_a_handshake() {
    let scene = Scene::new();
    let mut config = behind_a_proxy(&scene);
    config["listeners"]["edge"]["limits"] = json!({ "handshake": "1s" });
    let gateway = scene.site.start(&config);
    for piece in [&b""[..], b"PROX", b"PROXY TCP4 203.0.113.7 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb"] {
        let mut stream = connect(gateway.address("edge"));
        stream.write_all(piece).unwrap();
        let mut rest = Vec::new();
        // The gateway closes; on some systems with what was not read in its buffer.
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    assert_eq!(
        gateway.metric("portcullis_handshake_failures_total{listener=\"edge\",cause=\"timeout\"}"),
        4.0
    );
}

#[test]
fn caps_and_rates_count_the_client_and_not_the_proxy() {
    let scene = Scene::new();
    let mut config = behind_a_proxy(&scene);
    config["listeners"]["edge"]["limits"] = json!({ "connections_per_address": 1 });
    config["limits"] = json!({ "arrivals": { "key": "address", "rate": "1/h", "burst": 2 } });
    config["listeners"]["edge"]["rate"] = json!(["arrivals"]);
    let gateway = scene.site.start(&config);
    let first = opened(&gateway, "203.0.113.1").expect("the first connection of a client is served");
    assert!(opened(&gateway, "203.0.113.1").is_none(), "the cap is one for each client");
    let second = opened(&gateway, "203.0.113.2").expect("another client is another one");
    drop((first, second));
    eventually("they are gone", || {
        (gateway.metric("portcullis_connections_open{listener=\"edge\"}") == 0.0).then_some(())
    });
    assert!(opened(&gateway, "203.0.113.1").is_none(), "and the rate is two an hour");
    assert!(opened(&gateway, "203.0.113.2").is_some());
}

/// HAProxy passes on TLS with both versions of the header; the certificate's owner and the client's address are both seen.
#[test]
fn haproxy_passes_tls_on_with_either_version() {
    let scene = Scene::new();
    let mut config = scene.tls("off");
    config["listeners"]["edge"]["proxy_protocol"] = json!("required");
    config["listeners"]["edge"]["trusted_proxies"] = json!(["127.0.0.0/8"]);
    let gateway = scene.site.start(&config);
    for (version, tlvs) in
        [("send-proxy", ""), ("send-proxy-v2", " proxy-v2-options unique-id,crc32c,authority")]
    {
        let haproxy = Haproxy::start(&format!(
            "frontend in
  mode tcp
  bind 127.0.0.1:PORT
  unique-id-format %[uuid()]
  default_backend gateway
backend gateway
  mode tcp
  source 127.0.0.9
  server gateway {} {version}{tlvs}
",
            gateway.address("edge")
        ));
        let stream = Connection::tls(haproxy.address(), &scene.client(), API, Protocol::H2);
        let reply = stream.unwrap().send(Ask::get(API, "/")).unwrap();
        assert_eq!(
            (reply.status, reply.upstream_saw("x-forwarded-for")),
            (200, vec!["127.0.0.1".to_owned()]),
            "{version}"
        );
    }
}

fn behind_a_proxy(scene: &Scene) -> Value {
    let mut config = scene.plain();
    config["listeners"]["edge"]["proxy_protocol"] = json!("required");
    config["listeners"]["edge"]["trusted_proxies"] = json!(["127.0.0.0/8"]);
    config
}

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, block].concat()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    stream
}

fn exchange(gateway: &Gateway, header: &[u8]) -> String {
    exchange_with(gateway, header, "")
}

/// Header and request in one write; what comes back until the gateway closes.
fn exchange_with(gateway: &Gateway, header: &[u8], fields: &str) -> String {
    let mut stream = connect(gateway.address("edge"));
    let request = format!("GET / HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n{fields}\r\n");
    // Closed before all was written, perhaps: what comes back tells.
    let _ = stream.write_all(&[header, request.as_bytes()].concat());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// A connection of this client on which a request was answered; nothing if it is closed.
fn opened(gateway: &Gateway, client: &str) -> Option<TcpStream> {
    let mut stream = connect(gateway.address("edge"));
    let request =
        format!("PROXY TCP4 {client} 198.51.100.1 51234 443\r\nGET / HTTP/1.1\r\nHost: {API}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    (answer == *b"HTTP/1.1 200").then_some(stream)
}
