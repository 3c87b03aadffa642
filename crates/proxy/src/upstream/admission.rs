//! Whether a request may go to its upstream now: the circuit, and a slot of the bulkhead. An upstream without either costs one look.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::affinity::caller;
use super::bulkhead::{Bulkhead, Slot};
use super::circuit::{Circuit, Passed};
use super::{Origin, Upstream};
use crate::core::Core;
use crate::refusal::Refusal;

/// What protects an upstream from too much, and its callers from waiting for nothing.
#[derive(Debug)]
pub struct Breaker {
    /// Leaves it alone when nothing of it answers.
    pub circuit: Option<Circuit>,
    /// Bounds its requests at once; lives on in the next generation.
    pub bulkhead: Option<Arc<Bulkhead>>,
}

/// A request that may go, until it has ended.
#[derive(Debug)]
pub(super) struct Admitted {
    upstream: Arc<Upstream>,
    passed: Passed,
    _slot: Option<Slot>,
}

impl Admitted {
    /// Lets a request in; nothing where nobody stands at the door.
    ///
    /// # Errors
    /// The circuit is open, or there is no slot and no place to wait for one.
    pub(super) async fn admit(
        core: &Rc<Core>,
        upstream: &Arc<Upstream>,
        origin: Origin<'_>,
    ) -> Result<Option<Self>, Refusal> {
        let Some(breaker) = &upstream.breaker else { return Ok(None) };
        let open = |left: Duration| {
            upstream.series.shed(core.id.index(), "circuit_open");
            let retry_after = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            Refusal::UpstreamOpen { upstream: upstream.name.to_string(), retry_after: retry_after.max(1) }
        };
        let circuit = breaker.circuit.as_ref();
        // Nobody waits for a slot of what is left alone.
        if let Some(left) = circuit.and_then(|circuit| circuit.left(Instant::now())) {
            return Err(open(left));
        }
        let slot = match &breaker.bulkhead {
            None => None,
            // Boxed: it rarely waits, and every request would carry the room for it.
            Some(bulkhead) => Some(Box::pin(bulkhead.enter(core, caller(origin))).await.map_err(|shed| {
                upstream.series.shed(core.id.index(), shed.as_str());
                Refusal::UpstreamSaturated(upstream.name.to_string())
            })?),
        };
        // It may have opened meanwhile.
        let passed = match circuit.map(|circuit| circuit.pass(Instant::now())) {
            None => Passed::Freely,
            Some(passed) => passed.map_err(open)?,
        };
        Ok(Some(Self { upstream: Arc::clone(upstream), passed, _slot: slot }))
    }

    /// Takes note of an answer.
    pub(super) fn succeeded(&self) {
        if let Some(circuit) = self.circuit() {
            if self.passed == Passed::AsProbe {
                tracing::info!(upstream = %self.upstream.name, "answers again: the circuit is closed");
            }
            circuit.succeeded(self.passed);
        }
    }

    /// Takes note of a failure that is the upstream's.
    pub(super) fn failed(&self, core: &Core) {
        if self.circuit().is_some_and(|circuit| circuit.failed(self.passed, Instant::now())) {
            self.upstream.series.opened(core.id.index());
            tracing::warn!(upstream = %self.upstream.name, "nothing of it answers: the circuit is open");
        }
    }

    fn circuit(&self) -> Option<&Circuit> {
        self.upstream.breaker.as_ref()?.circuit.as_ref()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.circuit().inspect(|circuit| circuit.ended(self.passed));
    }
}
