//! A clean stop: not ready, GOAWAY, what is in flight ends, the rest is cut at the deadline, exit code 0. A clean upgrade: the new
//! program gets the sockets of the old one, nobody is refused and nothing breaks; one that does not work changes nothing. Sockets
//! given by systemd are used as they are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::{
    Ask, Connection, Curl, Finished, Gateway, Message, Protocol, Trust, WebSocket, WebSockets, Wire,
    eventually, python, run,
};

use crate::scene::{API, Scene};

#[test]
fn sigterm_lets_what_is_in_flight_end_and_exits_with_0() {
    for protocol in [Protocol::H1, Protocol::H2] {
        let scene = Scene::new();
        let mut gateway = scene.site.start(&scene.tls("off"));
        let address = gateway.address("edge");
        let trust = scene.client();
        std::thread::scope(|threads| {
            let slow = threads.spawn(|| {
                let mut connection = Connection::tls(address, &trust, API, protocol).unwrap();
                connection.send(Ask::get(API, "/hold")).unwrap().status
            });
            eventually("the request is in flight", || (scene.upstream.requests().len() == 1).then_some(()));
            gateway.signal("TERM");
            eventually("it is ready no more", || (gateway.probe("/readyz") != 200).then_some(()));
            scene.upstream.release();
            assert_eq!(slow.join().unwrap(), 200, "{protocol:?}");
        });
        let status = eventually("the gateway ends", || gateway.ended());
        assert_eq!(status.code(), Some(0), "{}", gateway.output());
    }
}

#[test]
fn idle_connections_do_not_hold_the_drain_up() {
    let scene = Scene::new();
    let mut gateway = scene.site.start(&scene.tls("off"));
    let mut idle: Vec<_> = [Protocol::H1, Protocol::H2]
        .map(|protocol| Connection::tls(gateway.address("edge"), &scene.client(), API, protocol).unwrap())
        .into();
    for connection in &mut idle {
        assert_eq!(connection.send(Ask::get(API, "/")).unwrap().status, 200);
    }
    gateway.signal("TERM");
    let status = eventually("the gateway ends", || gateway.ended());
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
    for connection in &mut idle {
        eventually("the client is told", || connection.closed().then_some(()));
    }
}

#[test]
fn what_does_not_end_is_cut_at_the_deadline() {
    let scene = Scene::new();
    let mut config = scene.tls("off");
    config["shutdown"] = json!({ "deadline": "1s" });
    let mut gateway = scene.site.start(&config);
    let mut connection =
        Connection::tls(gateway.address("edge"), &scene.client(), API, Protocol::H2).unwrap();
    let mut events = connection.open(Ask::get(API, "/events")).unwrap();
    gateway.signal("TERM");
    let status = eventually("the gateway ends", || gateway.ended());
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
    assert!(!matches!(events.next_piece(), Ok(Some(_))), "the stream was cut");
}

#[test]
fn a_second_instance_on_the_same_address_fails_loudly() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.plain());
    let other = Scene::new();
    let mut config = other.plain();
    config["listeners"]["edge"]["bind"] = json!(gateway.address("edge").to_string());
    let path = other.site.configure(&config);
    let finished = other.site.portcullis(&["run", "-c", path.to_str().unwrap()]);
    assert!(finished.code > 0, "{finished:?}");
    assert!(finished.stderr.contains(&gateway.address("edge").to_string()), "{finished:?}");
    assert_eq!(gateway.ask(Ask::get(API, "/")).status, 200, "the first one does not notice");
}

#[test]
fn a_socket_given_by_systemd_is_used() {
    let scene = Scene::new();
    let config = scene.site.configure(&scene.plain());
    // What systemd does: a listening socket at descriptor 3, its name, and the process id that it is meant for.
    let activate = "import os, socket, sys
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(64)
open(sys.argv[1], 'w').write(str(s.getsockname()[1]))
if s.fileno() != 3: os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='edge', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])";
    let port_file = scene.site.path("port");
    let mut command: Command = python();
    command.args(["-c", activate]).arg(&port_file).arg(testkit::binary());
    command.arg("run").arg("-c").arg(config).arg("--ready-file").arg(scene.site.ready_file());
    let mut gateway = scene.site.launch(&mut command);
    let port: u16 = std::fs::read_to_string(port_file).unwrap().parse().unwrap();
    assert_eq!(gateway.address("edge").port(), port);
    assert_eq!(gateway.ask(Ask::get(API, "/")).status, 200);
    gateway.signal("TERM");
    assert_eq!(eventually("the gateway ends", || gateway.ended()).code(), Some(0), "{}", gateway.output());
}

/// Given to a test by a gateway that was upgraded: ends the successor with the test.
struct Successor {
    pid: u64,
}

impl Successor {
    /// Waits until a program with another process id than `former` has said that it is ready.
    fn of(scene: &Scene, former: u64) -> Self {
        let ready = || -> Option<Value> {
            serde_json::from_slice(&std::fs::read(scene.site.ready_file()).ok()?).ok()
        };
        let pid =
            eventually("the new program is ready", || ready()?["pid"].as_u64().filter(|pid| *pid != former));
        Self { pid }
    }

    fn signal(&self, name: &str) -> bool {
        let pid = self.pid.to_string();
        run(Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])).code == 0
    }

    fn has_ended(&self) -> bool {
        // A zombie has ended; the one who would collect it is gone.
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        status.rsplit(')').next().is_none_or(|fields| fields.is_empty() || fields.starts_with(" Z"))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.signal("KILL");
        }
    }
}

/// The program under a name that a test can give to another one.
fn program(scene: &Scene) -> PathBuf {
    let program = scene.site.path("bin/portcullis");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(testkit::binary(), &program).unwrap();
    program
}

/// What a package manager does: another file under the same name.
fn replace(program: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let new = program.with_extension("new");
    std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, program).unwrap();
}

fn launch(scene: &Scene, program: &Path, config: &Value) -> Gateway {
    let config = scene.site.configure(config);
    let mut command = Command::new(program);
    command.arg("run").arg("-c").arg(config).arg("--ready-file").arg(scene.site.ready_file());
    scene.site.launch(&mut command)
}

fn upgrade(scene: &Scene) -> Finished {
    let socket = scene.site.path("control.sock");
    scene.site.portcullis(&["upgrade", "--socket", socket.to_str().unwrap()])
}

#[test]
fn an_upgrade_refuses_nobody_and_breaks_nothing() {
    let scene = Scene::new();
    let mut config = scene.tls("off");
    config["shutdown"] = json!({ "deadline": "60s" });
    let sockets = WebSockets::start();
    config["upstreams"]["sockets"] = json!({ "endpoints": [sockets.url()] });
    config["routes"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "socket", "on": ["edge"], "path": "/socket",
        "authenticate": "none", "upstream": "sockets", "upgrade": ["websocket"] }));
    let program = program(&scene);
    let mut old = launch(&scene, &program, &config);
    let address = old.address("edge");
    let mark = scene.site.path("new-program-ran");
    replace(&program, &format!("touch {}; exec {} \"$@\"", mark.display(), testkit::binary().display()));
    let wire = Wire::tls(address, &scene.client(), API, Protocol::H1).unwrap();
    let mut socket = WebSocket::open(wire, Ask::get(API, "/socket")).unwrap();
    let mut streaming = Connection::tls(address, &scene.client(), API, Protocol::H2).unwrap();
    let mut events = streaming.open(Ask::get(API, "/events")).unwrap();
    eventually("the stream is open", || (scene.upstream.listeners() == 1).then_some(()));

    let load = Load { done: AtomicBool::new(false), served: AtomicUsize::new(0) };
    let trust = scene.client();
    let (first, h2loads) = std::thread::scope(|threads| {
        let _stop = Stop(&load.done);
        for protocol in [Protocol::H1, Protocol::H2] {
            let (load, trust) = (&load, &trust);
            threads.spawn(move || load.ask(address, trust, protocol));
        }
        threads.spawn(|| load.curl(&scene, address));
        // One at a time over HTTP/1.1: what is pipelined behind the last answer of a connection is the client's to repeat.
        let h2loads = [("--h1", "1"), ("--window-bits=16", "4")].map(|(protocol, at_once)| {
            let url = format!("https://{address}/");
            let mut h2load = Command::new("h2load");
            h2load.args([protocol, "-n", "6000", "-c", "4", "-m", at_once, &url]);
            h2load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("h2load: run .ci/setup")
        });
        load.goes_on();
        let done = upgrade(&scene);
        assert_eq!(done.code, 0, "{}{}\n{}", done.stdout, done.stderr, old.output());
        let first = Successor::of(&scene, old.id().into());
        assert_eq!(done.stdout, format!("process {} serves\n", first.pid));
        load.goes_on();
        scene.upstream.emit("data: still here\n\n");
        assert_eq!(events.next_piece().unwrap().unwrap(), "data: still here\n\n");
        assert_eq!(socket.echo("still here"), Message::text("still here"));
        let reports = h2loads.map(|h2load| {
            let output = h2load.wait_with_output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            format!("{}\n{}", output.status, String::from_utf8_lossy(&said))
        });
        load.goes_on();
        (first, reports)
    });
    for report in h2loads {
        assert!(
            report.contains("6000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "h2load does not notice: {report}"
        );
    }
    assert!(mark.exists(), "the program that lies there now was started");
    drop(events);
    drop(streaming);
    socket.close();
    assert_eq!(eventually("the old program ends", || old.ended()).code(), Some(0), "{}", old.output());
    // The operator's doors are the new one's, and it can be upgraded in its turn.
    assert_eq!(old.probe("/readyz"), 200);
    let status =
        scene.site.portcullis(&["status", "--socket", scene.site.path("control.sock").to_str().unwrap()]);
    assert_eq!(status.code, 0, "{}", status.stderr);
    assert!(first.signal("USR2"));
    let second = Successor::of(&scene, first.pid);
    eventually("the first successor ends", || first.has_ended().then_some(()));
    let mut connection = Connection::tls(address, &scene.client(), API, Protocol::H1).unwrap();
    assert_eq!(connection.send(Ask::get(API, "/")).unwrap().status, 200);
    assert!(second.signal("TERM"));
    eventually("the second successor ends", || second.has_ended().then_some(()));
    assert!(!scene.site.path("control.sock").exists(), "the last one removes the control socket");
}

#[test]
fn an_upgrade_that_does_not_work_changes_nothing() {
    let scene = Scene::new();
    let program = program(&scene);
    let config = scene.plain();
    let gateway = launch(&scene, &program, &config);
    let mut kept = gateway.connect();
    assert_eq!(kept.send(Ask::get(API, "/")).unwrap().status, 200);
    let mut refused = |what: &str, says: &str| {
        let done = upgrade(&scene);
        assert_eq!(done.code, 3, "{what}: {done:?}");
        assert!(done.stderr.contains(says), "{what}: {}", done.stderr);
        assert_eq!(kept.send(Ask::get(API, "/")).unwrap().status, 200, "{what}");
        assert_eq!(gateway.ask(Ask::get(API, "/")).status, 200, "{what}");
        assert_eq!(gateway.probe("/readyz"), 200, "{what}");
    };
    replace(&program, "exit 7");
    refused("a program that ends", "ended before it was ready: exit status: 7");
    std::fs::remove_file(&program).unwrap();
    refused("no program", "No such file");
    std::os::unix::fs::symlink(testkit::binary(), &program).unwrap();
    let mut broken = config.clone();
    broken["routes"][0]["upstream"] = json!("nobody");
    let _ = scene.site.configure(&broken);
    refused("a configuration with a mistake", "nobody");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut moved = config.clone();
    moved["listeners"]["other"] = json!({ "bind": taken.local_addr().unwrap().to_string() });
    let _ = scene.site.configure(&moved);
    refused("an address that somebody else has", &taken.local_addr().unwrap().to_string());

    let _ = scene.site.configure(&config);
    let done = upgrade(&scene);
    assert_eq!(done.code, 0, "{done:?}");
    let _successor = Successor::of(&scene, gateway.id().into());
    assert_eq!(gateway.ask(Ask::get(API, "/")).status, 200, "the next try works");
}

#[test]
fn probes_answer_under_default_deny_also_with_a_query() {
    let scene = Scene::without_policy();
    let gateway = scene.site.start(&scene.plain());
    assert_eq!(gateway.ask(Ask::get(API, "/")).status, 403);
    for probe in ["/livez?verbose", "/readyz?source=load-balancer&x=%2e%2e", "/readyz?"] {
        assert_eq!(gateway.probe(probe), 200, "{probe}");
    }
}

/// Clients that go on until they are told to stop; none of their requests may fail.
struct Load {
    done: AtomicBool,
    served: AtomicUsize,
}

impl Load {
    /// Requests on connections that are replaced only when the gateway has said that it ends them.
    fn ask(&self, address: std::net::SocketAddr, trust: &Trust, protocol: Protocol) {
        let connect = || Connection::tls(address, trust, API, protocol).expect("nobody is refused");
        let mut connection = connect();
        while !self.done.load(Ordering::SeqCst) {
            if connection.closed() {
                connection = connect();
            }
            match connection.send(Ask::get(API, "/").body("x")) {
                Ok(reply) => assert_eq!(reply.status, 200, "{}", reply.text()),
                // Not sent: the gateway's GOAWAY came while it was handed over.
                Err(error) if testkit::was_not_sent(&*error) => {
                    connection = connect();
                    continue;
                }
                Err(error) => panic!("{protocol:?}: a request broke: {error:?}"),
            }
            self.served.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A connection for each request, by somebody else's client.
    fn curl(&self, scene: &Scene, address: std::net::SocketAddr) {
        while !self.done.load(Ordering::SeqCst) {
            let curl = Curl::new(&format!("https://{API}/"), address).trusting(&scene.site.path("roots.pem"));
            let reply = curl.run();
            assert_eq!((reply.status, reply.complaint.as_str()), (200, ""));
            self.served.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits for some more requests.
    fn goes_on(&self) {
        let before = self.served.load(Ordering::SeqCst);
        eventually("the load goes on", || (self.served.load(Ordering::SeqCst) > before + 20).then_some(()));
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
