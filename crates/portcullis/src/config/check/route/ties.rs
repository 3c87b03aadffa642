//! Routes that match the same requests.

use std::collections::HashMap;

use http::Method;
use proxy::route::{HostPattern, PathPattern};

use crate::config::finding::Finding;
use crate::config::model::{Name, Route};
use crate::config::problem::Span;

/// Which routes match the same host and path on a listener: with a method in common they tie.
#[derive(Default)]
pub(super) struct Ties(HashMap<(Name, HostPattern, PathPattern), Vec<Placed>>);

struct Placed {
    name: Name,
    methods: Vec<Method>,
    span: Span,
}

impl Ties {
    pub(super) fn add(&mut self, route: &Route, span: Span) -> Vec<Finding> {
        let mut findings = Vec::new();
        for listener in &route.on {
            let key = (listener.clone(), route.host.clone(), route.path.clone());
            let same = self.0.entry(key).or_default();
            let overlap = |methods: &[Method]| {
                methods.is_empty()
                    || route.methods.is_empty()
                    || methods.iter().any(|m| route.methods.contains(m))
            };
            if let Some(other) = same.iter().find(|other| overlap(&other.methods)) {
                let message = format!("matches the same requests on `{listener}` as route `{}`", other.name);
                let finding = Finding::error(span, message);
                findings.push(
                    finding
                        .expecting("another host, path or other methods")
                        .related(other.span, "that stands at"),
                );
            }
            same.push(Placed { name: route.name.clone(), methods: route.methods.clone(), span });
        }
        findings
    }
}
