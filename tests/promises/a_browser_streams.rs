//! A browser that somebody else wrote, headless Chromium, loads a page through the gateway, and on the same HTTP/2 connection
//! opens a WebSocket and an event stream, which it takes up again where it was cut.

use std::process::Command;

use serde_json::{Value, json};
use testkit::{Service, WebSockets, eventually, run};

use crate::scene::{API, Scene};

/// Tells the service what it saw, as requests.
const PAGE: &str = r"<!doctype html><title>streams</title><script>
const saw = (what, value) => fetch(`/saw/${what}?${encodeURIComponent(value)}`);
const socket = new WebSocket(`wss://${location.host}/socket`, 'chat');
socket.onopen = () => socket.send('hello');
socket.onmessage = message => { saw('message', `${socket.protocol}-${message.data}`); socket.close(1000); };
socket.onclose = event => saw('close', `${event.code}-${event.wasClean}`);
const events = new EventSource('/events');
events.onmessage = event => saw('event', `${event.lastEventId}-${event.data}`);
</script>";

#[test]
fn a_websocket_and_an_event_stream_open_in_chromium() {
    let (scene, sockets) = (Scene::new(), WebSockets::start());
    let mut config = scene.tls("off");
    config["upstreams"]["chat"] = json!({ "endpoints": [sockets.url()] });
    config["upstreams"]["app"]["timeouts"] = json!({ "idle": "2s" });
    let page = json!({ "name": "page", "on": ["edge"], "path": "/page", "authenticate": "none",
        "respond": { "status": 200, "body": PAGE }, "headers": { "response": { "set": { "content-type": "text/html" } } } });
    let socket = json!({ "name": "socket", "on": ["edge"], "path": "/socket", "authenticate": "none",
        "upstream": "chat", "upgrade": ["websocket"] });
    config["routes"].as_array_mut().unwrap().extend([page, socket]);
    let gateway = scene.site.start(&config);
    let url = format!("https://{API}:{}/page", gateway.address("edge").port());
    let mut chromium = Command::new("chromium");
    chromium
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
        ])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
        .arg(format!("--user-data-dir={}", scene.site.path("browser").display()))
        .arg(format!("--host-resolver-rules=MAP {API} 127.0.0.1"))
        .arg(format!("--ignore-certificate-errors-spki-list={}", key_digest(&scene)))
        .arg("--remote-debugging-port=0")
        .arg(url);
    let browser = Service::spawn(&mut chromium, &scene.site.path("browser.log"));
    let seen = |target: &str| {
        let requests = scene.upstream.requests();
        requests.into_iter().find(|request| request["target"].as_str().unwrap().contains(target))
    };
    let soon = |target: &str| eventually(&format!("{target}\n{}", browser.output()), || seen(target));
    soon("/saw/message?chat-hello");
    soon("/saw/close?1000-true");
    eventually("the event arrives", || {
        scene.upstream.emit("id: 7\ndata: tick\n\n");
        seen("/saw/event?7-tick")
    });
    // The gateway cuts a stream that says nothing; the browser comes back and says what it saw last.
    let again = |request: &&Value| {
        let fields = request["headers"].as_array().unwrap();
        request["target"] == "/events" && fields.contains(&json!(["last-event-id", "7"]))
    };
    eventually("the browser comes back", || scene.upstream.requests().iter().find(again).cloned());
    let log = gateway.access_log();
    let of = |path: &str| log.iter().find(|record| record["path"] == path).unwrap();
    assert_eq!((&of("/socket")["protocol"], &of("/socket")["status"]), (&json!("HTTP/2"), &json!(200)));
    assert_eq!(of("/events")["code"], "UPSTREAM_STALLED");
}

/// What Chromium knows the edge's certificate by.
fn key_digest(scene: &Scene) -> String {
    let commands = "openssl x509 -in \"$0\" -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64";
    let digest = run(Command::new("sh").arg("-c").arg(commands).arg(scene.site.path("edge.pem")));
    digest.stdout.trim().to_owned()
}
