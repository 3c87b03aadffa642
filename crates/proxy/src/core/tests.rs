//! Whole cores over real sockets, with a snapshot made by hand.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::StatusCode;
use policy::{ClaimSchema, Engine, PolicySource, RouteFacts, RouteIndex};
use telemetry::Destination;
use tls::SlotWriter;

use super::*;
use crate::normalize::fields::Reserved;
use crate::route::{Action, HostPattern, PathPattern, Route, Router};
use crate::snapshot::{Bounds, Listener};

/// Two cores behind one plain listener whose only route answers by itself, and a clock that can be made to panic.
struct Rig {
    cores: Vec<CoreHandle>,
    address: SocketAddr,
    panic: Arc<AtomicBool>,
    loads: Arc<Metrics>,
}

impl Rig {
    fn start(policy: &str) -> Self {
        Self::answering(policy, Bytes::from_static(b"hello\n"))
    }

    fn answering(policy: &str, body: Bytes) -> Self {
        let metrics = Metrics::new(2);
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot(policy, body, &metrics)));
        let (access_log, _writer) = AccessLog::open(Destination::Off, metrics.clone()).unwrap();
        let panic = Arc::new(AtomicBool::new(false));
        let must = panic.clone();
        let clock = Arc::new(move || {
            assert!(!must.load(Ordering::SeqCst), "the fault that was injected");
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
        });
        let spec = CoreSpec {
            count: 2,
            snapshot,
            metrics: metrics.clone(),
            access_log,
            tokens: 16,
            deny: SlotWriter::empty().reader(),
            clock,
        };
        let cores = start(&spec).unwrap();
        let sockets = listener::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        listener::listen(&sockets).unwrap();
        let address = sockets[0].local_addr().unwrap();
        for (core, socket) in cores.iter().zip(sockets) {
            core.commands
                .send(Command::Listen(Socket { name: "plain".into(), sockets: vec![socket] }))
                .unwrap();
        }
        Self { cores, address, panic, loads: metrics }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn stop(self) {
        for core in &self.cores {
            core.commands
                .send(Command::Drain(Drain { deadline: Duration::from_secs(5), pace: Pace::AtOnce }))
                .unwrap();
        }
        self.cores.into_iter().for_each(CoreHandle::join);
    }
}

fn snapshot(policy: &str, body: Bytes, metrics: &Arc<Metrics>) -> Snapshot {
    let source = PolicySource { path: "test.cedar".into(), text: policy.to_owned() };
    let facts = RouteFacts { name: "hello".to_owned(), labels: std::collections::BTreeMap::new() };
    let (engine, _compiler) = Engine::compile(&[source], &ClaimSchema::new(), vec![facts]).unwrap();
    let action = Action::Respond { status: StatusCode::OK, body };
    let route = Route {
        security_fields: true,
        ..Route::new("hello".into(), RouteIndex(0), action, metrics.route("hello"))
    };
    let mut router = Router::default();
    router.add(&HostPattern::Any, &PathPattern::Prefix(String::new()), &route).unwrap();
    let listener = Listener {
        name: "plain".into(),
        tls: None,
        redirect: None,
        validate: None,
        bounds: Bounds {
            header_timeout: Duration::from_millis(300),
            idle: Duration::from_secs(1),
            ..Bounds::default()
        },
        proxy_protocol: crate::snapshot::ProxyProtocol::Off,
        trusted_proxies: Vec::new(),
        connection_limits: Vec::new(),
        router,
        series: metrics.listener("plain"),
        open: Arc::default(),
    };
    Snapshot {
        generation: 1,
        listeners: HashMap::from([(listener.name.clone(), Arc::new(listener))]),
        routes: vec![route],
        engine: Arc::new(engine),
        reserved: Arc::new(Reserved::default()),
        keys: Vec::new(),
    }
}

/// Sends one request and gives the head and body of its answer; empty when the connection was closed.
fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: gw.test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"hello\n") && !answer.ends_with(b"}\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8(answer).unwrap()
}

const EVERYBODY: &str = "permit(principal, action, resource);";

#[test]
fn a_panic_takes_one_connection_and_not_the_core() {
    let rig = Rig::start(EVERYBODY);
    let mut bystanders: Vec<TcpStream> = (0..4).map(|_| rig.connect()).collect();
    for bystander in &mut bystanders {
        assert!(ask(bystander).starts_with("HTTP/1.1 200"));
    }
    let mut victim = rig.connect();
    assert!(ask(&mut victim).starts_with("HTTP/1.1 200"));
    rig.panic.store(true, Ordering::SeqCst);
    assert_eq!(ask(&mut victim), "", "the connection ends without an answer");
    rig.panic.store(false, Ordering::SeqCst);
    for bystander in &mut bystanders {
        assert!(ask(bystander).starts_with("HTTP/1.1 200"));
    }
    assert!(ask(&mut rig.connect()).starts_with("HTTP/1.1 200"));
    rig.stop();
}

#[test]
fn without_a_policy_nobody_gets_in() {
    let rig = Rig::start("");
    let answer = ask(&mut rig.connect());
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains(r#""code":"POLICY_NO_PERMIT""#), "{answer}");
    assert!(!answer.contains("www-authenticate"), "nobody came with a token that another scope would help");
    rig.stop();
}

#[test]
fn a_head_that_does_not_come_is_cut_off() {
    let rig = Rig::start(EVERYBODY);
    let mut slow = rig.connect();
    slow.write_all(b"GET /x HT").unwrap();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    rig.stop();
}

#[test]
fn a_peer_that_reads_no_more_is_cut_off() {
    let rig = Rig::answering(EVERYBODY, Bytes::from(vec![b'x'; 64 << 20]));
    let mut idler = rig.connect();
    idler.write_all(b"GET /x HTTP/1.1\r\nHost: gw.test\r\n\r\n").unwrap();
    let open = |rig: &Rig| rig.loads.encode().unwrap().contains("connections_open{listener=\"plain\"} 1\n");
    let patience = Instant::now() + Duration::from_secs(20);
    while !open(&rig) && Instant::now() < patience {
        std::thread::yield_now();
    }
    assert!(open(&rig));
    while open(&rig) && Instant::now() < patience {
        std::thread::yield_now();
    }
    assert!(!open(&rig), "the connection is given up without a byte being read");
    rig.stop();
}

#[test]
fn a_drain_answers_what_is_there_and_then_ends() {
    let rig = Rig::start(EVERYBODY);
    let mut idle = rig.connect();
    assert!(ask(&mut idle).starts_with("HTTP/1.1 200"));
    assert!(rig.loads.encode().unwrap().contains("portcullis_requests_total"));
    rig.stop();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

#[test]
fn eight_connections_accepted_on_one_core_are_served_by_both() {
    let loads = Loads::new(2);
    for _ in 0..8 {
        assert!(loads.add(loads.choose(CoreId(0))));
    }
    assert_eq!((loads.connections(CoreId(0)), loads.connections(CoreId(1))), (4, 4));
}
