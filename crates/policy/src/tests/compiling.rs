//! Policies that are wrong, and the compiler's life.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{alice, claims, routes, source};
use crate::engine::Generation;
use crate::facts::tests::facts;
use crate::partial::Partial;
use crate::{Decider, Engine, PolicySource, Problem, RouteFacts, RouteIndex, Subject};

fn problems(sources: &[PolicySource]) -> Vec<Problem> {
    Engine::compile(sources, &claims(), routes()).unwrap_err()
}

#[test]
fn every_problem_of_every_file_is_reported_at_once_with_its_place() {
    let files = [
        ("a.cedar", "permit(principal, action, resource);\npermit(principal, action resource);"),
        ("b.cedar", "permit(principal, action, resource)\nwhen { principal.salary > 1 };"),
        (
            "c.cedar",
            "forbid(principal in Team::\"a\", action, resource);\npermit(principal, action == Action::\"GTE\", resource);",
        ),
        ("d.cedar", "permit(principal, action, resource) when { principal.claims.level > 1 };"),
        ("e.cedar", "permit(principal, action, resource) when { context.path > 1 };"),
        ("f.cedar", "permit(principal, action, resource) when { resource.name == 1 };"),
    ];
    let sources = files.map(|(path, text)| PolicySource { path: path.into(), text: text.to_owned() });
    let found = problems(&sources);
    let places: Vec<_> =
        found.iter().map(|problem| (problem.path.to_str().unwrap(), problem.line, problem.column)).collect();
    for expected in [
        ("a.cedar", 2, 26),
        ("b.cedar", 2, 8),
        ("c.cedar", 1, 21),
        ("c.cedar", 2, 29),
        ("d.cedar", 1, 44),
        ("e.cedar", 1, 44),
        ("f.cedar", 1, 44),
    ] {
        assert!(places.contains(&expected), "{expected:?} is missing in {found:#?}");
    }
    let typo = found.iter().find(|problem| problem.message.contains("GTE")).unwrap();
    assert!(typo.help.as_deref().is_some_and(|help| help.contains("GET")), "{typo:?}");
}

#[test]
fn a_policy_that_can_never_apply_is_a_problem() {
    let found = problems(&[source("forbid(principal, action, resource) when { resource is Label };")]);
    assert!(found[0].message.contains("impossible"), "{found:?}");
    assert_eq!(problems(&[source("permit(principal == Role::\"admin\", action, resource);")]).len(), 1);
}

#[test]
fn a_fallible_policy_in_a_shadow_is_validated_like_any_other() {
    assert_eq!(problems(&[source("@shadow permit(principal, action, resource) when { 1 };")]).len(), 1);
}

#[test]
fn a_label_that_could_be_read_in_two_ways_is_a_problem() {
    let route = RouteFacts { name: "a".to_owned(), labels: [("k=v".to_owned(), "w".to_owned())].into() };
    let found = Engine::compile(&[], &claims(), vec![route]).unwrap_err();
    assert!(found[0].message.contains("`k=v`"), "{found:?}");
}

#[test]
fn many_policies_without_a_scope_are_warned_of() {
    let text = "permit(principal, action, resource) when { context.path == \"/\" };\n".repeat(101);
    let (engine, _compiler) = Engine::compile(&[source(&text)], &claims(), routes()).unwrap();
    assert!(engine.warnings()[0].message.starts_with("101 policies name neither"));
}

#[test]
fn a_policy_for_a_route_that_there_is_not_is_warned_of() {
    let text = r#"@id("typo") forbid(principal, action, resource) when { resource == Route::"r4" };
        permit(principal, action, resource == Route::"r1");"#;
    let (engine, _compiler) = Engine::compile(&[source(text)], &claims(), routes()).unwrap();
    let [warning] = engine.warnings() else { panic!("{:?}", engine.warnings()) };
    assert_eq!(warning.message, "for policy `typo`, there is no route `r4`");
    assert_eq!(warning.help.as_deref(), Some("the routes are `r1`, `r2`, `r3`"));
    let (engine, _compiler) = Engine::compile(&[source(text)], &claims(), Vec::new()).unwrap();
    assert!(engine.warnings().is_empty(), "without a configuration routes are not known");
}

#[test]
fn a_mistake_is_told_once_for_all_actions() {
    let text = r#"forbid(principal, action, resource) when { context.qery.contains("debug") };"#;
    let found = Engine::compile(&[source(text)], &claims(), routes()).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].message.ends_with("attribute `qery` in context not found"), "{found:?}");
}

fn is_filled(generation: &Generation, subject: &Subject) -> bool {
    let slot = generation.slot(RouteIndex(0), subject, &facts()).unwrap();
    matches!(generation.partial(slot), Some(Partial::Constant(_)))
}

#[test]
fn the_compiler_works_on_a_thread_of_its_own_and_ends_with_the_engine() {
    let text = "permit(principal, action, resource);";
    let (engine, compiler) = Engine::compile(&[source(text)], &claims(), routes()).unwrap();
    let (engine, subject) = (Arc::new(engine), Arc::new(Subject::new(&alice())));
    let thread = thread::spawn(move || compiler.run());
    assert!(Decider::new().decide(&engine, &subject, RouteIndex(0), &facts()).is_ok());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_filled(engine.generation(), &subject) {
        assert!(Instant::now() < deadline, "the compiler does nothing");
        thread::yield_now();
    }
    drop(engine);
    thread.join().unwrap();
}

#[test]
fn a_compiler_that_is_gone_leaves_plain_decisions() {
    let text = "permit(principal, action, resource);";
    let (engine, compiler) = Engine::compile(&[source(text)], &claims(), routes()).unwrap();
    drop(compiler);
    let (engine, subject) = (Arc::new(engine), Arc::new(Subject::new(&alice())));
    for _ in 0..3 {
        assert!(Decider::new().decide(&engine, &subject, RouteIndex(0), &facts()).is_ok());
    }
}

#[test]
fn what_both_halves_hold_may_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<Engine>();
    check::<Subject>();
    check::<crate::Permit>();
}

#[test]
fn a_policy_without_an_action_may_compare_its_resource_with_a_route() {
    let text = r#"permit(principal, action, resource) when { resource == Route::"r1" || resource in [Route::"r2"] };"#;
    Engine::compile(&[source(text)], &claims(), routes()).unwrap();
}
