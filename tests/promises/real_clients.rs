//! Clients and servers that somebody else wrote: curl in front, nginx behind.

use serde_json::{Value, json};
use testkit::{Ask, Authority, Connection, Curl, Leaf, Nginx, Protocol, Upstream, Wire, eventually, sha256};

use crate::scene::{API, ORDERS, Scene};

/// Larger than every buffer on the way, and no multiple of one.
const LARGE: usize = (24 << 20) + 12_345;

#[test]
fn curl_over_http1_and_http2_with_and_without_a_client_certificate() {
    let scene = Scene::new();
    let mut config = scene.tls("optional");
    config["routes"][0]["headers"] = json!({ "set": { "x-client-id": "{principal}" } });
    let mut guarded = config["routes"][0].clone();
    guarded["name"] = json!("guarded");
    guarded["path"] = json!("/guarded");
    guarded["authenticate"] = json!({ "any": ["mesh"] });
    config["routes"].as_array_mut().unwrap().push(guarded);
    let gateway = scene.site.start(&config);
    let member = scene.member(ORDERS);
    scene.site.certificate("client", &member);
    let curl = |version: &str, path: &str| {
        Curl::new(&format!("https://{API}{path}"), gateway.address("edge"))
            .args(&[version])
            .trusting(&scene.site.path("roots.pem"))
    };
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let open = curl(flag, "/").run();
        assert_eq!((open.status, open.version.as_str(), open.complaint.as_str()), (200, version, ""));
        let anonymous = curl(flag, "/guarded").run();
        assert_eq!((anonymous.status, anonymous.version.as_str()), (401, version), "{}", anonymous.complaint);
        let client =
            curl(flag, "/guarded").presenting(&scene.site.path("client.pem"), &scene.site.path("client.key"));
        let proven = client.run();
        assert_eq!((proven.status, proven.version.as_str()), (200, version), "{}", proven.complaint);
        assert!(proven.json()["headers"].to_string().contains(ORDERS), "{}", proven.json());
    }
}

#[test]
fn curl_over_plain_http_is_redirected_where_the_listener_says_so() {
    let scene = Scene::new();
    let mut config = scene.tls("off");
    config["listeners"]["plain"] = json!({ "bind": "127.0.0.1:0", "redirect": "https" });
    let gateway = scene.site.start(&config);
    let reply = Connection::plain(gateway.address("plain"), Protocol::H1)
        .unwrap()
        .send(Ask::get(API, "/a?b=c"))
        .unwrap();
    assert_eq!(reply.status, 308);
    assert!(reply.header("location")[0].starts_with(&format!("https://{API}")), "{:?}", reply.headers);
    assert!(reply.header("location")[0].ends_with("/a?b=c"), "{:?}", reply.headers);
}

#[test]
fn a_large_upload_and_a_large_download_arrive_unchanged() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("off"));
    let bytes = Upstream::pattern(LARGE);
    let file = scene.site.write("upload", &bytes);
    for version in ["--http1.1", "--http2"] {
        let curl = |path: &str| {
            Curl::new(&format!("https://{API}{path}"), gateway.address("edge"))
                .args(&[version])
                .trusting(&scene.site.path("roots.pem"))
        };
        let uploaded = curl("/upload").uploading(&file).run();
        assert_eq!((uploaded.status, uploaded.complaint.as_str()), (200, ""));
        assert_eq!(
            (uploaded.json()["bytes"].as_u64(), &uploaded.json()["sha256"]),
            (Some(LARGE as u64), &json!(sha256(&bytes)))
        );
        let chunked = curl("/upload").args(&["-H", "transfer-encoding: chunked"]).uploading(&file).run();
        assert_eq!(chunked.json()["sha256"], json!(sha256(&bytes)), "{version} {}", chunked.complaint);
        let downloaded = curl(&format!("/download-{LARGE}")).run();
        assert_eq!((downloaded.status, downloaded.body.len()), (200, LARGE), "{}", downloaded.complaint);
        assert_eq!(sha256(&downloaded.body), sha256(&bytes));
    }
}

#[test]
fn a_refused_form_gets_its_answer() {
    let scene = Scene::without_policy();
    let gateway = scene.site.start(&scene.tls("off"));
    for _ in 0..20 {
        for version in ["--http1.1", "--http2"] {
            let curl =
                Curl::new(&format!("https://{API}/"), gateway.address("edge")).args(&[version, "-d", "x=1"]);
            let reply = curl.trusting(&scene.site.path("roots.pem")).run();
            assert_eq!(reply.status, 403, "{version}: {}", reply.complaint);
        }
    }
    assert_eq!(scene.upstream.requests().len(), 0);
}

#[test]
fn nginx_is_an_upstream_over_plain_and_over_tls() {
    let scene = Scene::new();
    let backend = Authority::root("backend root");
    let server = backend.issue(Leaf::server(&["files.internal"]));
    let (plain, tls) = (Nginx::start(None, None), Nginx::start(Some(&server), None));
    let mutual = Nginx::start(Some(&server), Some(scene.mesh.pem()));
    let bytes = Upstream::pattern(LARGE);
    scene.site.certificate("self", &scene.mesh.issue(Leaf::client("gateway")));
    scene.site.write("backend.pem", backend.pem());
    let mut config = scene.plain();
    config["certificates"] = json!({ "self": { "files": { "certificate": "self.pem", "key": "self.key" } } });
    config["trust"] = json!({ "backend": { "files": { "ca": "backend.pem" }, "names": "dns" } });
    let verified = json!({ "trust": ["backend"], "expect": "files.internal", "sni": "files.internal" });
    let mut presenting = verified.clone();
    presenting["present"] = json!("self");
    config["routes"] = json!([]);
    config["upstreams"] = json!({});
    for (name, nginx, tls) in
        [("plain", &plain, Value::Null), ("tls", &tls, verified), ("mutual", &mutual, presenting)]
    {
        nginx.serve("large", &bytes);
        config["upstreams"][name] = json!({ "endpoints": [nginx.url()] });
        if !tls.is_null() {
            config["upstreams"][name]["tls"] = tls;
        }
        let route = json!({ "name": name, "on": ["edge"], "path": format!("/{name}/**"), "authenticate": "none",
            "rewrite": { "strip_prefix": format!("/{name}") }, "upstream": name });
        config["routes"].as_array_mut().unwrap().push(route);
    }
    let gateway = scene.site.start(&config);
    let mut connection = gateway.connect();
    for name in ["plain", "tls", "mutual"] {
        let large = connection.send(Ask::get(API, &format!("/{name}/large"))).unwrap();
        assert_eq!((large.status, large.body.len()), (200, LARGE), "{name}");
        assert_eq!(sha256(&large.body), sha256(&bytes), "{name}");
        let who = connection.send(Ask::get(API, &format!("/{name}/who"))).unwrap().text();
        assert!(who.starts_with("HTTP/1.1 "), "{name}: {who}");
        assert_eq!(who.contains("CN=gateway"), name == "mutual", "{name}: {who}");
        assert_eq!(
            connection.send(Ask::get(API, &format!("/{name}/gone"))).unwrap().status,
            404,
            "nginx's own answer"
        );
    }
}

#[test]
fn an_event_stream_arrives_line_by_line() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("off"));
    for protocol in [Protocol::H1, Protocol::H2] {
        let mut connection =
            Connection::tls(gateway.address("edge"), &scene.client(), API, protocol).unwrap();
        let mut events =
            connection.open(Ask::get(API, "/events").header("accept", "text/event-stream")).unwrap();
        assert_eq!(events.status(), 200);
        eventually("the upstream streams", || (scene.upstream.listeners() == 1).then_some(()));
        for number in 0..5 {
            // The next line is written only after this one was read: nothing on the way may wait for more.
            let line = format!("data: {number}\n\n");
            scene.upstream.emit(&line);
            assert_eq!(events.next_piece().unwrap().unwrap(), line.as_bytes(), "{protocol:?}");
        }
        drop(connection);
        // The client went away: nothing is read from the upstream for nobody.
        eventually("the upstream's stream ends", || {
            scene.upstream.emit("data: nobody\n\n");
            (scene.upstream.listeners() == 0).then_some(())
        });
    }
}

#[test]
fn expect_continue_and_trailers_pass() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.plain());
    let mut wire = Wire::plain(gateway.address("edge")).unwrap();
    wire.send(format!("POST / HTTP/1.1\r\nhost: {API}\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let go_on = wire.read_until("\r\n\r\n").unwrap();
    assert!(go_on.starts_with("HTTP/1.1 100"), "{go_on}");
    wire.send(b"body").unwrap();
    assert!(wire.read_to_close().contains("200 OK"));
    assert_eq!(scene.upstream.requests()[0]["body"], "body");
    let reply = gateway.ask(Ask::get(API, "/trailers").header("te", "trailers"));
    assert_eq!(
        reply.trailers.get("x-upstream-trailer").map(|value| value.as_bytes()),
        Some(&b"after the body"[..])
    );
}

#[test]
fn answers_carry_security_headers_and_no_hop_by_hop_ones() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("off"));
    let mut connection =
        Connection::tls(gateway.address("edge"), &scene.client(), API, Protocol::H1).unwrap();
    let reply = connection.send(Ask::get(API, "/")).unwrap();
    for name in ["strict-transport-security", "x-content-type-options", "referrer-policy"] {
        assert_eq!(reply.header(name).len(), 1, "{name}: {:?}", reply.headers);
    }
    assert_eq!(reply.header("keep-alive"), [""; 0]);
}
