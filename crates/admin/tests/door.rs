//! The operator's door, over real sockets.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admin::client::ClientError;
use admin::{Control, ControlSocket, Deny, DenyChange, Drill, Readiness, Reloading, SocketError};
use serde_json::{Value, json};
use telemetry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A server on a port of its own, with the token that stops it.
async fn start(router: axum::Router) -> (SocketAddr, CancellationToken, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(admin::serve_tcp(listener, router, stop.clone()));
    (address, stop, tasks)
}

async fn ask(address: SocketAddr, request_line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request_line} HTTP/1.1\r\nhost: gateway\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn is(answer: &str, status: u16) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
}

#[tokio::test]
async fn readyz_says_what_it_waits_for_and_then_that_it_is_ready() {
    let readiness = Readiness::new();
    let (address, _stop, _tasks) = start(admin::probes_router(readiness.clone())).await;
    let listeners = readiness.task("listeners");
    let answer = ask(address, "GET /readyz?verbose=1").await;
    assert!(is(&answer, 503) && answer.contains(r#""pending":["listeners"]"#), "{answer}");
    drop(listeners);
    assert!(is(&ask(address, "GET /readyz").await, 200));
    readiness.degraded("jwks staff", "fetch timed out");
    let answer = ask(address, "GET /readyz").await;
    assert!(is(&answer, 200) && answer.contains("fetch timed out"), "{answer}");
    readiness.set_draining();
    let answer = ask(address, "GET /readyz").await;
    assert!(is(&answer, 503) && answer.contains("draining"), "{answer}");
    assert!(is(&ask(address, "GET /livez?x=%2F").await, 200), "a drain is no death");
}

#[tokio::test]
async fn probes_take_head_and_refuse_the_rest_in_the_envelope() {
    let (address, _stop, _tasks) = start(admin::probes_router(Readiness::new())).await;
    let answer = ask(address, "HEAD /livez").await;
    assert!(is(&answer, 200) && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = ask(address, "POST /livez").await;
    assert!(is(&answer, 405) && answer.contains(r#""code":"METHOD_NOT_ALLOWED""#), "{answer}");
    let answer = ask(address, "GET /status").await;
    assert!(is(&answer, 404) && answer.contains(r#""code":"NOT_FOUND""#), "{answer}");
}

#[tokio::test]
async fn metrics_are_open_metrics_text() {
    let metrics = Metrics::new(1);
    metrics.refused(0, "NO_ROUTE");
    let (address, _stop, _tasks) = start(admin::metrics_router(metrics, Arc::new(OneKeySet))).await;
    let answer = ask(address, "GET /metrics").await;
    assert!(is(&answer, 200) && answer.contains("content-type: application/openmetrics-text"), "{answer}");
    assert!(
        answer.contains(r#"portcullis_refusals_total{code="NO_ROUTE"} 1"#) && answer.ends_with("# EOF\n")
    );
}

struct OneKeySet;

impl admin::KeySets for OneKeySet {
    fn key_set(&self, entry: &str) -> Option<bytes::Bytes> {
        (entry == "internal").then(|| bytes::Bytes::from_static(b"{\"keys\":[]}"))
    }
}

#[tokio::test]
async fn key_sets_are_there_by_the_name_of_their_entry() {
    let (address, _stop, _tasks) = start(admin::metrics_router(Metrics::new(1), Arc::new(OneKeySet))).await;
    let answer = ask(address, "GET /jwks/internal").await;
    assert!(is(&answer, 200) && answer.ends_with("{\"keys\":[]}"), "{answer}");
    assert!(answer.contains("content-type: application/jwk-set+json"), "{answer}");
    assert!(answer.contains("cache-control: max-age=300"), "{answer}");
    let answer = ask(address, "GET /jwks/other").await;
    assert!(is(&answer, 404) && answer.contains(r#""code":"NOT_FOUND""#), "{answer}");
}

#[tokio::test]
async fn more_connections_than_places_are_closed_and_the_door_opens_again() {
    let (address, _stop, _tasks) = start(admin::probes_router(Readiness::new())).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut one_too_many = TcpStream::connect(address).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(5), one_too_many.read_u8()).await.unwrap();
    assert!(closed.is_err());
    drop(silent);
    let again = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
            let mut answer = String::new();
            if stream.read_to_string(&mut answer).await.is_ok() && is(&answer, 200) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.unwrap();
}

#[tokio::test]
async fn a_stop_ends_the_server_also_while_a_peer_is_silent() {
    let (address, stop, mut tasks) = start(admin::probes_router(Readiness::new())).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    assert!(is(&ask(address, "GET /livez").await, 200));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(8), tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

struct Gateway {
    problems: Vec<String>,
}

impl Control for Gateway {
    fn status(&self) -> Value {
        json!({ "generation": 7 })
    }

    fn reload(&self) -> Reloading<'_> {
        Box::pin(async {
            if self.problems.is_empty() { Ok(json!({ "generation": 8 })) } else { Err(self.problems.clone()) }
        })
    }

    fn upgrade(&self) -> Reloading<'_> {
        Box::pin(async {
            if self.problems.is_empty() { Ok(json!({ "pid": 9 })) } else { Err(self.problems.clone()) }
        })
    }

    fn drill(&self, drill: Drill) -> Result<Value, Vec<String>> {
        if self.problems.is_empty() {
            Ok(json!({ "seconds": drill.seconds }))
        } else {
            Err(self.problems.clone())
        }
    }

    fn deny(&self, change: DenyChange) -> Result<Value, Vec<String>> {
        match change {
            DenyChange::Add(deny) if self.problems.is_empty() => Ok(json!({ "added": deny })),
            DenyChange::Remove(deny) if self.problems.is_empty() => Ok(json!({ "removed": deny })),
            DenyChange::List => Ok(json!({ "entries": [] })),
            DenyChange::Add(_) | DenyChange::Remove(_) => Err(self.problems.clone()),
        }
    }
}

/// A served control socket in a directory of its own.
fn control(problems: &[&str]) -> (tempfile::TempDir, PathBuf, CancellationToken, JoinSet<()>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let problems = problems.iter().map(ToString::to_string).collect();
    let socket = ControlSocket::bind(&path).unwrap();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(socket.serve(admin::control_router(Arc::new(Gateway { problems })), stop.clone()));
    (directory, path, stop, tasks)
}

#[tokio::test]
async fn the_command_line_reads_the_status_over_the_socket() {
    let (_directory, path, stop, mut tasks) = control(&[]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(admin::client::status(&path).await.unwrap(), json!({ "generation": 7 }));
    assert_eq!(admin::client::reload(&path).await.unwrap(), json!({ "generation": 8 }));
    assert_eq!(admin::client::upgrade(&path).await.unwrap(), json!({ "pid": 9 }));
    let drill = Drill { store: None, seconds: 300 };
    assert_eq!(admin::client::drill(&path, &drill).await.unwrap(), json!({ "seconds": 300 }));
    let entry = Deny { token: Some("a".to_owned()), ..Deny::default() };
    let (added, removed) = (json!({ "added": { "token": "a" } }), json!({ "removed": { "token": "a" } }));
    assert_eq!(admin::client::deny(&path, &entry).await.unwrap(), added);
    assert_eq!(admin::client::permit_again(&path, &entry).await.unwrap(), removed);
    assert_eq!(admin::client::denied(&path).await.unwrap(), json!({ "entries": [] }));
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
    assert!(!path.exists(), "the socket is removed at the end");
    assert!(matches!(admin::client::status(&path).await, Err(ClientError::NotRunning { .. })));
}

/// Its status waits, as for a reload, until it is told to go on.
struct Busy(Mutex<Receiver<()>>);

impl Control for Busy {
    fn status(&self) -> Value {
        let told = self.0.lock().unwrap().recv_timeout(Duration::from_secs(10));
        json!({ "told": told.is_ok() })
    }

    fn reload(&self) -> Reloading<'_> {
        Box::pin(async { Ok(Value::Null) })
    }

    fn upgrade(&self) -> Reloading<'_> {
        Box::pin(async { Ok(Value::Null) })
    }

    fn drill(&self, _: Drill) -> Result<Value, Vec<String>> {
        Err(Vec::new())
    }

    fn deny(&self, _: DenyChange) -> Result<Value, Vec<String>> {
        Err(Vec::new())
    }
}

#[tokio::test]
async fn probes_are_answered_while_a_status_waits_for_a_reload() {
    let (go_on, told) = channel();
    let (control, _stop, _tasks) = start(admin::control_router(Arc::new(Busy(Mutex::new(told))))).await;
    let (probes, _stop, _more_tasks) = start(admin::probes_router(Readiness::new())).await;
    let (status, ()) = tokio::join!(ask(control, "GET /status"), async {
        assert!(is(&ask(probes, "GET /livez").await, 200));
        go_on.send(()).unwrap();
    });
    assert!(is(&status, 200) && status.contains(r#"{"told":true}"#), "{status}");
}

#[tokio::test]
async fn a_refused_reload_brings_every_problem() {
    let (_directory, path, _stop, _tasks) = control(&["first", "second"]);
    let Err(ClientError::Refused { problems, .. }) = admin::client::reload(&path).await else {
        panic!("the reload was not refused");
    };
    assert_eq!(problems, ["first", "second"]);
}

#[tokio::test]
async fn a_live_socket_is_left_alone() {
    let (directory, path, _stop, _tasks) = control(&[]);
    let error = ControlSocket::bind(&path).unwrap_err();
    assert!(matches!(error, SocketError::InUse(_)), "{error}");
    assert!(admin::client::status(&path).await.is_ok());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left behind");
}

#[tokio::test]
async fn the_socket_of_a_dead_process_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let socket = ControlSocket::bind(&path).unwrap();
    assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_in_the_way_is_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(ControlSocket::bind(&path), Err(SocketError::NoSocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn of_two_that_bind_at_the_same_moment_one_serves() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let runtime = tokio::runtime::Handle::current();
        let won = std::thread::scope(|scope| {
            let bind = || {
                let _runtime = runtime.enter();
                ControlSocket::bind(&path)
            };
            let threads = [scope.spawn(bind), scope.spawn(bind)];
            threads.map(|thread| thread.join().unwrap().ok())
        });
        assert_eq!(won.iter().flatten().count(), 1);
    }
}

#[tokio::test]
async fn a_control_socket_that_another_process_serves_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let old = ControlSocket::bind(&path).unwrap();
    let inherited = || ControlSocket::inherited(old.shared().unwrap().into(), &path).unwrap();
    drop(inherited());
    assert!(path.exists(), "who never served it leaves it to the other process");
    let new = inherited();
    old.stays().store(true, std::sync::atomic::Ordering::SeqCst);
    drop(old);
    assert!(path.exists());
    let stop = CancellationToken::new();
    stop.cancel();
    new.serve(axum::Router::new(), stop).await;
    assert!(!path.exists());
}
