//! Scopes of minted tokens.

use std::sync::Arc;

use super::{alice, claims, routes, source};
use crate::facts::tests::facts;
use crate::{Compiler, Decider, Engine, RouteIndex, ScopeIndex, Subject};

fn engine(policies: &str) -> (Arc<Engine>, Compiler) {
    let scopes = ["orders.read", "orders.write", "r1"].map(str::to_owned);
    let (engine, compiler) =
        Engine::compile_granting(&[source(policies)], &claims(), routes(), &scopes).unwrap();
    (Arc::new(engine), compiler)
}

/// The scopes that alice is granted, by every way of deciding.
fn granted(policies: &str) -> Vec<&'static str> {
    let (engine, compiler) = engine(policies);
    let subject = Arc::new(Subject::new(&alice()));
    let mut decider = Decider::new();
    let mut grants = || {
        ["orders.read", "orders.write", "r1"].map(|name| {
            let scope = engine.scope(name).unwrap();
            let is_granted = decider.grants(&engine, &subject, scope, &facts());
            assert_eq!(engine.explain_grant(&subject, scope, &facts()).is_allowed(), is_granted, "{name}");
            is_granted.then_some(name)
        })
    };
    let first = grants();
    compiler.serve_waiting();
    assert_eq!(grants(), first, "after partial evaluation");
    assert_eq!(grants(), first, "from memory");
    first.into_iter().flatten().collect()
}

#[test]
fn a_scope_is_granted_only_by_a_policy() {
    assert!(granted("").is_empty());
    assert!(granted(r#"permit(principal, action in Action::"read", resource);"#).is_empty());
    assert!(
        granted(r#"permit(principal, action, resource == Route::"r1");"#).is_empty(),
        "a route of that name"
    );
    let some = r#"permit(principal is Jwt, action == Action::"grant", resource == Scope::"orders.read");"#;
    assert_eq!(granted(some), ["orders.read"]);
    assert_eq!(granted("permit(principal, action, resource);").len(), 3, "who may do all may have all");
}

#[test]
fn a_forbid_or_an_error_takes_a_scope_away() {
    let all = r#"permit(principal, action == Action::"grant", resource);"#;
    let forbid = r#"forbid(principal, action, resource == Scope::"orders.write");"#;
    assert_eq!(granted(&format!("{all} {forbid}")), ["orders.read", "r1"]);
    let erring =
        r#"forbid(principal, action, resource == Scope::"r1") when { 9223372036854775807 + 1 > 0 };"#;
    assert_eq!(granted(&format!("{all} {erring}")), ["orders.read", "orders.write"]);
}

#[test]
fn a_grant_may_read_the_request() {
    let policy = r#"permit(principal, action == Action::"grant", resource)
        when { context.path like "/orders/*" && resource.name like "orders.*" };"#;
    assert_eq!(granted(policy), ["orders.read", "orders.write"]);
}

#[test]
fn a_scope_is_no_route_and_a_route_no_scope() {
    let (engine, _compiler) = engine("permit(principal, action, resource);");
    let subject = Arc::new(Subject::new(&alice()));
    let mut decider = Decider::new();
    let scope = engine.scope("r1").unwrap();
    assert_eq!(engine.route("orders.read"), None);
    assert_eq!(engine.scope("r2"), None);
    assert!(decider.decide(&engine, &subject, RouteIndex(scope.0), &facts()).is_err());
    assert!(!decider.grants(&engine, &subject, ScopeIndex(0), &facts()));
    assert!(!decider.grants(&engine, &subject, ScopeIndex(99), &facts()));
}

#[test]
fn a_policy_for_a_scope_that_no_token_has_is_warned_of() {
    let (engine, _compiler) = engine(
        r#"@id("typo") permit(principal, action == Action::"grant", resource == Scope::"order.read");"#,
    );
    let [warning] = engine.warnings() else { panic!("{:?}", engine.warnings()) };
    assert_eq!(warning.message, "for policy `typo`, no minted token has a scope `order.read`");
}

#[test]
fn a_method_called_grant_is_none() {
    let (engine, _compiler) = engine(r#"permit(principal, action == Action::"grant", resource);"#);
    let mut request = facts();
    request.method = "grant";
    let subject = Arc::new(Subject::new(&alice()));
    assert!(Decider::new().decide(&engine, &subject, RouteIndex(0), &request).is_err());
}
