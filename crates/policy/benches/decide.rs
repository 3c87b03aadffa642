//! What one decision costs, over as many routes as policies, and what compiling them costs.
//!
//! `cargo bench -p policy`. `plain_cedar` is the comparison: `is_authorized` alone over all policies, the request and
//! the entities already built.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use cedar_policy::{Authorizer, Context, Entities, Entity, PolicySet, Request};
use divan::{Bencher, black_box};
use identity::{Principal, PrincipalId, PrincipalKind};
use policy::{ClaimSchema, Decider, Engine, Facts, PolicySource, RouteFacts, Subject, TlsFacts};

const SIZES: [usize; 3] = [10, 1_000, 10_000];

fn main() {
    divan::main();
}

/// One policy per route, and a few that meet every request.
fn policies(count: usize, condition: &str) -> String {
    let mut text: String = (0..count.saturating_sub(3))
        .map(|number| {
            format!(
                "permit(principal in Role::\"role-{number}\", action in Action::\"read\", \
                 resource == Route::\"route-{number}\") {condition};\n"
            )
        })
        .collect();
    text.push_str("forbid(principal in Role::\"blocked\", action, resource);\n");
    text.push_str("forbid(principal is Anonymous, action in Action::\"write\", resource);\n");
    text.push_str("permit(principal in Role::\"root\", action, resource);\n");
    text
}

fn routes(count: usize) -> Vec<RouteFacts> {
    (0..count)
        .map(|number| RouteFacts {
            name: format!("route-{number}"),
            labels: [("tier".to_owned(), "core".to_owned())].into(),
        })
        .collect()
}

fn subject() -> Arc<Subject> {
    let mut principal =
        Principal::named(PrincipalId::new(PrincipalKind::Jwt, "https://id.example.com", "alice"));
    principal.roles = vec!["role-1".to_owned(), "staff".to_owned()];
    principal.scopes = vec!["orders:read".to_owned()];
    Arc::new(Subject::new(&principal))
}

fn facts() -> Facts<'static> {
    Facts {
        method: "GET",
        path: "/api/v1/orders/4711",
        query: Some("page=1&size=20"),
        host: "api.example.com",
        address: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
        tls: TlsFacts { version: Some("1.3"), sni: Some("api.example.com"), client_certificate: None },
        now: SystemTime::now(),
        ends: None,
    }
}

/// Policies that name a role and no route, so that all are candidates everywhere.
fn role_policies(count: usize, condition: &str) -> String {
    (0..count)
        .map(|number| {
            format!(
                "permit(principal in Role::\"role-{number}\", action in Action::\"read\", resource) {condition};\n"
            )
        })
        .collect()
}

fn engine(count: usize, condition: &str) -> (Engine, policy::Compiler) {
    engine_of(policies(count, condition), count)
}

fn engine_of(text: String, count: usize) -> (Engine, policy::Compiler) {
    let source = PolicySource { path: "bench.cedar".into(), text };
    Engine::compile(&[source], &ClaimSchema::new(), routes(count)).unwrap()
}

/// Decides again and again on one route, after the compiler has been there.
fn decide(bencher: Bencher<'_, '_>, (engine, compiler): (Engine, policy::Compiler)) {
    let (engine, subject, facts) = (Arc::new(engine), subject(), facts());
    let route = engine.route("route-1").unwrap();
    let mut decider = Decider::new();
    let compiler = thread::spawn(move || compiler.run());
    assert!(decider.decide(&engine, &subject, route, &facts).is_ok());
    thread::sleep(Duration::from_millis(500));
    bencher.bench_local(|| decider.decide(black_box(&engine), &subject, route, black_box(&facts)));
    drop(engine);
    compiler.join().unwrap();
}

#[divan::bench(args = SIZES)]
fn remembered(bencher: Bencher<'_, '_>, count: usize) {
    decide(bencher, engine(count, ""));
}

#[divan::bench(args = SIZES)]
fn residual_that_reads_the_path(bencher: Bencher<'_, '_>, count: usize) {
    decide(bencher, engine(count, "when { context.path like \"/api/v1/orders/*\" }"));
}

#[divan::bench(args = SIZES)]
fn residual_that_reads_the_address(bencher: Bencher<'_, '_>, count: usize) {
    decide(bencher, engine(count, "when { context.address.isInRange(ip(\"10.0.0.0/8\")) }"));
}

#[divan::bench(args = SIZES)]
fn residual_that_reads_the_time(bencher: Bencher<'_, '_>, count: usize) {
    decide(bencher, engine(count, "when { context.time > datetime(\"2026-01-01\") }"));
}

#[divan::bench(args = SIZES)]
fn roles_remembered(bencher: Bencher<'_, '_>, count: usize) {
    decide(bencher, engine_of(role_policies(count, ""), count));
}

#[divan::bench(args = SIZES)]
fn roles_that_read_the_path(bencher: Bencher<'_, '_>, count: usize) {
    let condition = "when { context.path like \"/api/v1/orders/*\" }";
    decide(bencher, engine_of(role_policies(count, condition), count));
}

#[divan::bench(args = SIZES)]
fn before_partial_evaluation(bencher: Bencher<'_, '_>, count: usize) {
    let (engine, _compiler) = engine(count, "when { context.path like \"/api/v1/orders/*\" }");
    let (engine, subject, facts) = (Arc::new(engine), subject(), facts());
    let route = engine.route("route-1").unwrap();
    let mut decider = Decider::new();
    bencher.bench_local(|| decider.decide(black_box(&engine), &subject, route, black_box(&facts)));
}

#[divan::bench(args = SIZES)]
fn plain_cedar(bencher: Bencher<'_, '_>, count: usize) {
    let set: PolicySet = policies(count, "").parse().unwrap();
    let uid = |text: &str| text.parse().unwrap();
    let parents = [uid("Role::\"role-1\""), uid("Role::\"staff\""), uid("Scope::\"orders:read\"")];
    let entities = [
        Entity::new_no_attrs(uid("Jwt::\"https://id.example.com#alice\""), parents.into()),
        Entity::new_no_attrs(uid("Action::\"GET\""), [uid("Action::\"read\"")].into()),
        Entity::new_no_attrs(uid("Route::\"route-1\""), [uid("Label::\"tier=core\"")].into()),
    ];
    let entities = Entities::from_entities(entities, None).unwrap();
    let request = Request::new(
        uid("Jwt::\"https://id.example.com#alice\""),
        uid("Action::\"GET\""),
        uid("Route::\"route-1\""),
        Context::empty(),
        None,
    )
    .unwrap();
    bencher.bench_local(|| Authorizer::new().is_authorized(black_box(&request), &set, &entities));
}

#[divan::bench(args = SIZES, sample_count = 3, sample_size = 1)]
fn compile(bencher: Bencher<'_, '_>, count: usize) {
    bencher.bench_local(|| engine(count, "when { context.path like \"/api/v1/orders/*\" }"));
}

#[divan::bench]
fn subject_of_a_token(bencher: Bencher<'_, '_>) {
    bencher.bench_local(subject);
}
