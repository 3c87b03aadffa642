//! A Host that belongs to another TLS policy than the server name of the connection gets 421 and nothing reaches the
//! upstream, over HTTP/1.1 and over coalesced HTTP/2; a missing server name follows an explicit default.

use serde_json::{Value, json};
use testkit::{Ask, Connection, Gateway, Protocol, Reply, Trust};

use crate::scene::{ADMIN, API, ORDERS, Scene};

#[test]
fn a_public_connection_does_not_carry_requests_for_the_guarded_host() {
    let scene = Scene::new();
    let gateway = scene.site.start(&guarded(&scene));
    for protocol in [Protocol::H1, Protocol::H2] {
        for host in [ADMIN, "ADMIN.example.com", "admin.example.com.", "admin.example.com:443"] {
            let reply = send(&gateway, &scene.client(), API, protocol, host).unwrap();
            assert!(
                reply.status == 421 || reply.status == 400,
                "{protocol:?} {host}: {} {}",
                reply.status,
                reply.text()
            );
        }
        let reply = send(&gateway, &scene.client(), API, protocol, ADMIN).unwrap();
        assert_eq!((reply.status, reply.code().as_str()), (421, "MISDIRECTED_REQUEST"));
    }
    assert_eq!(scene.upstream.requests().len(), 0, "nothing reaches the upstream");
}

#[test]
fn a_connection_goes_on_after_a_misdirected_request() {
    let scene = Scene::new();
    let gateway = scene.site.start(&guarded(&scene));
    let mut public = Connection::tls(gateway.address("edge"), &scene.client(), API, Protocol::H2).unwrap();
    assert_eq!(public.send(Ask::get(ADMIN, "/")).unwrap().status, 421);
    assert_eq!(public.send(Ask::get(API, "/")).unwrap().status, 200);
}

#[test]
fn the_guarded_host_is_reached_with_a_certificate_and_its_own_name() {
    let scene = Scene::new();
    let gateway = scene.site.start(&guarded(&scene));
    for protocol in [Protocol::H1, Protocol::H2] {
        assert_eq!(send(&gateway, &scene.workload(ORDERS), ADMIN, protocol, ADMIN).unwrap().status, 200);
        assert!(
            send(&gateway, &scene.client(), ADMIN, protocol, ADMIN).is_none(),
            "no certificate, no handshake"
        );
        let stranger = testkit::Authority::root("stranger");
        let stranger =
            Trust::new(scene.authority.pem(), Some(&stranger.issue(testkit::Leaf::spiffe(ORDERS))));
        assert!(send(&gateway, &stranger, ADMIN, protocol, ADMIN).is_none(), "nor with a stranger's");
    }
}

#[test]
fn without_a_server_name_the_listeners_own_policy_holds() {
    let scene = Scene::new();
    let gateway = scene.site.start(&guarded(&scene));
    // An address is not sent as a server name.
    assert_eq!(send(&gateway, &scene.client(), "127.0.0.1", Protocol::H1, API).unwrap().status, 200);
    assert_eq!(send(&gateway, &scene.client(), "127.0.0.1", Protocol::H1, ADMIN).unwrap().status, 421);
}

#[test]
fn without_a_server_name_the_handshake_is_refused_where_the_listener_says_so() {
    let scene = Scene::new();
    let mut config = guarded(&scene);
    config["listeners"]["edge"]["tls"]["without_sni"] = json!("refuse");
    let gateway = scene.site.start(&config);
    assert!(send(&gateway, &scene.client(), "127.0.0.1", Protocol::H1, API).is_none());
    assert_eq!(send(&gateway, &scene.client(), API, Protocol::H1, API).unwrap().status, 200);
}

#[test]
fn a_route_that_asks_for_a_certificate_refuses_the_anonymous() {
    let scene = Scene::new();
    let mut config = scene.tls("optional");
    config["routes"][0]["authenticate"] = json!({ "any": ["mesh"] });
    let gateway = scene.site.start(&config);
    let reply = send(&gateway, &scene.client(), API, Protocol::H2, API).unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (401, "CERTIFICATE_REQUIRED"));
    assert_eq!(send(&gateway, &scene.workload(ORDERS), API, Protocol::H2, API).unwrap().status, 200);
    assert_eq!(scene.upstream.requests().len(), 1);
}

#[test]
fn a_presented_certificate_that_names_nobody_is_refused_even_where_none_is_needed() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("optional"));
    for nobody in
        ["spiffe://elsewhere.org/ns/shop/sa/orders", "spiffe://example.org", "https://example.org/orders"]
    {
        let reply = send(&gateway, &scene.workload(nobody), API, Protocol::H1, API);
        assert!(reply.is_none_or(|reply| reply.status >= 400), "{nobody}");
    }
    assert_eq!(scene.upstream.requests().len(), 0);
}

/// The default policy asks for no certificate; `ADMIN` needs one.
fn guarded(scene: &Scene) -> Value {
    let mut config = scene.tls("off");
    config["listeners"]["edge"]["tls"]["hosts"] = json!({
        ADMIN: { "certificates": ["edge"], "client": { "mode": "required", "trust": ["mesh"] } }
    });
    config
}

/// `None` when the handshake or the connection fails: with TLS 1.3 a client learns of a refused certificate only then.
fn send(gateway: &Gateway, trust: &Trust, name: &str, protocol: Protocol, host: &str) -> Option<Reply> {
    let mut connection = Connection::tls(gateway.address("edge"), trust, name, protocol).ok()?;
    connection.send(Ask::get(host, "/")).ok()
}
