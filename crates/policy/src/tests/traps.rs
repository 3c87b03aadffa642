//! What Cedar and its partial evaluator would get wrong for us if we let them.

use std::sync::Arc;
use std::time::Duration;

use identity::{Principal, PrincipalId, PrincipalKind};

use super::{Bench, alice, alice_of_level, claims, routes, source};
use crate::facts::tests::facts;
use crate::partial::Partial;
use crate::{CertificateFacts, Decider, DenialReason, Engine, PolicySource, RouteIndex, Subject, TlsFacts};

const ERR: &str = "9223372036854775807 + 1 > 0";
/// Errs for principals of level 1 and above.
const ERR_BY_LEVEL: &str = "principal.claims has level && principal.claims.level + 9223372036854775807 > 0";
/// Errs on the path `/orders/1` alone, which is that of the test's request.
const ERR_BY_PATH: &str = r#"context.path == "/orders/1" && 9223372036854775807 + 1 > 0"#;

#[test]
fn without_policies_everything_is_denied() {
    assert_eq!(Bench::new("").all(&alice(), &facts()), (Err(DenialReason::NoPermit), String::new()));
    let (engine, _compiler) = Engine::compile(&[], &claims(), routes()).unwrap();
    let denial =
        Decider::new().decide(&Arc::new(engine), &Arc::new(Subject::new(&alice())), RouteIndex(0), &facts());
    assert_eq!(denial.unwrap_err().reason.code(), "POLICY_NO_PERMIT");
}

#[test]
fn a_forbid_that_errs_beside_a_permit_denies_where_cedar_would_allow() {
    for condition in [ERR, ERR_BY_LEVEL, ERR_BY_PATH] {
        let policies = format!(
            "@id(\"p\") permit(principal, action, resource);
             @id(\"f\") forbid(principal, action, resource) when {{ {condition} }};"
        );
        let said = Bench::new(&policies).all(&alice_of_level(1), &facts());
        assert_eq!(said, (Err(DenialReason::PolicyError), "f".to_owned()), "{condition}");
    }
}

#[test]
fn a_permit_that_errs_beside_a_permit_denies() {
    for condition in [ERR, ERR_BY_LEVEL, ERR_BY_PATH] {
        let policies = format!(
            "@id(\"p\") permit(principal, action, resource);
             @id(\"e\") permit(principal, action, resource) when {{ {condition} }};"
        );
        let said = Bench::new(&policies).all(&alice_of_level(1), &facts());
        assert_eq!(said, (Err(DenialReason::PolicyError), "e".to_owned()), "{condition}");
    }
}

#[test]
fn a_policy_that_errs_elsewhere_does_not_deny_here() {
    let policies = format!(
        "@id(\"p\") permit(principal, action, resource);
         @id(\"f\") forbid(principal, action == Action::\"DELETE\", resource) when {{ {ERR} }};
         @id(\"g\") forbid(principal, action, resource == Route::\"r2\") when {{ {ERR} }};
         @id(\"h\") forbid(principal in Role::\"other\", action, resource) when {{ {ERR} }};"
    );
    assert_eq!(Bench::new(&policies).all(&alice(), &facts()), (Ok(()), "p".to_owned()));
}

#[test]
fn a_constant_forbid_beside_a_residual_permit_still_forbids() {
    let policies = r#"
        @id("f") forbid(principal, action, resource in Label::"tier=core");
        @id("p") permit(principal, action, resource) when { context.path like "/orders/*" };
        @id("q") permit(principal, action, resource) when { principal.id like "jwt:*" };"#;
    assert_eq!(Bench::new(policies).all(&alice(), &facts()), (Err(DenialReason::Forbidden), "f".to_owned()));
}

#[test]
fn a_constant_permit_beside_a_residual_forbid_allows_only_where_the_forbid_does_not_apply() {
    let policies = r#"
        @id("p") permit(principal, action, resource);
        @id("f") forbid(principal, action, resource) when { context.path like "/orders/*" };"#;
    let mut bench = Bench::new(policies);
    assert_eq!(bench.all(&alice(), &facts()), (Err(DenialReason::Forbidden), "f".to_owned()));
    let mut elsewhere = facts();
    elsewhere.path = "/";
    assert_eq!(bench.all(&alice(), &elsewhere), (Ok(()), "p".to_owned()));
}

#[test]
fn a_forbid_beside_an_error_is_named_as_the_reason() {
    let policies = format!(
        "@id(\"e\") permit(principal, action, resource) when {{ {ERR} }};
         @id(\"f\") forbid(principal, action, resource) when {{ context.path like \"/orders/*\" }};"
    );
    let said = Bench::new(&policies).all(&alice(), &facts());
    assert_eq!(said, (Err(DenialReason::Forbidden), "f".to_owned()));
}

#[test]
fn what_reads_the_request_is_evaluated_each_time() {
    let certificate = CertificateFacts { name: "a", fingerprint: "b", serial: "c" };
    let tls = TlsFacts { version: Some("1.3"), sni: Some("a"), client_certificate: Some(certificate) };
    let office = "10.0.0.1".parse().unwrap();
    let changed = |change: &dyn Fn(&mut crate::Facts<'static>)| {
        let mut facts = facts();
        change(&mut facts);
        facts
    };
    for (condition, other) in [
        (r#"context.path == "/x""#, changed(&|facts| facts.path = "/x")),
        (r#"context.host == "x""#, changed(&|facts| facts.host = "x")),
        (r#"context.query.contains("x")"#, changed(&|facts| facts.query = Some("x"))),
        (r#"context.address.isInRange(ip("10.0.0.0/8"))"#, changed(&|facts| facts.address = office)),
        (
            r#"context.time > datetime("2027-01-01")"#,
            changed(&|facts| facts.now += Duration::from_hours(9000)),
        ),
        ("context has tls", changed(&|facts| facts.tls = tls)),
        (r#"context has tls.client && context.tls.client.serial == "c""#, changed(&|facts| facts.tls = tls)),
        (r#"context.method == "PROPFIND""#, changed(&|facts| facts.method = "PROPFIND")),
        (r#"principal has id && {c: context}.c.path == "/x""#, changed(&|facts| facts.path = "/x")),
    ] {
        let mut bench = Bench::new(&format!("permit(principal, action, resource) when {{ {condition} }};"));
        let subject = Arc::new(Subject::new(&alice()));
        for _ in 0..2 {
            assert_eq!(bench.decide(&subject, &facts()).0, Err(DenialReason::NoPermit), "{condition}");
            assert_eq!(bench.decide(&subject, &other).0, Ok(()), "{condition}");
            bench.compiler.serve_waiting();
        }
    }
}

#[test]
fn a_remembered_decision_is_for_exactly_that_principal() {
    let policies = r#"
        permit(principal in Role::"admin", action, resource);
        permit(principal in Scope::"admin", action, resource);
        permit(principal, action, resource) when { principal.claims has level && principal.claims.level > 2 };"#;
    let mut bench = Bench::new(policies);
    let mut role = alice();
    role.roles.push("admin".to_owned());
    let mut scope = alice();
    scope.scopes.push("admin".to_owned());
    for _ in 0..3 {
        for (principal, expected) in [
            (alice(), Err(DenialReason::NoPermit)),
            (role.clone(), Ok(())),
            (scope.clone(), Ok(())),
            (alice_of_level(2), Err(DenialReason::NoPermit)),
            (alice_of_level(3), Ok(())),
        ] {
            assert_eq!(bench.all(&principal, &facts()).0, expected);
        }
    }
}

#[test]
fn a_new_generation_remembers_nothing_of_the_old_and_the_old_does_not_disturb_it() {
    let mut old = Bench::new("permit(principal in Role::\"admin\", action, resource);");
    let new = Bench::new("forbid(principal in Role::\"admin\", action, resource);");
    let mut admin = alice();
    admin.roles.push("admin".to_owned());
    let subject = Arc::new(Subject::new(&admin));
    let mut decider = Decider::new();
    for _ in 0..3 {
        let permit = decider.decide(&old.engine, &subject, RouteIndex(0), &facts());
        assert!(permit.is_ok());
        let denial = decider.decide(&new.engine, &subject, RouteIndex(0), &facts());
        assert_eq!(denial.unwrap_err().reason, DenialReason::Forbidden);
        old.compiler.serve_waiting();
        new.compiler.serve_waiting();
    }
    assert_eq!(old.all(&admin, &facts()).0, Ok(()));
}

#[test]
fn a_residual_that_dereferences_the_route_sees_the_route() {
    let policies = r#"
        @id("p") permit(principal, action == Action::"GET", resource)
        when { (if principal in Role::"a" then resource else Route::"r2").name == "r1" };"#;
    let mut bench = Bench::new(policies);
    let mut member = alice();
    member.roles.push("a".to_owned());
    assert_eq!(bench.all(&member, &facts()), (Ok(()), "p".to_owned()));
    assert_eq!(bench.all(&alice(), &facts()), (Err(DenialReason::PolicyError), "p".to_owned()));
}

#[test]
fn a_policy_may_speak_of_another_action_than_the_requests() {
    let policies = r#"
        @id("p") permit(principal, action, resource)
        when { (if principal is Jwt then Action::"GET" else action) in Action::"read" };"#;
    let mut post = facts();
    post.method = "POST";
    assert_eq!(Bench::new(policies).all(&alice(), &post), (Ok(()), "p".to_owned()));
}

#[test]
fn among_many_policies_each_principal_meets_its_own() {
    let mut policies: String = (0..50)
        .map(|number| {
            format!("@id(\"p{number}\") permit(principal in Role::\"role-{number}\", action, resource);\n")
        })
        .collect();
    policies.push_str(
        "@id(\"f\") forbid(principal is Jwt, action, resource) when { principal.claims has level };",
    );
    let mut bench = Bench::new(&policies);
    let mut principal = alice();
    assert_eq!(bench.all(&principal, &facts()), (Err(DenialReason::NoPermit), String::new()));
    principal.roles = vec!["role-7".to_owned(), "role-49".to_owned(), "role-50".to_owned()];
    assert_eq!(bench.all(&principal, &facts()), (Ok(()), "p49 p7".to_owned()));
    principal.claims = alice_of_level(1).claims;
    assert_eq!(bench.all(&principal, &facts()), (Err(DenialReason::Forbidden), "f".to_owned()));
}

#[test]
fn too_many_policies_to_evaluate_partially_stay_whole_and_say_the_same() {
    for (condition, elsewhere) in [
        ("", (Ok(()), "p7".to_owned())),
        (r#"when { context.path like "/orders/*" }"#, (Err(DenialReason::NoPermit), String::new())),
    ] {
        let policies: String = (0..300)
            .map(|number| {
                format!("@id(\"p{number}\") permit(principal in Role::\"role-{number}\", action, resource) {condition};\n")
            })
            .collect();
        let mut bench = Bench::new(&policies);
        let mut principal = alice();
        principal.roles.push("role-7".to_owned());
        let subject = Subject::new(&principal);
        let mut other = facts();
        other.path = "/x";
        for _ in 0..2 {
            assert_eq!(bench.all(&principal, &facts()), (Ok(()), "p7".to_owned()));
            assert_eq!(bench.all(&alice(), &facts()), (Err(DenialReason::NoPermit), String::new()));
            assert_eq!(bench.all(&principal, &other), elsewhere);
        }
        let slot = bench.engine.generation().slot(RouteIndex(0), &subject, &facts()).unwrap();
        assert!(matches!(bench.engine.generation().partial(slot), Some(Partial::Whole(_))));
    }
}

#[test]
fn a_shadow_never_changes_an_outcome_and_is_counted() {
    let policies = format!(
        "@id(\"p\") permit(principal, action in Action::\"read\", resource);
         @id(\"sf\") @shadow(\"\") forbid(principal, action, resource);
         @id(\"sp\") @shadow(\"\") permit(principal, action, resource);
         @id(\"se\") @shadow(\"\") forbid(principal, action, resource) when {{ {ERR_BY_LEVEL} }};
         @id(\"sn\") @shadow(\"\") forbid(principal, action, resource) when {{ context.path == \"/x\" }};"
    );
    let mut bench = Bench::new(&policies);
    let mut post = facts();
    post.method = "POST";
    // Each is decided three times by `all`.
    assert_eq!(bench.all(&alice_of_level(1), &facts()), (Ok(()), "p".to_owned()));
    assert_eq!(bench.all(&alice_of_level(1), &post), (Err(DenialReason::NoPermit), String::new()));
    let counters: Vec<_> = bench
        .engine
        .shadow_counters()
        .into_iter()
        .map(|count| (count.policy.to_string(), count.applied, count.would_change, count.erred))
        .collect();
    let expected = [("sf", 6, 3, 0), ("sp", 6, 3, 0), ("se", 0, 3, 6), ("sn", 0, 0, 0)]
        .map(|(a, b, c, d)| (a.to_owned(), b, c, d));
    assert_eq!(counters, expected);
    assert_eq!(bench.engine.policy_count(), (1, 4));
}

#[test]
fn shadows_alone_permit_nothing() {
    let mut bench = Bench::new("@shadow(\"try\") permit(principal, action, resource);");
    assert_eq!(bench.all(&alice(), &facts()), (Err(DenialReason::NoPermit), String::new()));
}

#[test]
fn a_remembered_decision_counts_its_shadows_each_time() {
    let mut bench = Bench::new(
        "permit(principal in Role::\"a\", action, resource);
         @shadow(\"\") forbid(principal in Role::\"a\", action, resource);",
    );
    let mut member = alice();
    member.roles.push("a".to_owned());
    for _ in 0..5 {
        assert_eq!(bench.all(&member, &facts()).0, Ok(()));
    }
    let count = bench.engine.shadow_counters().remove(0);
    assert_eq!((count.applied, count.would_change), (15, 15));
}

#[test]
fn a_subject_is_remembered_from_its_second_request_on() {
    let mut bench = Bench::new("permit(principal in Role::\"a\", action, resource);");
    let mut member = alice();
    member.roles.push("a".to_owned());
    assert_eq!(bench.all(&member, &facts()).0, Ok(()));
    let before = bench.decider.len();
    let subject = Arc::new(Subject::new(&member));
    for remembered in [0, 1, 1] {
        assert!(bench.decider.decide(&bench.engine, &subject, RouteIndex(0), &facts()).is_ok());
        assert_eq!(bench.decider.len() - before, remembered);
    }
}

#[test]
fn a_route_or_a_claim_of_another_generation_is_denied() {
    let mut bench = Bench::new("permit(principal, action, resource);");
    let subject = Arc::new(Subject::new(&alice()));
    let denial = bench.decider.decide(&bench.engine, &subject, RouteIndex(3), &facts()).unwrap_err();
    assert_eq!(denial.reason.code(), "POLICY_STALE");
    let mut principal = alice();
    principal.claims.insert("unheard-of".to_owned(), identity::ClaimValue::Bool(true));
    assert_eq!(bench.all(&principal, &facts()), (Err(DenialReason::Stale), String::new()));
}

#[test]
fn a_principal_whose_id_has_two_readings_is_denied_by_a_policy_that_permits_all() {
    let id = PrincipalId::new(PrincipalKind::Jwt, "https://a#b", "c");
    let policies = "permit(principal, action, resource) when { principal.id != \"\" };";
    let said = Bench::new(policies).all(&Principal::named(id), &facts());
    assert_eq!(said, (Err(DenialReason::PolicyError), String::new()));
}

#[test]
fn a_time_that_cedar_cannot_hold_denies() {
    let policies = "permit(principal, action, resource);
        permit(principal, action, resource) when { context.time > datetime(\"2026-01-01\") };";
    let mut far = facts();
    far.now += Duration::from_secs(1 << 40);
    assert_eq!(Bench::new(policies).all(&alice(), &far), (Err(DenialReason::PolicyError), String::new()));
}

#[test]
fn a_permit_ends_with_the_proofs_and_decisions_have_ids_of_their_own() {
    let mut bench = Bench::new("permit(principal, action, resource);");
    let subject = Arc::new(Subject::new(&alice()));
    let mut facts = facts();
    facts.ends = Some(facts.now + Duration::from_secs(60));
    let first = bench.decider.decide(&bench.engine, &subject, RouteIndex(0), &facts).unwrap();
    let second = bench.decider.decide(&bench.engine, &subject, RouteIndex(0), &facts).unwrap();
    assert_eq!(first.ends(), facts.ends);
    assert_ne!(first.decision_id(), second.decision_id());
    assert_eq!(first.decision_id().to_string().len(), 16);
}

#[test]
fn an_explanation_says_where_each_policy_stands_and_how_it_erred() {
    let text = format!(
        "@id(\"p\") permit(principal, action, resource);\n\n  @id(\"e\") @owner(\"me\") permit(principal, action, resource) when {{ {ERR} }};\n@shadow(\"x\") forbid(principal, action, resource);"
    );
    let sources = [PolicySource { path: "policies/a.cedar".into(), text }, source("")];
    let (engine, _compiler) = Engine::compile(&sources, &claims(), routes()).unwrap();
    let explained = engine.explain(&Subject::new(&alice()), RouteIndex(0), &facts());
    assert_eq!(explained.decision, Err(DenialReason::PolicyError));
    let fault = &explained.errors[0];
    assert_eq!((fault.policy.line, fault.policy.column), (3, 3));
    assert_eq!(fault.policy.path.to_str(), Some("policies/a.cedar"));
    assert_eq!(fault.policy.annotations["owner"], "me");
    assert!(fault.message.contains("overflow"), "{}", fault.message);
    assert_eq!(explained.policies, std::slice::from_ref(&fault.policy));
    assert_eq!(explained.shadows[0].policy.id.as_str(), "a.cedar#3");
    assert!(!explained.shadows[0].would_change);
}
