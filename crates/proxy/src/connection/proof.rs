//! What a connection proves, and whether it still does.

use std::sync::Arc;
use std::time::SystemTime;

use policy::{CertificateFacts, TlsFacts};
use tls::{Handshake, Peer};

use super::Connection;
use crate::authenticate::Caller;
use crate::core::Core;
use crate::refusal::Refusal;
use crate::snapshot::Listener;

impl Connection {
    /// What TLS agreed on; none on a plain listener.
    #[must_use]
    pub const fn handshake(&self) -> Option<&Handshake> {
        self.handshake.as_ref()
    }

    /// The client certificate, and who it says is calling.
    #[must_use]
    pub const fn peer(&self) -> Option<&(Arc<Peer>, Caller)> {
        self.certificate.as_ref()
    }

    /// When the client certificate's proof ends; a renewed revocation list moves it.
    #[must_use]
    pub fn proof_ends(&self) -> Option<SystemTime> {
        self.handshake.as_ref().and_then(Handshake::proof_ends)
    }

    /// The client certificate as policies see it.
    fn certificate_facts(&self) -> Option<CertificateFacts<'_>> {
        self.certificate.as_ref().map(|_| CertificateFacts {
            name: &self.fields.certificate_name,
            fingerprint: &self.fields.fingerprint,
            serial: &self.fields.serial,
        })
    }

    /// Its TLS as policies see it.
    #[must_use]
    pub(crate) fn tls_facts(&self) -> TlsFacts<'_> {
        TlsFacts {
            version: self.handshake.as_ref().map(|h| h.version.as_str()),
            sni: self.handshake.as_ref().and_then(|h| h.sni.as_deref()),
            client_certificate: self.certificate_facts(),
        }
    }

    /// Judges the connection against the listener as it is now: one from before mutual TLS was asked for, whose
    /// authority was removed, or whose certificate ended or is denied, counts no longer.
    ///
    /// # Errors
    /// When it would not be accepted any more.
    pub fn rejudge(&self, core: &Core, listener: &Listener, now: SystemTime) -> Result<(), Refusal> {
        self.judge_peer(core, now)?;
        match (&listener.tls, &self.handshake) {
            (Some(tls), Some(handshake)) => {
                tls.rejudge(handshake, now).map_err(|_| Refusal::CertificateWithdrawn)
            }
            (None, None) => Ok(()),
            // The listener changed between plain and TLS.
            (Some(_), None) | (None, Some(_)) => Err(Refusal::Draining),
        }
    }

    /// Asks the deny list about the certificate, once for each that is published.
    pub(super) fn judge_peer(&self, core: &Core, now: SystemTime) -> Result<(), Refusal> {
        let Some((peer, _)) = &self.certificate else { return Ok(()) };
        let generation = core.deny.generation();
        if self.life.cleared_by.get() != generation {
            core.deny.judge_peer(peer, now)?;
            self.life.cleared_by.set(generation);
        }
        Ok(())
    }
}
