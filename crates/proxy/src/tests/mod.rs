//! A whole core between real sockets: clients on one side, an upstream that tells what it was sent on the other.

mod credentials;
mod http2;
mod keys;
mod leases;
mod tokens;
mod uploads;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use identity::deny::DenyList;
use policy::{ClaimSchema, Engine, PolicySource, RouteFacts, RouteIndex};
use telemetry::{AccessLog, Destination, Metrics};
use tls::{ClientTls, Slot, SlotWriter};

use crate::authenticate::Authenticate;
use crate::core::{Command, CoreHandle, CoreSpec, Drain, Pace, start};
use crate::listener::{self, Socket};
use crate::normalize::fields::Reserved;
use crate::route::{Action, HostPattern, PathPattern, Route, Router, Target};
use crate::snapshot::{Bounds, Listener, ProxyProtocol, Snapshot};
use crate::token::RouteToken;
use crate::upstream::{
    Balance, Balancing, Budget, Endpoint, EndpointSet, Endpoints, FieldCredential, Health, PoolKey, Protocol,
    Timeouts, Upstream,
};

/// When the tests begin, in seconds.
const START: u64 = 1_800_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// What a scene is made of.
struct Scene {
    authenticate: Authenticate,
    policy: &'static str,
    /// Scopes that the route's token may carry; the token is made with the engine.
    scopes: &'static [&'static str],
    token: Option<Arc<crate::token::Minter>>,
    credential: Option<Slot<FieldCredential>>,
    /// How the upstream is spoken to; plainly without.
    tls: Option<Arc<ClientTls>>,
    keys: Option<Slot<bytes::Bytes>>,
    /// What the only route is called.
    name: &'static str,
    protocol: Protocol,
    /// Another upstream than the rig's own.
    upstream: Option<SocketAddr>,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            authenticate: Authenticate::Nobody,
            policy: "permit(principal, action, resource);",
            scopes: &[],
            token: None,
            credential: None,
            tls: None,
            keys: None,
            name: "all",
            protocol: Protocol::Http1,
            upstream: None,
        }
    }
}

struct Rig {
    core: Option<CoreHandle>,
    address: SocketAddr,
    clock: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    published: Arc<ArcSwap<Snapshot>>,
    deny: SlotWriter<DenyList>,
    upstream: Server,
}

impl Rig {
    fn start(scene: &Scene) -> Self {
        let upstream = Server::start();
        let metrics = Metrics::new(1);
        let published = Arc::new(ArcSwap::from_pointee(scene.snapshot(upstream.address, &metrics)));
        let (access_log, _writer) = AccessLog::open(Destination::Off, metrics.clone()).unwrap();
        let clock = Arc::new(AtomicU64::new(START * 1000));
        let told = clock.clone();
        let now = move || UNIX_EPOCH + Duration::from_millis(told.load(Ordering::SeqCst));
        let deny = SlotWriter::empty();
        let spec = CoreSpec {
            count: 1,
            snapshot: published.clone(),
            metrics: metrics.clone(),
            access_log,
            tokens: 16,
            deny: deny.reader(),
            clock: Arc::new(now),
        };
        let core = start(&spec).unwrap().pop().unwrap();
        let socket = listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        listener::listen(&socket).unwrap();
        let address = socket[0].local_addr().unwrap();
        let socket = socket.into_iter().next().unwrap();
        core.commands.send(Command::Listen(Socket { name: "plain".into(), sockets: vec![socket] })).unwrap();
        Self { core: Some(core), address, clock, metrics, published, deny, upstream }
    }

    fn republish(&self, scene: &Scene) {
        let generation = self.published.load().generation + 1;
        let next = scene.snapshot(self.upstream.address, &self.metrics);
        self.published.store(Arc::new(Snapshot { generation, ..next }));
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.clock.load(Ordering::SeqCst))
    }

    fn pass(&self, time: Duration) {
        self.clock.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Asks on a connection of its own, and gives the whole answer.
    fn ask(&self, fields: &str) -> String {
        self.ask_for("GET", "/x", fields)
    }

    fn ask_for(&self, method: &str, path: &str, fields: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// What a request with these fields brought the upstream, if it is answered well.
    fn sent(&self, fields: &str) -> Sent {
        let answer = self.ask(fields);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        self.upstream.next()
    }

    fn counts(&self, line: &str) -> bool {
        self.metrics.encode().unwrap().lines().any(|known| known == line)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let core = self.core.take().unwrap();
        core.commands
            .send(Command::Drain(Drain { deadline: Duration::from_secs(5), pace: Pace::AtOnce }))
            .unwrap();
        core.join();
    }
}

impl Scene {
    fn snapshot(&self, upstream: SocketAddr, metrics: &Arc<Metrics>) -> Snapshot {
        let source = PolicySource { path: "test.cedar".into(), text: self.policy.to_owned() };
        let facts = RouteFacts { name: self.name.to_owned(), labels: BTreeMap::new() };
        let scopes: Vec<String> = self.scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let (engine, _compiler) =
            Engine::compile_granting(&[source], &ClaimSchema::new(), vec![facts], &scopes).unwrap();
        let token = self.token.clone().map(|minter| RouteToken {
            minter,
            scopes: scopes.iter().map(|s| (engine.scope(s).unwrap(), s.as_str().into())).collect(),
        });
        let upstream = self.upstream.unwrap_or(upstream);
        let upstream = Upstream {
            name: "orders".into(),
            endpoints: Endpoints::Fixed(EndpointSet::new(
                vec![Endpoint {
                    name: upstream.to_string().into(),
                    host: upstream.ip().to_string().into(),
                    port: upstream.port(),
                    addresses: vec![upstream],
                    tls: self.tls.clone(),
                    pool: PoolKey::new(1),
                    health: Arc::new(Health::new(tokio::time::Instant::now())),
                }],
                0,
            )),
            credential: self.credential.clone(),
            protocol: self.protocol,
            timeouts: Timeouts {
                connect: PATIENCE,
                attempt: None,
                response: PATIENCE,
                idle: PATIENCE,
                whole: None,
            },
            idle: PATIENCE,
            idle_per_core: 8,
            series: metrics.upstream("orders"),
            balancing: Balancing::new(
                Balance::RoundRobin,
                None,
                None,
                Budget::new(20, tokio::time::Instant::now()),
            ),
            breaker: None,
        };
        let route = |index, action, token| Route {
            methods: if index == 0 { Box::default() } else { [http::Method::GET, http::Method::HEAD].into() },
            authenticate: Arc::new(self.authenticate.clone()),
            token,
            ..Route::new(self.name.into(), RouteIndex(index), action, metrics.route("all"))
        };
        let mut routes = vec![route(
            0,
            Action::Forward { to: Target::One(Arc::new(upstream)), rewrite: None },
            token.map(Box::new),
        )];
        let mut router = Router::default();
        router.add(&HostPattern::Any, &PathPattern::Prefix(String::new()), &routes[0]).unwrap();
        if let Some(keys) = &self.keys {
            routes.push(route(1, Action::Keys(keys.clone()), None));
            router.add_own("/keys", &routes[1]).unwrap();
        }
        let listener = Listener {
            name: "plain".into(),
            tls: None,
            redirect: None,
            validate: None,
            bounds: Bounds::default(),
            proxy_protocol: ProxyProtocol::Off,
            trusted_proxies: Vec::new(),
            connection_limits: Vec::new(),
            router,
            series: metrics.listener("plain"),
            open: Arc::default(),
        };
        let shown = self.credential.iter().filter_map(Slot::load).map(|shown| shown.name().clone());
        let reserved: Vec<_> = shown.filter(|name| *name != http::header::AUTHORIZATION).collect();
        Snapshot {
            generation: 1,
            listeners: HashMap::from([(listener.name.clone(), Arc::new(listener))]),
            routes,
            engine: Arc::new(engine),
            reserved: Arc::new(Reserved::new(&reserved)),
            keys: match &self.authenticate {
                Authenticate::Nobody => Vec::new(),
                Authenticate::Proofs { issuers, .. } => issuers.iter().map(|of| of.keys.clone()).collect(),
            },
        }
    }
}

/// A request as the upstream got it.
#[derive(Debug)]
struct Sent {
    head: String,
    /// Counts the upstream's connections from 0.
    connection: usize,
}

impl Sent {
    fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// An upstream that answers `hello`, half of it only when it is told to if the path is `/slow`.
struct Server {
    address: SocketAddr,
    requests: Mutex<Receiver<Sent>>,
    go_on: Sender<()>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        let (go_on, told) = channel();
        let told = Arc::new(Mutex::new(told));
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (sender, told, stream) = (sender.clone(), told.clone(), stream.unwrap());
                thread::spawn(move || answer(connection, stream, &sender, &told));
            }
        });
        Self { address, requests: Mutex::new(requests), go_on }
    }

    fn next(&self) -> Sent {
        self.requests.lock().unwrap().recv_timeout(PATIENCE).unwrap()
    }
}

fn answer(
    connection: usize,
    mut stream: TcpStream,
    sender: &Sender<Sent>,
    told: &Mutex<Receiver<()>>,
) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let is_slow = head.starts_with("GET /slow");
        sender.send(Sent { head, connection }).ok()?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhel").ok()?;
        if is_slow {
            told.lock().unwrap().recv().ok()?;
        }
        stream.write_all(b"lo\n").ok()?;
    }
}

/// Waits for what must come.
fn eventually(holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "it does not come");
        thread::sleep(Duration::from_millis(2));
    }
}
