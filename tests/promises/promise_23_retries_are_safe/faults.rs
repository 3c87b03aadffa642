//! Each way in which an upstream fails, over HTTP/1.1 and HTTP/2, under many requests at once: each has a path of its own, so that
//! what arrived shows how often it was sent. A POST arrives once at most. A GET goes to one other endpoint, and at each of the two
//! to a fresh connection if a used one died: four times at most.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;
use testkit::{Ask, Gateway, Upstream, eventually};

use crate::endpoints_that_fail::with_endpoints;
use crate::name_server::{NameServer, Says};
use crate::scene::{API, Scene};

type Act = fn(usize) -> &'static str;

const CLIENTS: usize = 4;
const REQUESTS: usize = 20;

#[test]
fn endpoints_that_are_slow_silent_flapping_or_die_get_nothing_unsafe_twice() {
    // What an endpoint does with the nth request of a client; that of `hold` never answers: who is slow or half-open looks alike.
    let faults: [(&str, Act); 4] = [
        ("slow or half-open", |_| "hold"),
        ("dies", |_| "die"),
        ("flapping", |n| if n / 4 % 2 == 0 { "die" } else { "well" }),
        ("dies in the body", |_| "half"),
    ];
    for protocol in ["http1", "http2"] {
        for (fault, act) in faults {
            let (scene, upstreams) = (Scene::new(), [(); 2].map(|()| upstream(protocol)));
            let mut config = with_endpoints(&scene, &json!([upstreams[0].url(), upstreams[1].url()]));
            config["upstreams"]["app"]["protocol"] = json!(protocol);
            config["upstreams"]["app"]["ejection"] = json!("off");
            config["upstreams"]["app"]["timeouts"] = json!({ "try": "100ms" });
            let gateway = scene.site.start(&config);
            let statuses = ask(&gateway, act);
            let arrived = arrived(&upstreams);
            judge(&format!("{fault}, {protocol}"), &statuses, &arrived);
            let failed = |method: &str| {
                statuses.iter().any(|(path, status)| path.starts_with(method) && *status != 200)
            };
            assert!(failed("/POST"), "{fault}, {protocol}: the fault was met");
            // An answer that began is not begun again; all else is tried once more.
            let again = arrived.values().any(|times| *times > 1);
            assert_eq!(again, fault != "dies in the body", "{fault}, {protocol}: {arrived:?}");
        }
    }
}

#[test]
fn what_a_dead_endpoint_had_of_unsafe_requests_is_sent_to_nobody_else() {
    for protocol in ["http1", "http2"] {
        let (scene, mut upstreams) = (Scene::new(), vec![upstream(protocol), upstream(protocol)]);
        let mut config = with_endpoints(&scene, &json!([upstreams[0].url(), upstreams[1].url()]));
        config["upstreams"]["app"]["protocol"] = json!(protocol);
        let gateway = scene.site.start(&config);
        let (mut statuses, mut seen) = (Vec::new(), BTreeMap::new());
        thread::scope(|scope| {
            let held: Vec<_> = (0..2 * CLIENTS)
                .map(|client| {
                    let gateway = &gateway;
                    let held = scope.spawn(move || one(gateway, client, 0, client / 2 % 2 == 0, "hold"));
                    // One after the other, so that each endpoint gets some of both kinds.
                    eventually("it has arrived", || (arrived(&upstreams).len() == client + 1).then_some(()));
                    held
                })
                .collect();
            let dead = upstreams.remove(0);
            count(&dead, &mut seen);
            drop(dead);
            eventually("all are answered", || {
                upstreams[0].release();
                held.iter().all(|held| held.is_finished()).then_some(())
            });
            statuses = held.into_iter().map(|held| held.join().unwrap()).collect();
        });
        count(&upstreams[0], &mut seen);
        judge(&format!("dead, {protocol}"), &statuses, &seen);
        assert!(statuses.iter().any(|(_, status)| *status == 502), "{protocol}: {statuses:?}");
        assert!(seen.values().any(|times| *times > 1), "{protocol}: a GET is sent again: {seen:?}");
    }
}

#[test]
fn a_name_that_changes_sends_nothing_unsafe_twice() {
    for protocol in ["http1", "http2"] {
        let (scene, names, upstream) = (Scene::new(), NameServer::start(), upstream(protocol));
        names.resolves("app.test", &["127.0.0.1"]);
        let url = format!("http://app.test:{}", upstream.address().port());
        let mut config = with_endpoints(&scene, &json!([url]));
        config["upstreams"]["app"]["protocol"] = json!(protocol);
        config["upstreams"]["app"]["dns"] = json!({ "servers": [names.address()] });
        let gateway = scene.site.start(&config);
        // Nobody listens on the last ones, now and then it can't be told, and each counts for a second.
        let said = ["127.0.0.1 127.0.0.9", "", "127.0.0.9", "127.0.0.1"];
        let mut all = BTreeMap::new();
        for (turn, addresses) in said.into_iter().enumerate() {
            let addresses: Vec<_> = addresses.split_whitespace().collect();
            if addresses.is_empty() {
                names.says("app.test", Says::Failure);
            } else {
                names.resolves("app.test", &addresses);
            }
            // Requests go on until the change is seen: by the gateway's own word, or in what becomes of them.
            let resolved = || gateway.metric("portcullis_name_resolved{name=\"app.test\"}");
            let mut round = 0;
            eventually("the change counts", || {
                let statuses = ask(&gateway, |_| "well");
                let now = arrived([&upstream]);
                judge(&format!("dns, {protocol}, {turn}"), &[], &now);
                round += 1;
                all = now;
                match turn {
                    0 => (round > 2).then_some(()),
                    1 => (resolved() == 0.0).then_some(()),
                    2 => statuses.iter().any(|(_, status)| *status == 502).then_some(()),
                    _ => statuses.iter().all(|(_, status)| *status == 200).then_some(()),
                }
            });
        }
        assert!(all.len() > CLIENTS * REQUESTS, "{protocol}: {all:?}");
    }
}

fn upstream(protocol: &str) -> Upstream {
    if protocol == "http2" { Upstream::http2("counts", None) } else { Upstream::named("counts") }
}

/// Many clients at once, each with POSTs and GETs in turn; every path is asked for once. What became of each, 0 for no answer.
fn ask(gateway: &Gateway, act: impl Fn(usize) -> &'static str + Sync) -> Vec<(String, u16)> {
    let act = &act;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    (0..REQUESTS).map(|n| one(gateway, client, n, n % 2 == 0, act(n))).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

fn one(gateway: &Gateway, client: usize, n: usize, is_post: bool, act: &str) -> (String, u16) {
    static EVERY: AtomicUsize = AtomicUsize::new(0);
    let method = if is_post { "POST" } else { "GET" };
    let path = format!("/{method}-{client}-{n}-{}/{act}", EVERY.fetch_add(1, Ordering::SeqCst));
    let ask = Ask::new(method, API, &path);
    let ask = if is_post { ask.body("once") } else { ask };
    let reply = gateway.connect().send(ask);
    (path, reply.map_or(0, |reply| reply.status))
}

/// How often each path arrived, at all of them together.
fn arrived<'a>(upstreams: impl IntoIterator<Item = &'a Upstream>) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    upstreams.into_iter().for_each(|upstream| count(upstream, &mut seen));
    seen
}

fn count(upstream: &Upstream, seen: &mut BTreeMap<String, usize>) {
    for request in upstream.requests() {
        // Over HTTP/2 the target is a whole URI.
        let target = request["target"].as_str().unwrap();
        let path = target.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
        let path = path.map_or_else(|| target.to_owned(), |(_, path)| format!("/{path}"));
        *seen.entry(path).or_default() += 1;
    }
}

fn judge(what: &str, statuses: &[(String, u16)], arrived: &BTreeMap<String, usize>) {
    for (path, times) in arrived {
        let most = if path.starts_with("/POST") { 1 } else { 4 };
        assert!(*times <= most, "{what}: {path} arrived {times} times");
    }
    for (path, status) in statuses.iter().filter(|(_, status)| *status == 200) {
        assert!(arrived.contains_key(path), "{what}: {path} was answered {status} by nobody");
    }
}
