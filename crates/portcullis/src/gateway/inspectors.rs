//! Who looks through requests by the core rule set: threads that live on as long as their number and bounds stay the same.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use proxy::inspect::Inspection;
use telemetry::Metrics;
use waf::{Inspectors, Rules};

use super::generation::{BuildError, Living};
use crate::config::model::{Config, Route};

/// The threads, and the rules of this generation.
#[derive(Clone, Debug)]
pub(super) struct LivingInspectors {
    definition: (NonZeroUsize, usize, Duration),
    inspectors: Arc<Inspectors>,
    rules: Arc<Rules>,
}

impl LivingInspectors {
    /// Those of the next generation; none without rules.
    pub(super) fn next(
        config: &Config,
        former: Option<&Self>,
        rules: Option<&Arc<Rules>>,
    ) -> Result<Option<Self>, BuildError> {
        let (Some(waf), Some(rules)) = (&config.waf, rules) else { return Ok(None) };
        let cores = config.cores.or_else(|| available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let half = NonZeroUsize::new(cores / 2).unwrap_or(NonZeroUsize::MIN);
        let definition = (waf.threads.unwrap_or(half), waf.queue, waf.time);
        let inspectors = match former.filter(|former| former.definition == definition) {
            Some(former) => former.inspectors.clone(),
            None => {
                let (threads, queue, time) = definition;
                let started = Inspectors::start(threads, queue, time);
                Arc::new(started.map_err(|error| BuildError::new("waf", error))?)
            }
        };
        Ok(Some(Self { definition, inspectors, rules: rules.clone() }))
    }
}

impl Living {
    /// How a route's requests are looked through.
    ///
    /// # Errors
    /// They are to be, and there are no rules.
    pub(super) fn inspection(
        &self,
        route: &Route,
        metrics: &Metrics,
    ) -> Result<Option<Box<Inspection>>, &'static str> {
        let Some(wanted) = route.inspection else { return Ok(None) };
        let LivingInspectors { inspectors, rules, .. } =
            self.inspectors.as_ref().ok_or("its rules are missing")?;
        Ok(Some(Box::new(Inspection {
            mode: wanted.mode,
            strictness: wanted.strictness,
            body_bytes: wanted.body,
            rules: rules.clone(),
            inspectors: inspectors.clone(),
            series: metrics.inspection(route.name.as_str()),
        })))
    }
}
