//! The order in which routes are tried, and what a route makes of a path.

use super::*;
use crate::normalize::path::canonical_path;

fn route(place: u32, methods: &[Method]) -> Route {
    let action = Action::Respond { status: StatusCode::OK, body: Bytes::new() };
    let series = telemetry::Metrics::new(1).route("r");
    Route {
        methods: methods.into(),
        ..Route::new(format!("r{place}").into(), RouteIndex(place), action, series)
    }
}

fn host(text: &str) -> HostPattern {
    match text.strip_prefix('*') {
        None if text.is_empty() => HostPattern::Any,
        None => HostPattern::Exact(text.to_owned()),
        Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
    }
}

fn path(text: &str) -> PathPattern {
    match text.strip_suffix("/**") {
        Some(prefix) => PathPattern::Prefix(prefix.to_owned()),
        None => PathPattern::Exact(text.to_owned()),
    }
}

/// A router of `(host, path)` in order, each for all methods.
fn router(routes: &[(&str, &str)]) -> Router {
    let mut router = Router::default();
    for (place, (at_host, at_path)) in (0..).zip(routes) {
        router.add(&host(at_host), &path(at_path), &route(place, &[])).unwrap();
    }
    router
}

fn found(router: &Router, host: &str, path: &str) -> Option<u32> {
    router.find(host, path, &Method::GET).ok().map(|index| index.0)
}

#[test]
fn exact_host_goes_before_wildcard_before_any() {
    let router = router(&[
        ("", "/**"),
        ("*.example.com", "/**"),
        ("*.b.example.com", "/**"),
        ("a.b.example.com", "/**"),
    ]);
    assert_eq!(found(&router, "other.org", "/"), Some(0));
    assert_eq!(found(&router, "x.example.com", "/"), Some(1));
    assert_eq!(found(&router, "x.b.example.com", "/"), Some(2));
    assert_eq!(found(&router, "a.b.example.com", "/"), Some(3));
    assert_eq!(found(&router, "example.com", "/"), Some(0), "a wildcard does not match the bare name");
    assert_eq!(found(&router, "evilexample.com", "/"), Some(0));
}

#[test]
fn a_host_without_this_path_lets_the_next_host_try() {
    let router = router(&[("", "/healthz"), ("api.example.com", "/v1/**")]);
    assert_eq!(found(&router, "api.example.com", "/healthz"), Some(0));
    assert_eq!(found(&router, "api.example.com", "/other"), None);
}

#[test]
fn the_longest_literal_path_wins_on_segment_boundaries() {
    let router = router(&[("", "/**"), ("", "/a/**"), ("", "/a/b/**"), ("", "/a/b"), ("", "/a/b/c")]);
    assert_eq!(found(&router, "h", "/"), Some(0));
    assert_eq!(found(&router, "h", "/a"), Some(1));
    assert_eq!(found(&router, "h", "/a/"), Some(1));
    assert_eq!(found(&router, "h", "/ab"), Some(0));
    assert_eq!(found(&router, "h", "/a/b"), Some(3));
    assert_eq!(found(&router, "h", "/a/b/"), Some(2));
    assert_eq!(found(&router, "h", "/a/b/c"), Some(4));
    assert_eq!(found(&router, "h", "/a/b/c/d"), Some(2));
}

#[test]
fn the_method_decides_last_and_says_what_is_allowed() {
    let mut router = Router::default();
    let (any, at) = (host(""), path("/a"));
    router.add(&any, &at, &route(0, &[Method::GET, Method::HEAD])).unwrap();
    router.add(&any, &at, &route(1, &[Method::POST])).unwrap();
    assert_eq!(router.find("h", "/a", &Method::POST).unwrap(), RouteIndex(1));
    match router.find("h", "/a", &Method::PUT) {
        Err(Refusal::MethodNotAllowed { allow }) => assert_eq!(allow, "GET, HEAD, POST"),
        other => panic!("{other:?}"),
    }
    let tie = router.add(&any, &at, &route(2, &[Method::POST])).unwrap_err();
    assert_eq!(tie.to_string(), "routes `r1` and `r2` match the same requests");
    assert!(router.add(&any, &at, &route(3, &[])).is_err(), "all methods tie with any of them");
}

#[test]
fn a_route_tightens_and_loosens_what_oddities_mean() {
    let judge = |rules: PathRules, raw: &str| rules.judge(canonical_path(raw).unwrap().oddities).is_ok();
    let default = PathRules::default();
    assert!(judge(default, "/a//b") && judge(default, "/a/../b"));
    assert!(!judge(default, "/a;x") && !judge(default, "/a%2fb") && !judge(default, "/a%3fb"));
    assert!(!judge(PathRules { refuse_double_slash: true, ..default }, "/a//b"));
    assert!(!judge(PathRules { refuse_dot_segments: true, ..default }, "/a/../b"));
    assert!(judge(PathRules { allow_semicolon: true, ..default }, "/a;x"));
    assert!(judge(PathRules { allow_encoded_slash: true, ..default }, "/a%2fb"));
}

#[test]
fn a_rewrite_changes_the_prefix_and_nothing_that_was_decided() {
    let rewrite = |from: &str, to: &str| Rewrite { from: from.to_owned(), to: to.to_owned() };
    assert_eq!(rewrite("/api", "").apply("/api/x").unwrap(), "/x");
    assert_eq!(rewrite("/api", "").apply("/api").unwrap(), "/");
    assert_eq!(rewrite("/api", "/v2").apply("/api/x").unwrap(), "/v2/x");
    assert_eq!(rewrite("/api", "").apply("/apix").unwrap(), "/apix");
    assert!(rewrite("/api", "/a/..").apply("/api/x").is_err());
}

#[test]
fn a_path_of_the_gateway_itself_is_there_for_every_host_and_ties_with_whoever_claims_it() {
    let mut router = Router::default();
    let all = route(0, &[]);
    router.add(&host("a.test"), &PathPattern::Prefix(String::new()), &all).unwrap();
    router.add(&host(""), &PathPattern::Prefix(String::new()), &route(1, &[])).unwrap();
    router.add_own("/keys", &route(2, &[Method::GET, Method::HEAD])).unwrap();
    for name in ["a.test", "b.test"] {
        assert_eq!(router.find(name, "/keys", &Method::GET).unwrap(), RouteIndex(2));
        assert!(matches!(
            router.find(name, "/keys", &Method::POST),
            Err(Refusal::MethodNotAllowed { allow }) if allow == "GET, HEAD"
        ));
        assert_ne!(router.find(name, "/keys/x", &Method::GET).unwrap(), RouteIndex(2));
    }
    let mut router = Router::default();
    router.add(&host("a.test"), &PathPattern::Exact("/keys".to_owned()), &all).unwrap();
    assert!(router.add_own("/keys", &route(2, &[Method::GET])).is_err());
}
