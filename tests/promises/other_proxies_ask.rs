//! Other proxies ask whether a request may pass: over HTTP (nginx, Traefik, Caddy) and over Envoy's gRPC. The verdict is the
//! pipeline's own, with the same status, code and challenge; only who is trusted may ask, and nobody's client can describe
//! another request than its own.

mod envoy;

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::{Ask, Connection, Gateway, Nginx, Protocol, Reply};

use self::envoy::{check, grpc, grpc_bytes, message_of, read};
use crate::scene::{API, Scene};

/// The client that the other proxies speak for.
const CLIENT: &str = "203.0.113.7";

/// Method, path, host, fields.
type Described<'a> = (&'a str, &'a str, &'a str, Vec<(&'a str, String)>);

#[test]
fn the_verdict_for_another_proxy_is_the_pipelines_own() {
    let scene = scene();
    let gateway = scene.site.start(&asked(&scene));
    let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
    let (alice, mallory) = (scene.token("alice"), scene.token("mallory"));
    let nobody = Vec::new;
    let long = format!("/open/{}", "a".repeat(9000));
    let table: Vec<Described<'_>> = vec![
        ("GET", "/open/a?b=c", API, nobody()),
        ("POST", "/open/a", API, nobody()),
        ("GET", "/orders/1", API, nobody()),
        ("GET", "/orders/1", API, bearer(&alice)),
        ("DELETE", "/orders/1", API, bearer(&alice)),
        ("GET", "/orders/1", API, bearer(&mallory)),
        ("GET", "/orders/1", API, bearer(&format!("{alice}x"))),
        ("GET", "/orders/1", API, bearer("no-token")),
        ("GET", "/orders/1", API, vec![("authorization", "Basic YTpi".into())]),
        ("GET", "/orders/%31", API, bearer(&alice)),
        ("GET", "/orders/%2e%2e/open/a", API, bearer(&alice)),
        ("GET", "/open/%2fa", API, nobody()),
        ("GET", "/open/a;b", API, nobody()),
        ("GET", "/nowhere", API, nobody()),
        ("PUT", "/read-only", API, nobody()),
        ("GET", "/read-only", API, nobody()),
        ("GET", "/open/a", "a b", nobody()),
        ("GET", "/open/a", "elsewhere.example.com:8443", nobody()),
        ("TRACE", "/open/a", API, nobody()),
        ("GET", &long, API, nobody()),
        ("GET", "/certified", API, bearer(&alice)),
        ("GET", "/nobody", API, bearer(&alice)),
        ("GET", "/open/a", API, vec![("expect", "y".into())]),
    ];
    let mut permitted = 0;
    for described in &table {
        let direct = verdict(&directly(&gateway, described));
        let over_http = verdict(&forward_auth(gateway.address("ask"), &fields_of(described)));
        assert_eq!(over_http, direct, "forward-auth, {described:?}");
        let over_grpc = check(gateway.address("envoy"), &message_of(described));
        let challenge = over_grpc.fields.iter().find(|(name, _)| name == "www-authenticate");
        let code = serde_json::from_str::<Value>(&over_grpc.body).unwrap_or_default();
        let over_grpc = (
            over_grpc.status,
            code["error"]["code"].as_str().unwrap_or_default().to_owned(),
            challenge.map(|(_, value)| value.clone()).into_iter().collect(),
        );
        assert_eq!(over_grpc, direct, "ext_authz, {described:?}");
        permitted += usize::from(direct.0 == 200);
    }
    assert_eq!(permitted, 7, "some pass and some do not");
    assert!(
        gateway.metric("portcullis_validated_requests_total{listener=\"ask\",verdict=\"permitted\"}") > 6.0
    );
    let records = gateway.access_log();
    let asked = records.iter().find(|record| record["listener"] == "ask" && record["path"] == "/orders/1");
    let asked = asked.expect("a question is in the access log as the request that it describes");
    assert_eq!((&asked["client"], &asked["host"]), (&json!(CLIENT), &json!(API)));
}

#[test]
fn what_the_route_would_set_is_handed_out_and_what_nobody_may_send_is_removed() {
    let scene = scene();
    let gateway = scene.site.start(&asked(&scene));
    let forged =
        [("x-client-id", "root".to_owned()), ("x-user", "root".to_owned()), ("accept", "*/*".to_owned())];
    let token = ("authorization", format!("Bearer {}", scene.token("alice")));
    let described = ("GET", "/orders/1", API, [forged.as_slice(), &[token]].concat());
    let reply = forward_auth(gateway.address("ask"), &fields_of(&described));
    assert_eq!((reply.status, reply.header("x-client-id")), (200, vec!["alice".to_owned()]));
    assert_eq!(reply.header("authorization"), [""; 0], "the caller's own credential ends here");
    assert_eq!(reply.header("cache-control"), ["no-store"]);
    let answer = check(gateway.address("envoy"), &message_of(&described));
    assert_eq!(answer.fields, [("x-client-id".to_owned(), "alice".to_owned())]);
    let mut removed = answer.removed;
    removed.sort();
    assert_eq!(removed, ["authorization", "x-user"]);

    let minted = ("GET", "/minted", API, described.3);
    let reply = forward_auth(gateway.address("ask"), &fields_of(&minted));
    let bearer = reply.header("authorization").concat();
    assert!(bearer.starts_with("Bearer ") && !bearer.contains(&scene.token("alice")), "{bearer}");
    let direct = directly(&gateway, &minted);
    let claims = |bearer: &str| {
        let claims = URL_SAFE_NO_PAD.decode(bearer.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice::<Value>(&claims).unwrap()
    };
    let (ours, theirs) = (claims(&bearer), claims(&direct.upstream_saw("authorization").concat()));
    for claim in ["iss", "aud", "sub", "scope"] {
        assert_eq!(ours[claim], theirs[claim], "{claim}");
    }
    assert!(
        check(gateway.address("envoy"), &message_of(&minted))
            .fields
            .iter()
            .any(|(name, _)| name == "authorization")
    );
}

#[test]
fn only_who_is_trusted_may_ask() {
    let scene = scene();
    let mut config = asked(&scene);
    for listener in ["ask", "envoy"] {
        config["listeners"][listener]["trusted_proxies"] = json!(["192.0.2.0/24"]);
    }
    let gateway = scene.site.start(&config);
    let described = ("GET", "/open/a", API, Vec::new());
    let reply = forward_auth(gateway.address("ask"), &fields_of(&described));
    assert_eq!((reply.status, reply.code().as_str()), (403, "PROXY_UNTRUSTED"));
    // As gRPC says it: Envoy takes a call that fails for a denial.
    let reply = grpc(gateway.address("envoy"), &message_of(&described));
    let said = [reply.header("grpc-status"), reply.header("x-portcullis-code")].concat();
    assert_eq!((reply.status, said), (200, vec!["7".to_owned(), "PROXY_UNTRUSTED".to_owned()]));
}

#[test]
fn who_proved_himself_by_a_certificate_may_ask() {
    let scene = scene();
    let mut config = asked(&scene);
    let tls = scene.tls("required");
    config["certificates"] = tls["certificates"].clone();
    config["listeners"]["ask"] = json!({
        "bind": "127.0.0.1:0", "tls": tls["listeners"]["edge"]["tls"], "validate": { "routes_of": "edge" },
    });
    let gateway = scene.site.start(&config);
    let trust = scene.workload("spiffe://example.org/ns/edge/sa/nginx");
    let mut proxy = Connection::tls(gateway.address("ask"), &trust, "localhost", Protocol::H2).unwrap();
    let described = ("GET", "/open/a", API, Vec::new());
    assert_eq!(proxy.send(question(&fields_of(&described))).unwrap().status, 200);
    let stranger = Connection::tls(gateway.address("ask"), &scene.client(), "localhost", Protocol::H1);
    assert!(stranger.and_then(|mut stranger| stranger.send(question(&fields_of(&described)))).is_err());
}

#[test]
fn a_description_that_can_be_read_in_two_ways_is_refused() {
    let scene = scene();
    let gateway = scene.site.start(&asked(&scene));
    let whole = fields_of(&("GET", "/open/a", API, Vec::new()));
    let ask = |fields: &[(String, String)]| {
        let reply = forward_auth(gateway.address("ask"), fields);
        (reply.status, reply.code())
    };
    assert_eq!(ask(&whole).0, 200);
    let invalid = (400, "DESCRIPTION_INVALID".to_owned());
    for at in 0..5 {
        let mut without = whole.clone();
        let (name, _) = without.remove(at);
        assert_eq!(ask(&without), invalid, "without {name}");
    }
    for name in ["x-original-uri", "x-original-method", "x-original-host"] {
        let added = [whole.as_slice(), &[(name.to_owned(), "/open/a".to_owned())]].concat();
        assert_eq!(ask(&added), invalid, "a client adds {name}");
    }
    let twice = [whole.as_slice(), &[("x-forwarded-uri".to_owned(), "/orders/1".to_owned())]].concat();
    assert_eq!(ask(&twice), invalid);
    // The other proxy forwards what it got: what the pipeline would merge or resolve on the way stays two readings.
    for path in ["//open/a", "/orders/../open/a", "/open/./a"] {
        let described = ("GET", path, API, Vec::new());
        assert_eq!(ask(&fields_of(&described)), (400, "PATH_AMBIGUOUS".to_owned()), "{path}");
    }
    let answer = grpc(gateway.address("envoy"), b"\xff\xff");
    assert_eq!(
        (answer.status, read(&answer.body[5..]).status),
        (200, 400),
        "no message is a denial, not a fault"
    );
    let compressed = grpc_bytes(gateway.address("envoy"), b"\x01\0\0\0\0");
    assert_eq!(read(&compressed.body[5..]).status, 400);
}

#[test]
fn limits_count_the_client_and_not_the_proxy_that_asks() {
    let scene = scene();
    let gateway = scene.site.start(&asked(&scene));
    let ask = |client: &str| {
        let mut fields = fields_of(&("GET", "/limited", API, Vec::new()));
        fields[4].1 = client.to_owned();
        forward_auth(gateway.address("ask"), &fields)
    };
    assert_eq!(ask("198.51.100.1").status, 200);
    let limited = ask("203.0.113.9, 198.51.100.1");
    assert_eq!(
        (limited.status, limited.code().as_str()),
        (429, "RATE_LIMITED"),
        "what stands further left is hearsay"
    );
    assert!(!limited.header("retry-after").is_empty());
    assert_eq!(ask("198.51.100.2").status, 200);
}

#[test]
fn nginx_lets_pass_what_the_gateway_permits() {
    let scene = scene();
    let gateway = scene.site.start(&asked(&scene));
    let sample = include_str!("../../deploy/other-proxies/nginx.conf");
    let (_, locations) = sample.split_once("listen 8000;").unwrap();
    let locations = locations.trim_end().strip_suffix('}').unwrap();
    let locations = replaced(locations, "http://127.0.0.1:8090", &scene.upstream.url());
    let nginx = Nginx::in_front(&replaced(&locations, "127.0.0.1:9191", &gateway.address("ask").to_string()));
    let ask = |ask: Ask| Connection::plain(nginx.address(), Protocol::H1).unwrap().send(ask).unwrap();
    let before = scene.upstream.requests().len();
    assert_eq!(ask(Ask::get(API, "/orders/1")).status, 401);
    assert_eq!(ask(Ask::get(API, "/orders/1").header("x-client-id", "root")).status, 401);
    assert_eq!(ask(Ask::get(API, "/orders/1").bearer(&scene.token("mallory"))).status, 403);
    // nginx knows no other verdicts than these.
    assert_eq!(ask(Ask::get(API, "/nowhere")).status, 500);
    assert_eq!(scene.upstream.requests().len(), before, "nothing of it arrived");
    let alice =
        Ask::new("POST", API, "/orders/1").bearer(&scene.token("alice")).header("x-client-id", "root");
    let reply = ask(alice.body("order"));
    assert_eq!((reply.status, reply.upstream_saw("x-client-id")), (200, vec!["alice".to_owned()]));
    assert_eq!(reply.upstream_saw("authorization"), [""; 0]);
    // A client that describes another request to an nginx that describes this one.
    let forged =
        Ask::get(API, "/orders/1").header("x-forwarded-uri", "/open/a").header("x-forwarded-method", "GET");
    assert_eq!(ask(forged).status, 500);
    assert_eq!(ask(Ask::get(API, "/open/a").header("x-original-uri", "/orders/1")).status, 200);
}

/// A sample's text with the test's address in the place of the sample's.
fn replaced(sample: &str, from: &str, to: &str) -> String {
    assert_eq!(sample.matches(from).count(), 1, "{from}");
    sample.replacen(from, to, 1)
}

fn scene() -> Scene {
    let scene = Scene::without_policy();
    scene.site.policy(
        "shop",
        r#"permit(principal, action, resource) unless { resource == Route::"nobody" };
        forbid(principal is Jwt, action, resource) when { principal.subject == "mallory" };
        @id("scope") permit(principal, action == Action::"grant", resource);"#,
    );
    scene
}

/// A listener `edge` with routes, and two that answer other proxies by them.
fn asked(scene: &Scene) -> Value {
    let mut config = scene.tokens();
    let listeners = json!({
        "edge": { "bind": "127.0.0.1:0", "trusted_proxies": [] },
        "ask": { "bind": "127.0.0.1:0", "trusted_proxies": ["127.0.0.0/8"], "validate": { "routes_of": "edge" } },
        "envoy": {
            "bind": "127.0.0.1:0", "trusted_proxies": ["127.0.0.0/8"],
            "validate": { "routes_of": "edge", "protocol": "ext_authz" },
        },
    });
    let route = |name: &str, path: &str, authenticate: Value| json!({ "name": name, "on": ["edge"], "path": path, "authenticate": authenticate, "upstream": "app" });
    let staff = json!({ "any": ["staff"] });
    let mut routes = vec![
        route("orders", "/orders/**", staff.clone()),
        route("minted", "/minted", staff.clone()),
        route("open", "/open/**", json!("none")),
        route("read-only", "/read-only", json!("none")),
        route("limited", "/limited", json!("none")),
        route("certified", "/certified", json!({ "all": ["staff", "mesh"] })),
        route("nobody", "/nobody", staff),
    ];
    routes[0]["headers"] = json!({ "set": { "x-client-id": "{subject}" } });
    routes[1]["token"] = json!("internal");
    routes[3]["methods"] = json!(["GET"]);
    routes[4]["limits"] = json!(["once"]);
    config["limits"] = json!({ "once": { "key": "address", "rate": "1/h", "burst": 1, "at": "edge" } });
    config["identity"]["tokens"] =
        json!({ "internal": { "issuer": "https://gw.internal", "scopes": ["orders"] } });
    config["trust"] = scene.tls("off")["trust"].clone();
    (config["listeners"], config["routes"]) = (listeners, json!(routes));
    config
}

/// Status (200 is a permit), code and challenge.
fn verdict(reply: &Reply) -> (u16, String, Vec<String>) {
    (reply.status, reply.code(), reply.header("www-authenticate"))
}

fn directly(gateway: &Gateway, (method, path, host, fields): &Described<'_>) -> Reply {
    let ask = fields.iter().fold(Ask::new(method, host, path), |ask, (name, value)| ask.header(name, value));
    gateway.ask(ask)
}

fn fields_of((method, path, host, fields): &Described<'_>) -> Vec<(String, String)> {
    let description = [
        ("x-forwarded-method", *method),
        ("x-forwarded-uri", *path),
        ("x-forwarded-host", *host),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", CLIENT),
    ];
    let own = fields.iter().map(|(name, value)| (*name, value.as_str()));
    description.into_iter().chain(own).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn question(fields: &[(String, String)]) -> Ask {
    fields.iter().fold(Ask::get("portcullis", "/verify"), |ask, (name, value)| ask.header(name, value))
}

fn forward_auth(listener: SocketAddr, fields: &[(String, String)]) -> Reply {
    Connection::plain(listener, Protocol::H1).unwrap().send(question(fields)).unwrap()
}
