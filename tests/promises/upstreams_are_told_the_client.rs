//! An upstream with `proxy_protocol` is told whose connection it gets, in either version of the PROXY protocol, and gets no request of
//! anybody else on it. HAProxy behind the gateway says what it was told.

use serde_json::{Value, json};
use testkit::{Ask, Authority, Connection, Gateway, Haproxy, Leaf, Protocol, Wire, eventually};

use crate::scene::{API, Scene};

/// What HAProxy answers: who asks, what he connected to, and whether it is the connection's first request. It prints no port where it was
/// told 0.
const TELLS: &str = "  http-request deny deny_status 503 if { path /check } !{ fc_rcvd_proxy }
  http-request deny deny_status 503 if { path /check } !{ src 127.0.0.1 }
  http-request return status 200 content-type text/plain lf-string \"%[src] %[src_port] %[dst] %[dst_port] %[http_first_req]\"
";

/// Two clients behind a proxy in front, in turn, over connections that stay: each is announced, and each connection is used again.
#[test]
fn each_client_has_connections_of_its_own_under_the_address_that_is_believed() {
    for version in ["v1", "v2"] {
        let (scene, backend) = (Scene::new(), haproxy(""));
        let mut config = told(&scene, &format!("http://{}", backend.address()), version);
        config["listeners"]["edge"]["proxy_protocol"] = json!("required");
        let gateway = scene.site.start(&config);
        let mut one = opened(&gateway, "TCP4 203.0.113.7 198.51.100.1 51234 443");
        let mut other = opened(&gateway, "TCP6 2001:db8::8 2001:db8::1 51235 8443");
        for turn in ["1", "0", "0"] {
            assert_eq!(ask(&mut one), format!("203.0.113.7 51234 198.51.100.1 443 {turn}"), "{version}");
            assert_eq!(ask(&mut other), format!("2001:db8::8 51235 2001:db8::1 8443 {turn}"), "{version}");
        }
        drop((one, other));
        let clients = eventually("six records", || {
            let records = gateway.access_log();
            (records.len() == 6)
                .then(|| records.iter().map(|record| record["client"].clone()).collect::<Vec<_>>())
        });
        assert_eq!(clients.iter().filter(|client| **client == "203.0.113.7").count(), 3);
        assert_eq!(clients.iter().filter(|client| **client == "2001:db8::8").count(), 3);
    }
}

/// One connection of a trusted proxy carries requests of many clients: what it says of each counts, and no upstream connection does the same.
#[test]
fn requests_of_several_clients_on_one_connection_go_separate_ways() {
    for version in ["v1", "v2"] {
        let (scene, backend) = (Scene::new(), haproxy(""));
        let config = told(&scene, &format!("http://{}", backend.address()), version);
        let gateway = scene.site.start(&config);
        let server = gateway.address("edge");
        let mut connection = gateway.connect();
        let mut told = |client: Option<&str>| {
            let ask = Ask::get(API, "/");
            let ask = client.iter().fold(ask, |ask, client| ask.header("x-forwarded-for", client));
            connection.send(ask).unwrap().text()
        };
        for turn in ["1", "0", "0"] {
            let here = format!("127.0.0.1 {}", server.port());
            assert_eq!(told(Some("203.0.113.7")), format!("203.0.113.7  {here} {turn}"), "{version}");
            assert_eq!(told(Some("203.0.113.8")), format!("203.0.113.8  {here} {turn}"), "{version}");
            // One family for both: the server's address in the form of the client's.
            let mapped = told(Some("2001:db8::7"));
            let expected = format!("2001:db8::7  ::ffff:127.0.0.1 {} {turn}", server.port());
            assert_eq!(mapped, expected, "{version}");
            // The proxy's own request: with its port.
            let own = told(None);
            assert!(own.starts_with("127.0.0.1 ") && !own.starts_with("127.0.0.1  "), "{own}");
            assert!(own.ends_with(&format!(" {here} {turn}")), "{own}");
        }
    }
}

#[test]
fn the_header_comes_before_tls() {
    let scene = Scene::new();
    let authority = Authority::root("backend root");
    let issued = authority.issue(Leaf::server(&["back.internal"]));
    scene.site.write("backend.pem", authority.pem());
    let pem = scene.site.write("haproxy.pem", format!("{}{}", issued.chain, issued.key));
    let backend = haproxy(&format!(" ssl crt {}", pem.display()));
    let mut config = told(&scene, &format!("https://{}", backend.address()), "v2");
    config["trust"] = json!({ "backend": { "files": { "ca": "backend.pem" }, "names": "dns" } });
    config["upstreams"]["app"]["tls"] =
        json!({ "trust": ["backend"], "expect": "back.internal", "sni": "back.internal" });
    let gateway = scene.site.start(&config);
    let mut connection = Connection::plain(gateway.address("edge"), Protocol::H1).unwrap();
    for client in ["203.0.113.7", "203.0.113.8"] {
        let reply = connection.send(Ask::get(API, "/").header("x-forwarded-for", client)).unwrap();
        assert!(reply.text().starts_with(&format!("{client}  127.0.0.1 ")), "{}", reply.text());
    }
}

/// A check is nobody's: HAProxy takes its header and sees who really connects.
#[test]
fn a_health_check_is_announced_as_the_gateways_own() {
    for version in ["v1", "v2"] {
        let (scene, backend) = (Scene::new(), haproxy(""));
        let mut config = told(&scene, &format!("http://{}", backend.address()), version);
        config["upstreams"]["app"]["health"] = json!({ "path": "/check", "every": "1s", "unhealthy": 1 });
        let gateway = scene.site.start(&config);
        let checks = |result: &str| {
            gateway
                .metric(&format!("portcullis_upstream_checks_total{{upstream=\"app\",result=\"{result}\"}}"))
        };
        eventually("a good check", || (checks("ok") >= 1.0).then_some(()));
        assert_eq!(checks("failed"), 0.0, "{version}");
    }
}

/// HAProxy that wants a header on each connection.
fn haproxy(options: &str) -> Haproxy {
    Haproxy::start(&format!(
        "frontend back\n  mode http\n  bind 127.0.0.1:PORT accept-proxy{options}\n{TELLS}"
    ))
}

fn told(scene: &Scene, endpoint: &str, version: &str) -> Value {
    let mut config = scene.plain();
    config["listeners"]["edge"]["trusted_proxies"] = json!(["127.0.0.0/8"]);
    config["upstreams"]["app"] = json!({ "endpoints": [endpoint], "proxy_protocol": version });
    config
}

/// A connection that this header announces to the gateway.
fn opened(gateway: &Gateway, header: &str) -> Wire {
    let mut wire = Wire::plain(gateway.address("edge")).unwrap();
    wire.send(format!("PROXY {header}\r\n").as_bytes()).unwrap();
    wire
}

/// Asks on a connection that stays, and gives the answer's body.
fn ask(wire: &mut Wire) -> String {
    wire.send(format!("GET / HTTP/1.1\r\nHost: {API}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = wire.read_until("\r\n\r\n").unwrap();
    let length = answer.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let length = length.expect(&answer);
    let body = answer.split_off(answer.find("\r\n\r\n").unwrap() + 4);
    assert_eq!(body.len(), length, "the body came with its head");
    body
}
