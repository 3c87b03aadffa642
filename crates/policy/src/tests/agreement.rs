//! Plain Cedar over all policies, plain Cedar over the candidates, what remains after partial evaluation, and memory
//! say the same: decision, reasons, errors, shadows; on random policies, principals, routes, scopes and requests.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use identity::{ClaimValue, Principal, PrincipalId, PrincipalKind};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{ISSUER, claims, routes};
use crate::partial::Partial;
use crate::{
    CertificateFacts, Decider, Denial, DenialReason, Engine, Facts, PolicyId, PolicySource, RouteIndex,
    ScopeIndex, Subject, TlsFacts,
};

const LEAVES: &[&str] = &[
    "true",
    "false",
    "9223372036854775807 + 1 > 0",
    r#"principal.id like "*a*""#,
    r#"principal in Role::"r1""#,
    r#"principal in [Role::"r1", Scope::"s1"]"#,
    "principal is Jwt",
    r#"principal is Spiffe && principal.path like "/ns/*""#,
    r#"principal == Jwt::"https://id.example.com#alice""#,
    "principal.claims has level && principal.claims.level > 1",
    "principal.claims has level && principal.claims.level + 9223372036854775806 > 0",
    r#"principal.claims has groups && principal.claims.groups.contains("x")"#,
    r#"principal.claims has team && resource.hasTag("team") && resource.getTag("team") == principal.claims.team"#,
    r#"Jwt::"https://id.example.com#alice" in Role::"r1""#,
    r#"Jwt::"https://id.example.com#alice".claims has level"#,
    r#"resource.hasTag("tier") && resource.getTag("tier") == "core""#,
    r#"resource in Label::"team=red""#,
    r#"resource.name == "r1""#,
    r#"Route::"r2" has name"#,
    r#"Route::"r2" in Label::"tier=core""#,
    r#"(if principal in Role::"r1" then resource else Route::"r2").name == "r1""#,
    r#"Label::"tier=core" in Label::"tier=core""#,
    r#"action in Action::"read""#,
    r#"[action, Action::"PUT"].contains(Action::"GET")"#,
    r#"(if principal is Jwt then action else Action::"GET") in Action::"read""#,
    r#"context.path like "/a/*""#,
    r#"context.method == "GET""#,
    r#"context.host == principal.id || context.host == "h""#,
    r#"context.query.contains("k")"#,
    r#"context.address.isInRange(ip("10.0.0.0/8"))"#,
    r#"context.time < datetime("2026-06-01")"#,
    r#"context.time.offset(duration("9223372036854775807ms")) > datetime("2026-06-01")"#,
    r#"context has tls && context.tls.version == "1.3""#,
    r#"context has tls.client && context.tls.client.serial == "1""#,
    r#"context has tls.sni && context.tls.sni == context.host"#,
    r#"{it: context}.it.path == "/a/b""#,
    r#"Scope::"s1".name == "s1""#,
    r#"Scope::"s2" has name && principal in [Scope::"s1"]"#,
    r#"(if principal in Scope::"s1" then resource else Scope::"s2").name == "s1""#,
    r#"resource in Scope::"s1""#,
];

const PRINCIPALS: &[&str] = &[
    "principal",
    r#"principal == Jwt::"https://id.example.com#alice""#,
    r#"principal == Spiffe::"spiffe://example.org/ns/a""#,
    r#"principal in Role::"r1""#,
    r#"principal in Role::"r2""#,
    r#"principal in Scope::"s1""#,
    r#"principal in Jwt::"https://id.example.com#alice""#,
    "principal is Jwt",
    r#"principal is Spiffe in Role::"r1""#,
    "principal is Anonymous",
];

const ACTIONS: &[&str] = &[
    "action",
    r#"action == Action::"GET""#,
    r#"action in Action::"read""#,
    r#"action in [Action::"write", Action::"GET"]"#,
    r#"action == Action::"other""#,
    r#"action == Action::"grant""#,
    r#"action in [Action::"grant", Action::"read"]"#,
];

const RESOURCES: &[&str] = &[
    "resource",
    r#"resource == Route::"r1""#,
    r#"resource in Route::"r1""#,
    "resource is Route",
    r#"resource in Label::"tier=core""#,
    r#"resource is Route in Label::"team=red""#,
    r#"resource == Scope::"s1""#,
    "resource is Scope",
];

fn condition() -> impl Strategy<Value = String> {
    select(LEAVES).prop_map(str::to_owned).prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("if ({a}) then ({b}) else ({c})")),
        ]
    })
}

fn policy() -> impl Strategy<Value = String> {
    let scope = (select(PRINCIPALS), select(ACTIONS), select(RESOURCES));
    let effect = prop_oneof![3 => Just("permit"), 1 => Just("forbid")];
    let clause = option::weighted(0.8, (select(&["when", "unless"][..]), condition()));
    (effect, scope, clause, prop::bool::weighted(0.2)).prop_map(
        |(effect, (who, how, what), clause, is_shadow)| {
            let shadow = if is_shadow { "@shadow " } else { "" };
            let clause =
                clause.map(|(word, condition)| format!(" {word} {{ {condition} }}")).unwrap_or_default();
            format!("{shadow}{effect}({who}, {how}, {what}){clause};")
        },
    )
}

fn principal() -> impl Strategy<Value = Principal> {
    let id = select(vec![
        PrincipalId::anonymous(),
        PrincipalId::new(PrincipalKind::Jwt, ISSUER, "alice"),
        PrincipalId::new(PrincipalKind::Jwt, ISSUER, "bob"),
        PrincipalId::new(PrincipalKind::Spiffe, "example.org", "/ns/a"),
        PrincipalId::new(PrincipalKind::Dns, "mesh", "h"),
        PrincipalId::new(PrincipalKind::Subject, "mesh", "CN=a"),
    ]);
    let words =
        |of: &[&str]| subsequence(of.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), 0..=of.len());
    let team = option::of(select(vec!["red", "blue"]));
    let claims = (option::of(0..4_i64), team, option::of(words(&["x", "y"])));
    (id, words(&["r1", "r2"]), words(&["s1"]), claims).prop_map(
        |(id, roles, scopes, (level, team, groups))| {
            let mut principal = Principal::named(id);
            principal.roles = roles;
            principal.scopes = scopes;
            let claims = [
                level.map(|level| ("level", ClaimValue::Long(level))),
                team.map(|team| ("team", ClaimValue::String(team.to_owned()))),
                groups.map(|groups| ("groups", ClaimValue::Strings(groups))),
            ];
            principal.claims =
                claims.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)).collect();
            principal
        },
    )
}

fn facts() -> impl Strategy<Value = Facts<'static>> {
    let client = option::of(select(vec!["1", "2"])).prop_map(|serial| {
        serial.map(|serial| CertificateFacts { name: "dns:mesh#h", fingerprint: "00", serial })
    });
    let tls = (option::of(select(vec!["1.2", "1.3"])), option::of(select(vec!["h", "i"])), client)
        .prop_map(|(version, sni, client_certificate)| TlsFacts { version, sni, client_certificate });
    (
        select(vec!["GET", "HEAD", "POST", "DELETE", "PROPFIND"]),
        select(vec!["/", "/a/b"]),
        select(vec![None, Some("k=1"), Some("l")]),
        select(vec!["h", "i"]),
        select(vec!["10.0.0.1", "192.0.2.1", "::1", "::ffff:10.0.0.1"]),
        tls,
        select(vec![1_767_225_600_u64, 1_795_000_000]),
    )
        .prop_map(|(method, path, query, host, address, tls, seconds)| Facts {
            method,
            path,
            query,
            host,
            address: address.parse().unwrap(),
            tls,
            now: UNIX_EPOCH + Duration::from_secs(seconds),
            ends: None,
        })
}

/// An engine over those of `policies` that Cedar's validator lets pass.
fn compile(policies: Vec<String>) -> (Engine, crate::Compiler) {
    let mut sources: Vec<PolicySource> = (0..)
        .zip(policies)
        .map(|(number, text)| PolicySource { path: format!("p{number}.cedar").into(), text })
        .collect();
    let scopes = ["s1", "s2"].map(str::to_owned);
    if let Err(problems) = Engine::compile_granting(&sources, &claims(), routes(), &scopes) {
        sources.retain(|source| problems.iter().all(|problem| problem.path != source.path));
    }
    Engine::compile_granting(&sources, &claims(), routes(), &scopes).unwrap()
}

proptest! {
    // A failure is written down as a trap of its own, not as a seed that the next change of a strategy makes void.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_way_of_deciding_says_the_same(
        policies in vec(policy(), 0..40),
        is_large in prop::bool::weighted(0.2),
        principals in vec(principal(), 1..4),
        requests in vec((any::<prop::sample::Index>(), 0..5_u32, facts()), 1..12),
    ) {
        let (engine, compiler) = compile(policies);
        if is_large {
            engine.generation().use_up_residuals();
        }
        let engine = Arc::new(engine);
        let generation = engine.generation();
        let subjects: Vec<Arc<Subject>> = principals.iter().map(|one| Arc::new(Subject::new(one))).collect();
        let mut decider = Decider::new();
        // The first round is decided plainly, the second by what remains, the third also from memory.
        for _ in 0..3 {
            for (who, resource, facts) in &requests {
                let subject = who.get(&subjects);
                let (route, scope) = (RouteIndex(*resource), ScopeIndex(*resource));
                let (explained, slot) = match generation.slot(route, subject, facts) {
                    Some(slot) => (engine.explain(subject, route, facts), slot),
                    None => (
                        engine.explain_grant(subject, scope, facts),
                        generation.grant_slot(scope, subject).unwrap(),
                    ),
                };
                let mut expected: Vec<PolicyId> = explained.policies.iter().map(|policy| policy.id.clone()).collect();
                expected.sort();
                match decider.decide(&engine, subject, route, facts) {
                    Ok(permit) => {
                        prop_assert_eq!(Ok(()), explained.decision);
                        prop_assert_eq!(permit.policies(), expected);
                    }
                    Err(Denial { reason: DenialReason::Stale, .. }) => {
                        prop_assert_eq!(decider.grants(&engine, subject, scope, facts), explained.is_allowed());
                    }
                    Err(denial) => {
                        prop_assert_eq!(Err(denial.reason), explained.decision);
                        prop_assert_eq!(&*denial.policies, expected);
                    }
                }

                let plain = generation.find_plainly(slot, subject, facts).unwrap();
                let verdict = generation.verdict(Some(plain.clone()));
                let shadows: Vec<(PolicyId, bool, bool)> = verdict
                    .shadows()
                    .iter()
                    .map(|shadow| {
                        let rule = &generation.rules[usize::try_from(shadow.policy).unwrap()];
                        (rule.id.clone(), shadow.would_change, shadow.has_erred)
                    })
                    .collect();
                let explained_shadows: Vec<_> = explained
                    .shadows
                    .iter()
                    .map(|shadow| (shadow.policy.id.clone(), shadow.would_change, shadow.error.is_some()))
                    .collect();
                prop_assert_eq!(shadows, explained_shadows);
                let erred = |numbers: &[u32]| {
                    let mut numbers = numbers.to_vec();
                    numbers.sort_unstable();
                    numbers
                };
                let enforced_errors = erred(&plain.erred)
                    .into_iter()
                    .filter(|number| !generation.rules[usize::try_from(*number).unwrap()].is_shadow)
                    .count();
                prop_assert_eq!(enforced_errors, explained.errors.len());
                match generation.partial(slot) {
                    Some(Partial::Constant(constant)) => prop_assert_eq!(constant, &verdict),
                    Some(Partial::Residual(residual)) => {
                        let known = residual.known.clone();
                        let found = generation.find_in(&residual.of_principal, slot, subject, facts, known).unwrap();
                        let found = generation.find_in(&residual.of_request, slot, subject, facts, found).unwrap();
                        prop_assert_eq!(erred(&found.erred), erred(&plain.erred));
                        prop_assert_eq!(generation.verdict(Some(found)), verdict);
                    }
                    Some(Partial::Whole(reads)) => {
                        let entities = generation.entities(slot, subject).unwrap();
                        let found = generation.find_whole(slot, subject, facts, *reads, &entities);
                        prop_assert_eq!(generation.verdict(found), verdict);
                        prop_assert!(is_large, "partial evaluation failed");
                    }
                    None => {}
                }
            }
            compiler.serve_waiting();
        }
    }
}
