//! An upstream that fails altogether is left alone for a while; one that has enough to do gets no more, and those who wait for it
//! take turns. What is refused is refused at once, and other upstreams know nothing of it.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Ask, eventually};

use crate::endpoints_that_fail::{Backend, Mode, with_endpoints};
use crate::scene::{API, Scene};

#[test]
fn what_fails_altogether_is_left_alone_and_tried_by_one_request() {
    let (scene, bad) = (Scene::new(), Backend::start(Mode::Die));
    let mut config = with_endpoints(&scene, &json!([bad.url()]));
    config["upstreams"]["app"]["breaker"] = json!({ "failures": 3, "open": "1s" });
    config["upstreams"]["other"] = json!({ "endpoints": [scene.upstream.url()] });
    config["routes"].as_array_mut().unwrap().push(
        json!({ "name": "other", "on": ["edge"], "path": "/other", "authenticate": "none", "upstream": "other" }),
    );
    let gateway = scene.site.start(&config);
    for _ in 0..3 {
        assert_eq!(gateway.ask(Ask::new("POST", API, "/x")).status, 502);
    }
    for _ in 0..20 {
        let reply = gateway.ask(Ask::new("POST", API, "/x"));
        assert_eq!((reply.status, reply.code().as_str()), (503, "UPSTREAM_OPEN"));
        assert_eq!(reply.header("retry-after"), ["1"]);
        assert_eq!(gateway.ask(Ask::get(API, "/other")).status, 200);
    }
    assert_eq!(bad.requests(), 3, "it was left alone");
    eventually("the metrics tell", || {
        (gateway.metric("portcullis_upstream_circuit_open{upstream=\"app\"}") == 1.0).then_some(())
    });
    eventually("one is let through, which fails", || {
        assert!(matches!(gateway.ask(Ask::new("POST", API, "/x")).status, 502 | 503));
        (bad.requests() == 4).then_some(())
    });
    assert_eq!(gateway.ask(Ask::new("POST", API, "/x")).code(), "UPSTREAM_OPEN");
    bad.be(Mode::Answer);
    eventually("one is let through, which is answered", || {
        (gateway.ask(Ask::new("POST", API, "/x")).status == 200).then_some(())
    });
    for _ in 0..5 {
        assert_eq!(gateway.ask(Ask::new("POST", API, "/x")).status, 200);
    }
    assert_eq!(gateway.metric("portcullis_upstream_circuit_openings_total{upstream=\"app\"}"), 2.0);
    assert_eq!(gateway.metric("portcullis_upstream_shed_total{upstream=\"other\""), 0.0);
}

#[test]
fn more_than_it_takes_at_once_waits_and_what_waits_too_long_is_shed() {
    let (scene, slow) = (Scene::new(), Backend::start(Mode::Wait(Duration::from_millis(400))));
    let mut config = with_endpoints(&scene, &json!([slow.url()]));
    config["upstreams"]["app"]["breaker"] =
        json!({ "requests": 1, "queue": { "most": 100, "wait": "600ms" } });
    let gateway = scene.site.start(&config);
    let statuses: Vec<(u16, String, Duration)> = thread::scope(|scope| {
        let asked: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let began = Instant::now();
                    let reply = gateway.ask(Ask::get(API, "/x"));
                    let code = if reply.status == 200 { String::new() } else { reply.code() };
                    (reply.status, code, began.elapsed())
                })
            })
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let served = statuses.iter().filter(|(status, ..)| *status == 200).count();
    assert_eq!(served, slow.requests(), "what was shed never arrived");
    assert!((1..=3).contains(&served), "one after the other within 600 ms: {statuses:?}");
    for (status, code, _) in statuses.iter().filter(|(status, ..)| *status != 200) {
        assert_eq!((*status, code.as_str()), (503, "UPSTREAM_SATURATED"));
    }
    assert_eq!(slow.most_at_once(), 1);
    let late = "portcullis_upstream_shed_total{upstream=\"app\",reason=\"queue_time\"}";
    assert_eq!(gateway.metric(late), (6 - served) as f64);
    assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200, "the slot came back");
}

#[test]
fn who_asks_little_is_served_beside_who_asks_for_everything() {
    let (scene, slow) = (Scene::new(), Backend::start(Mode::Wait(Duration::from_millis(50))));
    let mut config = scene.tokens();
    config["upstreams"]["app"] = json!({
        "endpoints": [slow.url()],
        "breaker": { "requests": 2, "queue": { "most": 8, "wait": "5s" } },
    });
    let gateway = scene.site.start(&config);
    let (noisy, quiet) = (scene.token("noisy"), scene.token("quiet"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let shed = thread::scope(|scope| {
        let crowd: Vec<_> = (0..24)
            .map(|_| {
                scope.spawn(|| {
                    let mut shed = 0;
                    let mut connection = gateway.connect();
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let reply = connection.send(Ask::get(API, "/x").bearer(&noisy)).unwrap();
                        shed += usize::from(reply.status == 503);
                    }
                    shed
                })
            })
            .collect();
        eventually("the queue is full", || {
            (gateway.metric("portcullis_upstream_shed_total{upstream=\"app\",reason=\"queue_full\"}") > 10.0)
                .then_some(())
        });
        for n in 0..10 {
            let reply = gateway.ask(Ask::get(API, "/x").bearer(&quiet));
            assert_eq!(reply.status, 200, "{n}: {}", reply.text());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        crowd.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert!(shed > 10, "the crowd was shed {shed} times");
    assert!(slow.most_at_once() <= 2);
}

#[test]
fn nothing_unsafe_arrives_twice_whatever_fails() {
    let scene = Scene::new();
    let backends = [Mode::Answer; 3].map(Backend::start);
    let urls: Vec<_> = backends.iter().map(Backend::url).collect();
    let mut config = with_endpoints(&scene, &json!(urls));
    let app = &mut config["upstreams"]["app"];
    app["ejection"] = json!({ "failures": 2, "for": "100ms" });
    app["health"] = json!({ "path": "/healthz", "every": "100ms", "timeout": "100ms" });
    app["slow_start"] = json!("200ms");
    app["breaker"] = json!({ "failures": 4, "open": "100ms", "requests": 8, "queue": { "most": 8 } });
    app["timeouts"] = json!({ "response": "150ms" });
    let gateway = scene.site.start(&config);
    let faults = [Mode::Answer, Mode::Die, Mode::Half, Mode::Wait(Duration::from_millis(250))];
    thread::scope(|scope| {
        for caller in 0..4 {
            let (gateway, backends) = (&gateway, &backends);
            scope.spawn(move || {
                for n in 0..40 {
                    // Every fault on every backend, in another order for each.
                    if caller == 0 {
                        for (place, backend) in (0..).zip(backends) {
                            backend.be(faults[(n / 4 + place * n) % faults.len()]);
                        }
                    }
                    let method = ["POST", "PUT", "PATCH", "DELETE"][n % 4];
                    let ask =
                        Ask::new(method, API, "/x").header("x-once", &format!("{caller}-{n}")).body("once");
                    // An answer that breaks off is an error here: what counts is what arrived.
                    drop(gateway.connect().send(ask));
                }
            });
        }
    });
    let mut arrived: Vec<String> = backends.iter().flat_map(Backend::once).collect();
    let count = arrived.len();
    arrived.sort();
    arrived.dedup();
    assert_eq!(arrived.len(), count, "some arrived twice");
    assert!(count > 20, "only {count} of 160 arrived at all");
}
