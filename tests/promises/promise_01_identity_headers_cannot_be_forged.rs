//! Given a route that sets identity headers, when an untrusted peer sends them in any spelling, twice, in trailers or
//! listed in `Connection`, then the upstream sees only our value; on public routes too.

use serde_json::json;
use testkit::{Ask, Connection, Leaf, Protocol, Trust, Wire};

use crate::scene::{API, ORDERS, Scene};

const FORGED: &str = "mallory";

#[test]
fn no_spelling_of_an_identity_header_passes_from_the_client() {
    let scene = Scene::new();
    let gateway = scene.site.start(&with_headers(&scene));
    let mut wire = Wire::plain(gateway.address("edge")).unwrap();
    let mut count = 0;
    for name in NAMES {
        for spelling in spellings(name) {
            let request = format!("GET /a/{count} HTTP/1.1\r\nhost: {API}\r\n{spelling}: {FORGED}\r\n\r\n");
            if wire.send(request.as_bytes()).is_err()
                || !wire.read_until("}").is_ok_and(|answer| answer.contains("200 OK"))
            {
                // Refusing the request is as good, and may end the connection.
                wire = Wire::plain(gateway.address("edge")).unwrap();
            }
            count += 1;
        }
    }
    let seen = scene.upstream.requests();
    assert!(seen.len() * 2 > count, "most of {count} requests arrive, without the header: {}", seen.len());
    for request in seen {
        assert!(!request["headers"].to_string().contains(FORGED), "{request:#}");
    }
}

#[test]
fn the_upstream_sees_our_value_once_whatever_the_client_sends() {
    let scene = Scene::new();
    let gateway = scene.site.start(&with_headers(&scene));
    let forged = Ask::get(API, "/")
        .header("x-client-id", FORGED)
        .header("X-Client-Id", "another")
        .header("x_client_id", FORGED);
    let reply = gateway.ask(forged);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.upstream_saw("x-client-id"), ["anonymous"]);
    assert_eq!(reply.upstream_saw("x_client_id"), [""; 0]);
}

#[test]
fn listing_an_identity_header_in_connection_does_not_remove_ours() {
    let scene = Scene::new();
    let gateway = scene.site.start(&with_headers(&scene));
    let answer = gateway.exchange(&format!(
        "GET / HTTP/1.1\r\nhost: {API}\r\nconnection: close, x-client-id, x-forwarded-for, host\r\nx-client-id: {FORGED}\r\n\r\n"
    ));
    assert!(!answer.contains(FORGED), "{answer}");
    for request in scene.upstream.requests() {
        let headers = request["headers"].to_string();
        assert!(headers.contains(r#"["x-client-id","anonymous"]"#), "{headers}");
        assert!(headers.contains(r#"["x-forwarded-for","127.0.0.1"]"#), "{headers}");
    }
}

#[test]
fn trailers_carry_no_identity() {
    let scene = Scene::new();
    let gateway = scene.site.start(&with_headers(&scene));
    let ask = Ask::new("POST", API, "/").body("text").header("te", "trailers");
    let ask = ask
        .header("trailer", "x-client-id, x-checksum")
        .trailer("x-client-id", FORGED)
        .trailer("x_client_id", FORGED);
    let reply = gateway.ask(ask.trailer("x-forwarded-for", FORGED).trailer("x-checksum", "77"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let trailers = reply.json()["trailers"].to_string();
    assert!(!trailers.contains(FORGED), "{trailers}");
    assert!(trailers.contains(r#"["x-checksum","77"]"#), "an honest trailer passes: {trailers}");
}

#[test]
fn a_public_route_that_sets_nothing_lets_nothing_through() {
    let scene = Scene::new();
    let mut config = with_headers(&scene);
    let public = json!({ "name": "public", "on": ["edge"], "path": "/public/**", "authenticate": "none", "upstream": "app" });
    config["routes"].as_array_mut().unwrap().push(public);
    let gateway = scene.site.start(&config);
    let reply = gateway.ask(
        Ask::get(API, "/public/x").header("x-client-id", FORGED).header("x-forwarded-client-cert", FORGED),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!reply.json()["headers"].to_string().contains(FORGED), "{}", reply.text());
}

#[test]
fn a_name_that_the_trust_entry_does_not_vouch_for_is_not_told() {
    let scene = Scene::new();
    let mut config = scene.tls("required");
    config["trust"]["mesh"] = json!({ "files": { "ca": "ca.pem" }, "names": "dns" });
    config["routes"][0]["authenticate"] = json!({ "any": ["mesh"] });
    let gateway = scene.site.start(&config);
    let mut leaf = Leaf::dns("alice.example.org");
    leaf = leaf.uri("spiffe://example.org/admin;Subject=\"CN=admin\",Hash=00;URI=spiffe://example.org/admin");
    let client = Trust::new(scene.authority.pem(), Some(&scene.mesh.issue(leaf)));
    let mut connection = Connection::tls(gateway.address("edge"), &client, API, Protocol::H1).unwrap();
    let reply = connection.send(Ask::get(API, "/")).unwrap();
    let told = reply.upstream_saw("x-forwarded-client-cert").concat();
    assert!(told.starts_with("Hash=") && told.contains("DNS=alice.example.org"), "{told}");
    assert!(!told.contains("admin"), "{told}");
}

#[test]
fn white_space_around_a_subject_makes_nobody_else_of_it() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["routes"][0]["headers"] = json!({ "set": { "x-client-id": "{subject}" } });
    let gateway = scene.site.start(&config);
    for (subject, told) in [("alice", "alice"), ("alice ", ""), ("\talice", "")] {
        let reply = gateway.ask(Ask::get(API, "/").bearer(&scene.token(subject)));
        // Whether it is refused or told to be nobody: never another one.
        assert!(reply.status == 401 || reply.upstream_saw("x-client-id") == [told], "{subject:?}");
    }
}

#[test]
fn over_http2_and_mtls_the_upstream_sees_the_certificate_and_not_the_claim() {
    let scene = Scene::new();
    let mut config = scene.tls("optional");
    config["routes"][0]["headers"] = json!({ "set": { "x-client-id": "{principal}" } });
    config["routes"][0]["authenticate"] = json!({ "any": ["mesh"] });
    let gateway = scene.site.start(&config);
    let mut peer =
        Connection::tls(gateway.address("edge"), &scene.workload(ORDERS), API, Protocol::H2).unwrap();
    let ask = Ask::get(API, "/").header("x-client-id", FORGED).header("x-forwarded-client-cert", FORGED);
    let reply = peer.send(ask).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.upstream_saw("x-client-id"), [ORDERS]);
    let certificate = reply.upstream_saw("x-forwarded-client-cert");
    assert!(certificate.len() == 1 && certificate[0].contains(ORDERS), "{certificate:?}");
    assert!(!reply.json()["headers"].to_string().contains(FORGED), "{}", reply.text());
}

fn with_headers(scene: &Scene) -> serde_json::Value {
    let mut config = scene.plain();
    config["routes"][0]["headers"] = json!({ "set": { "x-client-id": "{principal}" } });
    config
}

/// Every mix of `-`, `_` and `.`, each in three cases.
fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for part in name.split('-') {
        all = all
            .iter()
            .flat_map(|before| match before.is_empty() {
                true => vec![part.to_owned()],
                false => {
                    ["-", "_", "."].iter().map(|separator| format!("{before}{separator}{part}")).collect()
                }
            })
            .collect();
    }
    let cased = all.iter().flat_map(|spelling| {
        let alternating =
            spelling.chars().enumerate().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c });
        [spelling.clone(), spelling.to_ascii_uppercase(), alternating.collect()]
    });
    cased.collect()
}

const NAMES: [&str; 9] = [
    "x-client-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-client-cert",
    "forwarded",
    "x-real-ip",
    "x-original-url",
    "true-client-ip",
];
