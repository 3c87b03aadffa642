//! The deny list on the request path: one look at a number while it has not changed, and no more when there is none.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use identity::deny::DenyList;
use telemetry::Metrics;
use tls::{Peer, Slot};

use crate::authenticate::Caller;
use crate::core::CoreId;
use crate::refusal::Refusal;

/// A core's own handle to the list.
#[derive(Debug)]
pub(crate) struct Deny {
    published: Slot<DenyList>,
    held: RefCell<(u64, Option<Arc<DenyList>>)>,
    core: CoreId,
    metrics: Arc<Metrics>,
}

impl Deny {
    pub(crate) fn new(published: Slot<DenyList>, core: CoreId, metrics: Arc<Metrics>) -> Self {
        Self { published, held: RefCell::new((0, None)), core, metrics }
    }

    /// Changes when the list does.
    pub(crate) fn generation(&self) -> u64 {
        self.published.generation()
    }

    /// Whether who calls may still: by principal and, with a token, by its `jti`.
    ///
    /// # Errors
    /// One of them is on the list.
    pub(crate) fn judge_caller(&self, caller: &Caller, now: SystemTime) -> Result<(), Refusal> {
        self.ask(|list| {
            if list.denies_principal(&caller.principal.id, now) {
                return Err(("principal", Refusal::PrincipalDenied));
            }
            let Some(proven) = &caller.token else { return Ok(()) };
            match &proven.token.jti {
                Some(jti) if list.denies_token(jti, &proven.issuer.issuer.issuer, now) => {
                    Err(("token", Refusal::TokenRevoked))
                }
                _ => Ok(()),
            }
        })
    }

    /// Whether a certificate still counts: by its serial number and by whom it names.
    ///
    /// # Errors
    /// One of them is on the list.
    pub(crate) fn judge_peer(&self, peer: &Peer, now: SystemTime) -> Result<(), Refusal> {
        self.ask(|list| {
            if list.denies_certificate(&peer.certificate, &peer.trust, now) {
                return Err(("certificate", Refusal::CertificateWithdrawn));
            }
            if list.denies_principal(&peer.certificate.principal.id, now) {
                return Err(("principal", Refusal::CertificateWithdrawn));
            }
            Ok(())
        })
    }

    fn ask(
        &self,
        question: impl FnOnce(&DenyList) -> Result<(), (&'static str, Refusal)>,
    ) -> Result<(), Refusal> {
        let generation = self.published.generation();
        if self.held.borrow().0 != generation {
            *self.held.borrow_mut() = (generation, self.published.load());
        }
        let held = self.held.borrow();
        let Some(list) = &held.1 else { return Ok(()) };
        question(list).map_err(|(by, refusal)| {
            self.metrics.denied(self.core.index(), by);
            refusal
        })
    }
}
