//! An upstream with several endpoints serves on while one of them is dead, comes and goes, or is slow; what belongs to
//! other upstreams is not touched.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Ask, Gateway, eventually, free_port};

use crate::scene::{API, Scene};

#[test]
fn no_request_fails_beside_a_dead_endpoint_and_it_is_left_out() {
    let (scene, good) = (Scene::new(), Backend::start(Mode::Answer));
    let dead = format!("http://127.0.0.1:{}", free_port());
    let mut config = with_endpoints(&scene, &json!([dead, good.url()]));
    // Others are not concerned.
    config["upstreams"]["other"] = json!({ "endpoints": [scene.upstream.url()] });
    config["routes"].as_array_mut().unwrap().push(
        json!({ "name": "other", "on": ["edge"], "path": "/other", "authenticate": "none", "upstream": "other" }),
    );
    let gateway = scene.site.start(&config);
    thread::scope(|scope| {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut connection = gateway.connect();
                for n in 0..100 {
                    // Nothing was sent to the dead one, so that any method may go elsewhere.
                    let reply = connection.send(Ask::new(method, API, "/x").body("x")).unwrap();
                    assert_eq!(reply.status, 200, "{method} {n}: {}", reply.text());
                    assert_eq!(connection.send(Ask::get(API, "/other")).unwrap().status, 200);
                }
            });
        }
    });
    assert_eq!(good.requests(), 400, "each arrived once");
    assert!(gateway.metric("portcullis_upstream_ejections_total{upstream=\"app\"}") >= 1.0);
    assert!(
        gateway.metric("portcullis_upstream_retries_total{upstream=\"app\",reason=\"not_connected\"}") >= 5.0
    );
    let other = "portcullis_upstream_ejections_total{upstream=\"other\"}";
    assert!(gateway.metrics().contains(&format!("{other} 0")), "{}", gateway.metrics());
    let healthy = |endpoint: &str| {
        let line =
            format!("portcullis_upstream_endpoint_healthy{{upstream=\"app\",endpoint=\"{endpoint}\"}}");
        gateway.metrics().lines().find_map(|known| known.strip_prefix(&line)?.trim().parse::<u8>().ok())
    };
    eventually("the metrics name the dead one", || {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
        (healthy(&dead) == Some(0) && healthy(&good.url()) == Some(1)).then_some(())
    });
    let socket = scene.site.path("control.sock");
    eventually("`status` tells", || {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
        let told =
            scene.site.portcullis(&["status", "--format", "json", "--socket", socket.to_str().unwrap()]);
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        let state = |endpoint: &str| told["upstreams"]["app"]["endpoints"][endpoint]["state"].clone();
        (state(&dead) == "ejected" && state(&good.url()) == "usable").then_some(())
    });
}

#[test]
fn no_safe_request_fails_beside_an_endpoint_that_comes_and_goes() {
    let (scene, good, flapping) = (Scene::new(), Backend::start(Mode::Answer), Backend::start(Mode::Answer));
    let mut config = with_endpoints(&scene, &json!([flapping.url(), good.url()]));
    config["upstreams"]["app"]["ejection"] = json!({ "failures": 2, "for": "100ms" });
    let gateway = scene.site.start(&config);
    let mut connection = gateway.connect();
    for n in 0..400 {
        // Ten requests well, ten requests not at all.
        flapping.be(if n / 10 % 2 == 0 { Mode::Answer } else { Mode::Die });
        let reply = connection.send(Ask::get(API, "/x")).unwrap();
        assert_eq!(reply.status, 200, "{n}: {}", reply.text());
    }
    flapping.be(Mode::Answer);
    let before = flapping.requests();
    eventually("it is asked again when it is back", || {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
        (flapping.requests() > before + 3).then_some(())
    });
}

#[test]
fn the_least_loaded_gives_a_slow_endpoint_little() {
    let slow = Backend::start(Mode::Wait(Duration::from_millis(300)));
    let (scene, good) = (Scene::new(), Backend::start(Mode::Answer));
    let mut config = with_endpoints(&scene, &json!([slow.url(), good.url()]));
    config["upstreams"]["app"]["balance"] = json!("least_loaded");
    let gateway = scene.site.start(&config);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = gateway.connect();
                for _ in 0..50 {
                    assert_eq!(connection.send(Ask::get(API, "/x")).unwrap().status, 200);
                }
            });
        }
    });
    assert_eq!(slow.requests() + good.requests(), 200);
    assert!(slow.requests() <= 20, "the slow one got {} of 200", slow.requests());
}

#[test]
fn where_all_endpoints_are_dead_the_answer_is_502_and_nothing_else_suffers() {
    let scene = Scene::new();
    let dead = [free_port(), free_port()].map(|port| format!("http://127.0.0.1:{port}"));
    let gateway = scene.site.start(&with_endpoints(&scene, &json!(dead)));
    for _ in 0..30 {
        let reply = gateway.ask(Ask::get(API, "/x"));
        assert_eq!((reply.status, reply.code().as_str()), (502, "UPSTREAM_CONNECT"));
    }
}

#[test]
fn what_is_known_of_an_endpoint_outlives_a_reload() {
    let (scene, good) = (Scene::new(), Backend::start(Mode::Answer));
    let dead = format!("http://127.0.0.1:{}", free_port());
    let mut config = with_endpoints(&scene, &json!([dead, good.url()]));
    config["upstreams"]["app"]["ejection"] = json!({ "failures": 1, "for": "1h" });
    let gateway = scene.site.start(&config);
    for _ in 0..4 {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
    }
    let connects = || failed_connects(&gateway);
    assert_eq!(connects(), 1.0);
    config["upstreams"]["app"]["timeouts"] = json!({ "connect": "4s" });
    gateway.reload(&config);
    for _ in 0..4 {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
    }
    assert_eq!(connects(), 1.0, "it is still left out");
}

#[test]
fn an_endpoint_that_fails_its_checks_gets_nothing_until_it_passes_them() {
    let (scene, backends) = (Scene::new(), [Mode::Answer; 2].map(Backend::start));
    backends[0].checks_say("503 No");
    let mut config = with_endpoints(&scene, &json!([backends[0].url(), backends[1].url()]));
    config["upstreams"]["app"]["health"] =
        json!({ "path": "/healthz", "every": "50ms", "timeout": "50ms", "healthy": 2, "unhealthy": 3 });
    let gateway = scene.site.start(&config);
    let failing = "portcullis_upstream_checks_total{upstream=\"app\",result=\"failed\"}";
    eventually("it was checked", || (gateway.metric(failing) >= 1.0).then_some(()));
    for _ in 0..20 {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
    }
    assert_eq!((backends[0].requests(), backends[1].requests()), (0, 20), "though it would have answered");
    backends[0].checks_say("200 OK");
    eventually("it is used again", || {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
        (backends[0].requests() > 0).then_some(())
    });
    backends.iter().for_each(|backend| backend.checks_say("500 No"));
    let before = backends[0].checks();
    eventually("both fail their checks", || (backends[0].checks() > before + 4).then_some(()));
    for _ in 0..10 {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200, "below the floor all are asked");
    }
}

#[test]
fn what_belongs_together_stays_together_and_only_the_dead_ones_move() {
    let (scene, backends) = (Scene::new(), [Mode::Answer; 3].map(Backend::start));
    let urls: Vec<_> = backends.iter().map(Backend::url).collect();
    let mut config = with_endpoints(&scene, &json!(urls));
    config["upstreams"]["app"]["balance"] = json!({ "consistent_hash": { "field": "x-tenant" } });
    let gateway = scene.site.start(&config);
    let tenants: Vec<String> = (0..12).map(|n| format!("tenant-{n}")).collect();
    // Where the requests of a tenant go.
    let home = |tenant: &str| {
        let before = backends.each_ref().map(Backend::requests);
        for _ in 0..3 {
            assert_eq!(gateway.ask(Ask::get(API, "/x").header("x-tenant", tenant)).status, 200);
        }
        (0..3).find(|place| backends[*place].requests() == before[*place] + 3)
    };
    let homes: Vec<_> = tenants.iter().map(|tenant| home(tenant)).collect();
    assert!(homes.iter().all(Option::is_some), "{homes:?}");
    assert!((0..3).all(|place| homes.contains(&Some(place))), "12 tenants and 3 endpoints: {homes:?}");
    backends[1].be(Mode::Die);
    // Until it is left out every request of its tenants begins there.
    eventually("it is left out", || {
        tenants.iter().for_each(|tenant| {
            assert!(gateway.ask(Ask::get(API, "/x").header("x-tenant", tenant)).status == 200);
        });
        (gateway.metric("portcullis_upstream_ejections_total{upstream=\"app\"}") >= 1.0).then_some(())
    });
    for (tenant, former) in tenants.iter().zip(&homes) {
        let now = home(tenant);
        assert!(now == *former || (*former == Some(1) && now.is_some()), "{tenant}: {former:?} to {now:?}");
    }
}

fn failed_connects(gateway: &Gateway) -> f64 {
    gateway.metric("portcullis_upstream_connects_total{upstream=\"app\",result=\"refused\"}")
}

/// Everything goes to an upstream with these endpoints.
pub(crate) fn with_endpoints(scene: &Scene, endpoints: &Value) -> Value {
    let mut config = scene.plain();
    config["upstreams"]["app"]["endpoints"] = endpoints.clone();
    config
}

/// An upstream that counts the requests whose heads arrived.
pub(crate) struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    mode: Mutex<Mode>,
    /// What `/healthz` answers, which does not count as a request.
    health: Mutex<&'static str>,
    requests: AtomicUsize,
    checks: AtomicUsize,
    connections: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    /// The values of `x-once`.
    once: Mutex<Vec<String>>,
}

/// What it does with a request.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Answer,
    /// Closes without an answer.
    Die,
    /// Answers half of what it announces, then closes.
    Half,
    /// Answers after this.
    Wait(Duration),
}

impl Backend {
    pub(crate) fn start(mode: Mode) -> Self {
        let backend = Self::on(("127.0.0.1", 0)).unwrap();
        backend.be(mode);
        backend
    }

    /// One that answers, at this address; nothing if it is taken.
    pub(crate) fn on(address: (&str, u16)) -> Option<Self> {
        let listener = TcpListener::bind(address).ok()?;
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Answer),
            health: Mutex::new("200 OK"),
            requests: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            once: Mutex::default(),
        });
        let state = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = state.clone();
                thread::spawn(move || {
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    while serve(stream.as_ref().unwrap(), &state).is_some() {}
                    state.connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Some(Self { address, shared })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn be(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    /// What checks are answered, such as `503 No`.
    pub(crate) fn checks_say(&self, status: &'static str) {
        *self.shared.health.lock().unwrap() = status;
    }

    pub(crate) fn checks(&self) -> usize {
        self.shared.checks.load(Ordering::SeqCst)
    }

    /// Open ones.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }

    pub(crate) fn once(&self) -> Vec<String> {
        self.shared.once.lock().unwrap().clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

/// Serves one request; `None` ends the connection.
fn serve(mut stream: &TcpStream, shared: &Shared) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    if head.starts_with("get /healthz ") {
        shared.checks.fetch_add(1, Ordering::SeqCst);
        let status = *shared.health.lock().unwrap();
        return write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").ok();
    }
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let once = head.lines().find_map(|line| line.strip_prefix("x-once: "));
    shared.once.lock().unwrap().extend(once.map(str::to_owned));
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).ok()?;
    let at_once = shared.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most_at_once.fetch_max(at_once, Ordering::SeqCst);
    let mode = *shared.mode.lock().unwrap();
    let answered = answer(stream, mode);
    shared.at_once.fetch_sub(1, Ordering::SeqCst);
    answered
}

fn answer(mut stream: &TcpStream, mode: Mode) -> Option<()> {
    match mode {
        Mode::Die => return None,
        Mode::Half => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").ok()?;
            return None;
        }
        Mode::Wait(time) => thread::sleep(time),
        Mode::Answer => {}
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").ok()
}
