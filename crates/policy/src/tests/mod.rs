//! Tests of the engine as a whole.

mod agreement;
mod compiling;
mod granting;
mod traps;

use std::sync::Arc;

use identity::{ClaimValue, Principal, PrincipalId, PrincipalKind};

use crate::{
    ClaimSchema, ClaimType, Compiler, Decider, DenialReason, Engine, Facts, PolicySource, RouteFacts,
    RouteIndex, Subject,
};

const ISSUER: &str = "https://id.example.com";

/// The claims that test policies read.
fn claims() -> ClaimSchema {
    [("level", ClaimType::Long), ("team", ClaimType::String), ("groups", ClaimType::Strings)]
        .map(|(name, kind)| (name.to_owned(), kind))
        .into()
}

/// `r1` and `r2` are core, `r2` is red, `r3` has no label.
fn routes() -> Vec<RouteFacts> {
    let route = |name: &str, labels: &[(&str, &str)]| RouteFacts {
        name: name.to_owned(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    };
    vec![
        route("r1", &[("tier", "core")]),
        route("r2", &[("tier", "core"), ("team", "red")]),
        route("r3", &[]),
    ]
}

fn source(text: &str) -> PolicySource {
    PolicySource { path: "t.cedar".into(), text: text.to_owned() }
}

fn alice() -> Principal {
    Principal::named(PrincipalId::new(PrincipalKind::Jwt, ISSUER, "alice"))
}

fn alice_of_level(level: i64) -> Principal {
    let mut alice = alice();
    alice.claims.insert("level".to_owned(), ClaimValue::Long(level));
    alice
}

/// An engine whose compiler works when it is told to, and one core's decider.
struct Bench {
    engine: Arc<Engine>,
    compiler: Compiler,
    decider: Decider,
}

impl Bench {
    fn new(policies: &str) -> Self {
        let (engine, compiler) = Engine::compile(&[source(policies)], &claims(), routes()).unwrap();
        Self { engine: Arc::new(engine), compiler, decider: Decider::new() }
    }

    /// Decides on the first route; the ids of the deciding policies, separated by spaces.
    fn decide(&mut self, subject: &Arc<Subject>, facts: &Facts<'_>) -> (Result<(), DenialReason>, String) {
        let join = |policies: &[crate::PolicyId]| {
            policies.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        match self.decider.decide(&self.engine, subject, RouteIndex(0), facts) {
            Ok(permit) => (Ok(()), join(permit.policies())),
            Err(denial) => (Err(denial.reason), join(&denial.policies)),
        }
    }

    /// What every way of deciding says: before partial evaluation, after it, once more (from memory), and plain
    /// Cedar over everything. They must agree.
    fn all(&mut self, principal: &Principal, facts: &Facts<'_>) -> (Result<(), DenialReason>, String) {
        let subject = Arc::new(Subject::new(principal));
        let before = self.decide(&subject, facts);
        self.compiler.serve_waiting();
        assert_eq!(self.decide(&subject, facts), before, "after partial evaluation");
        assert_eq!(self.decide(&subject, facts), before, "from memory");
        let explained = self.engine.explain(&subject, RouteIndex(0), facts);
        let mut ids: Vec<_> = explained.policies.iter().map(|policy| policy.id.to_string()).collect();
        ids.sort();
        assert_eq!((explained.decision, ids.join(" ")), before, "explained");
        before
    }
}
