//! What a scrape says, seen from outside.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, UNIX_EPOCH};

use telemetry::{Material, Metrics};

fn has(metrics: &Metrics, line: &str) -> bool {
    metrics.encode().unwrap().lines().any(|found| found == line)
}

#[test]
fn a_scrape_sums_over_all_cores() {
    let metrics = Metrics::new(2);
    let route = metrics.route("orders");
    route.answers().record(0, 200, Duration::from_millis(2));
    route.answers().record(1, 204, Duration::from_millis(20));
    route.answers().record(99, 503, Duration::from_secs(60));
    for line in [
        r#"portcullis_requests_total{route="orders",status="2xx"} 2"#,
        r#"portcullis_requests_total{route="orders",status="5xx"} 1"#,
        r#"portcullis_request_duration_seconds_count{route="orders"} 3"#,
        r#"portcullis_request_duration_seconds_bucket{le="0.0025",route="orders"} 1"#,
        r#"portcullis_request_duration_seconds_bucket{le="0.025",route="orders"} 2"#,
        r#"portcullis_request_duration_seconds_bucket{le="30.0",route="orders"} 2"#,
        r#"portcullis_request_duration_seconds_bucket{le="+Inf",route="orders"} 3"#,
        r#"portcullis_request_duration_seconds_sum{route="orders"} 60.022"#,
    ] {
        assert!(has(&metrics, line), "no {line} in {}", metrics.encode().unwrap());
    }
}

#[test]
fn every_core_counts_without_losing_one() {
    let metrics = Metrics::new(4);
    let route = metrics.route("orders");
    std::thread::scope(|scope| {
        for core in 0..8 {
            let (metrics, route) = (&metrics, &route);
            scope.spawn(move || {
                for _ in 0..1_000 {
                    route.answers().record(core, 200, Duration::ZERO);
                    metrics.refused(core, "NO_ROUTE");
                }
            });
        }
    });
    assert!(has(&metrics, r#"portcullis_requests_total{route="orders",status="2xx"} 8000"#));
    assert!(has(&metrics, r#"portcullis_refusals_total{code="NO_ROUTE"} 8000"#));
}

#[test]
fn counters_survive_a_reload_and_leave_with_their_route() {
    let metrics = Metrics::new(1);
    let old = metrics.route("orders");
    old.answers().record(0, 200, Duration::ZERO);
    let new = metrics.route("orders");
    drop(old);
    new.answers().record(0, 200, Duration::ZERO);
    assert!(has(&metrics, r#"portcullis_requests_total{route="orders",status="2xx"} 2"#));
    drop(new);
    assert!(!metrics.encode().unwrap().contains("orders"));
}

#[test]
fn a_thousand_generations_leave_no_series_behind() {
    let metrics = Metrics::new(1);
    let lines = |metrics: &Metrics| metrics.encode().unwrap().lines().count();
    let before = lines(&metrics);
    for generation in 0..1_000 {
        let name = format!("generation-{generation}");
        let held =
            (metrics.route(&name), metrics.upstream(&name), metrics.limit(&name), metrics.listener(&name));
        held.1.connected(0, "ok");
        metrics.material_loaded(Material::Jwks, &name, UNIX_EPOCH, None);
        metrics.retain_material(|_, kept| kept == name);
    }
    metrics.retain_material(|_, _| false);
    assert_eq!(lines(&metrics), before);
}

#[test]
fn an_open_connection_counts_until_it_is_dropped() {
    let metrics = Metrics::new(2);
    let listener = metrics.listener("edge");
    let open = [listener.accepted(0), listener.accepted(1), listener.accepted(1)];
    listener.handshake_failed(1, "timeout");
    assert!(has(&metrics, r#"portcullis_connections_open{listener="edge"} 3"#));
    assert!(has(&metrics, r#"portcullis_core_connections{core="1"} 2"#));
    drop(open);
    assert!(has(&metrics, r#"portcullis_connections_total{listener="edge"} 3"#));
    assert!(has(&metrics, r#"portcullis_connections_open{listener="edge"} 0"#));
    assert!(has(&metrics, r#"portcullis_core_connections{core="1"} 0"#));
    assert!(has(&metrics, r#"portcullis_handshake_failures_total{listener="edge",cause="timeout"} 1"#));
}

#[test]
fn material_tells_when_it_ends_and_how_it_fared() {
    let metrics = Metrics::new(1);
    let (now, ends) = (UNIX_EPOCH + Duration::from_secs(100), UNIX_EPOCH + Duration::from_secs(500));
    metrics.material_loaded(Material::Certificate, "edge", now, Some(ends));
    metrics.material_failed(Material::Certificate, "edge");
    metrics.material_loaded(Material::Jwks, "staff", now, None);
    for line in [
        r#"portcullis_certificate_expiry_timestamp_seconds{name="edge"} 500.0"#,
        r#"portcullis_material_last_success_timestamp_seconds{kind="certificate",name="edge"} 100.0"#,
        r#"portcullis_material_failures_total{kind="certificate",name="edge"} 1"#,
        r#"portcullis_jwks_fetched_timestamp_seconds{issuer="staff"} 100.0"#,
    ] {
        assert!(has(&metrics, line), "no {line} in {}", metrics.encode().unwrap());
    }
}

#[test]
fn a_refused_configuration_shows_beside_the_generation_that_serves() {
    let metrics = Metrics::new(1);
    metrics.config_loaded(7, UNIX_EPOCH + Duration::from_secs(1));
    metrics.config_refused(UNIX_EPOCH + Duration::from_secs(2));
    for line in [
        "portcullis_config_generation 7",
        "portcullis_config_last_reload_timestamp_seconds 2.0",
        "portcullis_config_last_reload_success 0",
    ] {
        assert!(has(&metrics, line), "no {line}");
    }
}

#[test]
fn a_label_cannot_leave_its_quotes() {
    let metrics = Metrics::new(1);
    let _limit = metrics.limit("a\"} 1\nforged 1");
    let text = metrics.encode().unwrap();
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_else_is_counted_shows() {
    let metrics = Metrics::new(1);
    metrics.request_began(0);
    metrics.request_began(0);
    metrics.request_ended(0);
    metrics.token_cache(0, "hit");
    metrics.panicked();
    metrics.access_log_dropped(3);
    metrics.shadow_policies(vec![("deny-nights".to_owned(), "would_change", 4)]);
    let (limit, upstream) = (metrics.limit("per-caller"), metrics.upstream("orders"));
    limit.rejected(0);
    limit.table(5, 6);
    upstream.requested(0, "ok");
    for line in [
        "portcullis_requests_in_flight 1",
        r#"portcullis_token_cache_total{result="hit"} 1"#,
        "portcullis_panics_total 1",
        "portcullis_access_log_dropped_total 3",
        r#"portcullis_policy_shadow_total{policy="deny-nights",decision="would_change"} 4"#,
        r#"portcullis_limit_rejections_total{limit="per-caller"} 1"#,
        r#"portcullis_limit_keys{limit="per-caller"} 5"#,
        r#"portcullis_limit_evictions_total{limit="per-caller"} 6"#,
        r#"portcullis_upstream_requests_total{upstream="orders",result="ok"} 1"#,
        concat!(r#"portcullis_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
    ] {
        assert!(has(&metrics, line), "no {line} in {}", metrics.encode().unwrap());
    }
}
