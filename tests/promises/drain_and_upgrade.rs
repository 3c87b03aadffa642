//! A clean stop: not ready, GOAWAY, what is in flight ends, exit code 0. Sockets given by systemd are used as they are.

use std::process::Command;

use serde_json::json;
use testkit::{Ask, Connection, Protocol, eventually, python};

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
