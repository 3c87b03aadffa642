//! *May*: Cedar policies over routes; [`Decider::decide`] mints the only [`Permit`].
//!
//! What passes: a request that at least one policy permits, that no policy forbids, and during whose evaluation
//! nothing erred. Everything else is a [`Denial`] that says why: no policies, no permit, a forbid, an evaluation
//! error (also where Cedar by itself would skip the erring policy), a principal or route of another generation.
//! Policies marked `@shadow` are evaluated and counted and never change an outcome.
//!
//! Pure: data and `now` come in, a decision comes out. No sockets, no clock, no environment, no locks.
//!
//! How a decision is made cheap without becoming another one: policies are indexed by their scope; a [`Compiler`]
//! on a thread of its own partially evaluates the candidates of a (principal type, action, route) on first use;
//! what remains is evaluated per request, or remembered per core if it reads nothing but the principal. Plain
//! Cedar stays the authority: [`Engine::explain`] uses nothing else, and a property test holds all ways equal.
//!
//! ```
//! # use policy::{ClaimSchema, Decider, Engine, Facts, PolicySource, Problem, RouteFacts, Subject, TlsFacts};
//! # use std::{sync::Arc, thread, time::UNIX_EPOCH};
//! // Once per generation:
//! let text = r#"permit(principal, action in Action::"read", resource == Route::"status");"#.to_owned();
//! let routes = vec![RouteFacts { name: "status".to_owned(), ..RouteFacts::default() }];
//! let sources = [PolicySource { path: "status.cedar".into(), text }];
//! let (engine, compiler) = Engine::compile(&sources, &ClaimSchema::new(), routes).map_err(|mut all| all.remove(0))?;
//! let (engine, compiler) = (Arc::new(engine), thread::spawn(move || compiler.run()));
//! let route = engine.route("status").expect("a route");
//! // Once per verified proof, and once per core:
//! let subject = Arc::new(Subject::new(&identity::Principal::anonymous()));
//! let mut decider = Decider::new();
//! // Once per request:
//! # let (address, tls) = ([127, 0, 0, 1].into(), TlsFacts::default());
//! let (host, path, query) = ("localhost", "/status", None);
//! let facts = Facts { method: "GET", path, query, host, address, tls, now: UNIX_EPOCH, ends: None };
//! let permit = decider.decide(&engine, &subject, route, &facts).expect("a permit");
//! assert_eq!(permit.policies()[0].as_str(), "status.cedar#1");
//! # drop(engine);
//! # compiler.join().expect("it ends with the engine");
//! # Ok::<(), Problem>(())
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "tests"
    )
)]

mod action;
pub mod cases;
mod context;
mod decide;
mod engine;
mod explain;
mod facts;
mod index;
mod names;
mod partial;
mod reads;
mod recent;
mod resource;
mod schema;
mod shadow;
mod source;
mod subject;
#[cfg(test)]
mod tests;
mod validate;
mod verdict;

pub use decide::{Decider, DecisionId, Denial, DenialReason, Permit};
pub use engine::{Compiler, Engine};
pub use explain::{Explanation, PolicyFault, PolicyNote, ShadowNote};
pub use facts::{CertificateFacts, Facts, RouteFacts, RouteIndex, ScopeIndex, TlsFacts};
pub use recent::Recent;
pub use schema::{ClaimSchema, ClaimType, schema_text};
pub use shadow::ShadowCount;
pub use source::{Effect, PolicyId, PolicySource, Problem};
pub use subject::Subject;
