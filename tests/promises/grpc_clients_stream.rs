//! A real gRPC client reaches a real gRPC server through the gateway, both of them tonic's: TLS and a token in, HTTP/2 in the clear
//! or over TLS out. All four kinds of call, what is told beside the messages, statuses, deadlines; and who may not is told so
//! in gRPC's own words.

mod orders;

use serde_json::{Value, json};
use testkit::{Gateway, eventually};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::{self, wrappers::ReceiverStream};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status, Streaming};

use self::orders::{Client, DEADLINE, Order, Server, next, order, runtime, within};
use crate::scene::{API, Scene, edge};

#[test]
fn all_four_kinds_of_call_pass() {
    let scene = scene();
    for server in [Server::start(None), Server::start(Some(&scene.authority.issue(edge())))] {
        let gateway = scene.site.start(&config(&scene, &server));
        runtime().block_on(async {
            let client = client(&scene, &gateway, Some("alice")).await;
            let reply = client.get(Request::new(order("häßlich", 7))).await.unwrap();
            assert_eq!(reply.into_inner(), order("häßlich", 7));

            let mut watched = client.watch(order("", 100)).await.unwrap().into_inner();
            for n in 1..=100 {
                assert_eq!(next(&mut watched).await.unwrap(), Some(order("watched", n)));
            }
            assert_eq!(next(&mut watched).await.unwrap(), None);

            let sum = client.add(tokio_stream::iter((1..=100).map(|n| order("", n)))).await.unwrap();
            assert_eq!(sum.into_inner(), order("100", 5050));

            talks(&client).await;
            let large = order(&"x".repeat(3 << 20), 1);
            assert_eq!(client.get(Request::new(large.clone())).await.unwrap().into_inner(), large);
        });
        let calls = server.orders.calls();
        assert_eq!(calls.len(), 5);
        for told in &calls {
            assert_eq!(told.get("x-user-id").unwrap(), "alice", "who it is is told by the gateway");
            assert!(!told.contains_key("authorization"), "the token ends here");
        }
        eventually("all five are in the access log, and whole", || {
            let log = gateway.access_log();
            assert!(log.iter().all(|record| record["code"].is_null()), "{log:?}");
            (log.len() == 5).then_some(())
        });
    }
}

/// The second message is sent when the first one's answer has come: nothing on the way waits for more.
async fn talks(client: &Client) {
    let (say, said) = mpsc::channel(1);
    say.send(order("talk", 0)).await.unwrap();
    let mut answers = client.talk(ReceiverStream::new(said)).await.unwrap().into_inner();
    for n in 1..=50 {
        assert_eq!(next(&mut answers).await.unwrap(), Some(order("talk", n)));
        within(say.send(order("talk", n))).await.unwrap();
    }
    assert_eq!(next(&mut answers).await.unwrap(), Some(order("talk", 51)));
    drop(say);
    assert_eq!(next(&mut answers).await.unwrap(), None, "what the client ends, the server ends");
}

#[test]
fn many_streams_of_one_client_go_on_beside_each_other() {
    let (scene, server) = (scene(), Server::start(None));
    let gateway = scene.site.start(&config(&scene, &server));
    let runtime = runtime();
    runtime.block_on(async {
        let client = client(&scene, &gateway, Some("alice")).await;
        let mut talks = Vec::new();
        for _ in 0..50 {
            let (say, said) = mpsc::channel(1);
            say.send(order("first", 1)).await.unwrap();
            talks.push((say, client.talk(ReceiverStream::new(said)).await.unwrap().into_inner()));
        }
        assert_eq!(server.orders.held(), 50, "all are open at once");
        for (say, answers) in talks.iter_mut().rev() {
            assert_eq!(next(answers).await.unwrap(), Some(order("first", 2)));
            within(say.send(order("second", 2))).await.unwrap();
            assert_eq!(next(answers).await.unwrap(), Some(order("second", 3)));
        }
    });
    eventually("a client that is gone ends them all", || (server.orders.held() == 0).then_some(()));
}

#[test]
fn what_is_told_beside_messages_and_statuses_arrives() {
    let (scene, server) = (scene(), Server::start(None));
    let gateway = scene.site.start(&config(&scene, &server));
    runtime().block_on(async {
        let client = client(&scene, &gateway, Some("alice")).await;
        let mut request = Request::new(order("told", 1));
        request.metadata_mut().insert("x-note", MetadataValue::from_static("one"));
        request.metadata_mut().insert("x-user-id", MetadataValue::from_static("root"));
        request.metadata_mut().insert_bin("x-note-bin", MetadataValue::from_bytes(&[0, 255, 10]));
        let reply = client.get(request).await.unwrap();
        assert_eq!(reply.metadata().get("x-note").unwrap(), "one");
        assert_eq!(
            reply.metadata().get_bin("x-note-bin").unwrap().to_bytes().unwrap().as_ref(),
            [0, 255, 10]
        );
        assert_eq!(server.orders.calls()[0].get_all("x-user-id").iter().collect::<Vec<_>>(), ["alice"]);

        let missing = client.get(Request::new(order("missing", 1))).await.unwrap_err();
        assert_eq!((missing.code(), missing.message()), (Code::NotFound, "kein Käse: 100 % weg"));
        assert_eq!(missing.details(), [0, 1, 255]);
        assert_eq!(missing.metadata().get("x-why").unwrap(), "sold out");

        let mut watched = client.watch(order("fails", 2)).await.unwrap().into_inner();
        for n in 1..=2 {
            assert_eq!(next(&mut watched).await.unwrap(), Some(order("watched", n)));
        }
        let status = next(&mut watched).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "after the orders"));
    });
}

#[test]
fn deadlines_end_calls_at_both_sides() {
    let (scene, server) = (scene(), Server::start(None));
    let mut config = config(&scene, &server);
    let gateway = scene.site.start(&config);
    let runtime = runtime();
    let caller = runtime.block_on(client(&scene, &gateway, Some("alice")));
    // The client's own: it gives up by itself at the same time, and the server is told the deadline.
    let mut request = Request::new(order("hold", 1));
    request.set_timeout(DEADLINE);
    let status = runtime.block_on(caller.get(request)).unwrap_err();
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status:?}");
    assert!(server.orders.calls()[0].contains_key("grpc-timeout"));
    eventually("the server's call has ended", || (server.orders.held() == 0).then_some(()));
    // The gateway's: nobody else sets one.
    config["upstreams"]["orders"]["timeouts"] = json!({ "request": "300ms" });
    gateway.apply(&config);
    let status = runtime.block_on(caller.get(Request::new(order("hold", 1)))).unwrap_err();
    assert_eq!((status.code(), code(&status)), (Code::DeadlineExceeded, "UPSTREAM_TIMEOUT".to_owned()));
    let mut watched = runtime.block_on(held(&caller));
    let status = runtime.block_on(next(&mut watched)).unwrap_err();
    assert_eq!((status.code(), code(&status)), (Code::DeadlineExceeded, "LEASE_ENDED".to_owned()));
    eventually("the server's calls have ended", || (server.orders.held() == 0).then_some(()));
}

#[test]
fn a_stream_that_is_cut_off_ends_with_a_status() {
    let (scene, server) = (scene(), Server::start(None));
    let gateway = scene.site.start(&config(&scene, &server));
    let runtime = runtime();
    let [alice, bob] = ["alice", "bob"].map(|who| runtime.block_on(client(&scene, &gateway, Some(who))));
    let mut of_alice = runtime.block_on(held(&alice));
    let mut of_bob = runtime.block_on(held(&bob));
    scene.site.policy(
        "orders",
        "permit(principal is Jwt, action, resource) when { principal.subject == \"bob\" };",
    );
    let status = runtime.block_on(next(&mut of_alice)).unwrap_err();
    assert_eq!((status.code(), code(&status)), (Code::PermissionDenied, "LEASE_ENDED".to_owned()));
    assert_eq!(server.orders.held(), 1, "bob's goes on");
    drop(server);
    let status = runtime.block_on(next(&mut of_bob)).unwrap_err();
    assert_eq!((status.code(), code(&status)), (Code::Unavailable, "UPSTREAM_BROKE_OFF".to_owned()));
    eventually("the access log says why", || {
        let codes: Vec<_> = gateway.access_log().iter().map(|record| record["code"].clone()).collect();
        // Each on a core of its own, perhaps.
        ["LEASE_ENDED", "UPSTREAM_BROKE_OFF"].iter().all(|code| codes.contains(&json!(code))).then_some(())
    });
}

/// A stream of which one message has come, and no other will.
async fn held(client: &Client) -> Streaming<Order> {
    let mut watched = client.watch(order("hold", 1)).await.unwrap().into_inner();
    assert_eq!(next(&mut watched).await.unwrap(), Some(order("watched", 1)));
    watched
}

/// The gateway's own word, where it is the gateway that speaks.
fn code(status: &Status) -> String {
    let code = status.metadata().get("x-portcullis-code");
    code.map_or_else(String::new, |code| code.to_str().unwrap().to_owned())
}

#[test]
fn who_may_not_call_is_told_so_in_the_words_of_grpc() {
    let (scene, server) = (scene(), Server::start(None));
    let gateway = scene.site.start(&config(&scene, &server));
    runtime().block_on(async {
        for (who, code) in [(None, Code::Unauthenticated), (Some("mallory"), Code::PermissionDenied)] {
            let client = client(&scene, &gateway, who).await;
            let one = || order("refused", 1);
            let (_say, said) = mpsc::channel::<Order>(1);
            // An answer without a message: of the kinds that stream, some see it with the first message only.
            let refused = [
                client.get(Request::new(one())).await.map(drop),
                client.add(tokio_stream::once(one())).await.map(drop),
                first(client.watch(one()).await).await,
                first(client.talk(ReceiverStream::new(said)).await).await,
            ];
            for status in refused {
                let status = status.unwrap_err();
                assert_eq!(status.code(), code, "{status:?}");
                assert!(!self::code(&status).is_empty(), "{status:?}");
            }
        }
    });
    assert!(server.orders.calls().is_empty(), "nothing of it arrived");
}

async fn first(called: Result<Response<Streaming<Order>>, Status>) -> Result<(), Status> {
    next(&mut called?.into_inner()).await.map(drop)
}

fn scene() -> Scene {
    let scene = Scene::without_policy();
    scene.site.policy(
        "orders",
        "permit(principal is Jwt, action, resource) unless { principal.subject == \"mallory\" };",
    );
    scene
}

/// TLS in, a token for everything, one upstream.
fn config(scene: &Scene, server: &Server) -> Value {
    let mut config = scene.tls("off");
    config["identity"] = scene.tokens()["identity"].clone();
    config["trust"]["web"] = json!({ "files": { "ca": "roots.pem" }, "names": "dns" });
    config["upstreams"] = json!({ "orders": { "endpoints": [server.url], "protocol": "http2" } });
    if server.url.starts_with("https") {
        config["upstreams"]["orders"]["tls"] = json!({ "trust": ["web"], "expect": "localhost" });
    }
    config["routes"] = json!([{
        "name": "orders", "on": ["edge"], "host": API, "path": "/shop.Orders/**", "authenticate": { "any": ["staff"] },
        "upstream": "orders", "headers": { "set": { "x-user-id": "{subject}" } },
    }]);
    config
}

async fn client(scene: &Scene, gateway: &Gateway, who: Option<&str>) -> Client {
    let token = who.map(|subject| scene.token(subject));
    Client::connect(gateway.address("edge"), scene.authority.pem(), token.as_deref()).await
}
