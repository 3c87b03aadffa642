//! A request is sent again only where that is safe: nothing of it was sent, or its method is safe, it has no body and not a
//! byte was answered. The backends count what reaches them. What is sent again has a budget.

mod faults;

use serde_json::json;
use testkit::Ask;

use crate::endpoints_that_fail::{Backend, Mode, with_endpoints};
use crate::scene::{API, Scene};

#[test]
fn what_may_have_arrived_and_is_not_safe_is_never_sent_twice() {
    let (scene, backends) = (Scene::new(), both(Mode::Die));
    let gateway = scene.site.start(&config(&scene, &backends));
    let unsafe_ones = ["POST", "PUT", "PATCH", "DELETE"].map(|method| Ask::new(method, API, "/x"));
    let bodies = ["POST", "PUT", "GET"].map(|method| Ask::new(method, API, "/x").body("once"));
    for (n, ask) in (1..).zip(unsafe_ones.into_iter().chain(bodies)) {
        let reply = gateway.ask(ask);
        assert_eq!((reply.status, reply.code().as_str()), (502, "UPSTREAM_PROTOCOL"), "{n}");
        assert_eq!(arrived(&backends), n);
    }
    assert_eq!(gateway.metrics().matches("portcullis_upstream_retries_total{upstream=\"app\"").count(), 0);
}

#[test]
fn nothing_unsafe_is_sent_twice_over_connections_that_were_used_before() {
    let (scene, backends) = (Scene::new(), both(Mode::Answer));
    let gateway = scene.site.start(&config(&scene, &backends));
    let mut before = 0;
    for n in 1..=20 {
        backends.iter().for_each(|backend| backend.be(Mode::Answer));
        for _ in 0..2 {
            assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 200);
        }
        before += 2;
        assert_eq!(arrived(&backends), before);
        backends.iter().for_each(|backend| backend.be(Mode::Die));
        assert_eq!(gateway.ask(Ask::new("POST", API, "/x").body("once")).status, 502, "{n}");
        before += 1;
        assert_eq!(arrived(&backends), before, "{n}");
    }
}

#[test]
fn a_safe_request_goes_to_one_other_endpoint() {
    let (scene, backends) = (Scene::new(), [Mode::Die; 3].map(Backend::start));
    let gateway = scene.site.start(&config(&scene, &backends));
    for n in 1..=10 {
        assert_eq!(gateway.ask(Ask::get(API, "/x")).status, 502);
        assert_eq!(arrived(&backends), 2 * n, "no third one dies of it");
    }
}

#[test]
fn an_answer_that_began_is_not_begun_again() {
    let (scene, backends) = (Scene::new(), both(Mode::Half));
    let gateway = scene.site.start(&config(&scene, &backends));
    for n in 1..=10 {
        let told = gateway.connect().send(Ask::get(API, "/x"));
        assert!(told.is_err(), "half an answer is no answer");
        assert_eq!(arrived(&backends), n);
    }
}

#[test]
fn retries_stay_within_their_budget() {
    let (scene, backends) = (Scene::new(), both(Mode::Die));
    let mut config = config(&scene, &backends);
    config["upstreams"]["app"]["retry"] = json!({ "budget": "1%" });
    let gateway = scene.site.start(&config);
    let began = std::time::Instant::now();
    let mut connection = gateway.connect();
    for _ in 0..300 {
        assert_eq!(connection.send(Ask::get(API, "/x")).unwrap().status, 502);
    }
    // A window's worth of five a second at the start, five more each second, and the share.
    let most = 50.0 + 5.0 * began.elapsed().as_secs_f64() + 3.0 + 1.0;
    let retries = gateway.metric("portcullis_upstream_retries_total{upstream=\"app\",reason=\"died\"}");
    assert!(retries <= most, "{retries} of at most {most}");
    assert_eq!(arrived(&backends) as f64, 300.0 + retries);
    assert!(gateway.metric("portcullis_upstream_retries_over_budget_total{upstream=\"app\"}") > 0.0);
}

fn both(mode: Mode) -> [Backend; 2] {
    [mode; 2].map(Backend::start)
}

/// None is left out, so that every request could go anywhere.
fn config(scene: &Scene, backends: &[Backend]) -> serde_json::Value {
    let urls: Vec<_> = backends.iter().map(Backend::url).collect();
    let mut config = with_endpoints(scene, &json!(urls));
    config["upstreams"]["app"]["ejection"] = json!("off");
    config
}

fn arrived(backends: &[Backend]) -> usize {
    backends.iter().map(Backend::requests).sum()
}
