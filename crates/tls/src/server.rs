//! Accepting: which TLS policy a name has, the handshake, and the judgement of its client, then and at each request.
//!
//! Passes: TLS 1.3 or 1.2 (as far as `min_version` allows) with a ClientHello of any framing up to rustls's bound of
//! 64 KiB, a name that is absent or valid, an offered protocol that we have, and a client whom the name's policy lets in.
//! Refused, each with an alert: names that are none, no name where one is wanted, no common version, suite or protocol,
//! early data (never offered), renegotiation, and every certificate that is not proven, revoked or cannot be read, also
//! where none is required. An IP address as server name counts as none. A policy whose trust or certificates are not
//! there refuses everybody, but an ACME server that validates a name ([`crate::acme`]): it needs no certificate of ours.
//!
//! Resumption proves nothing by itself: the remembered chain is judged again after every handshake, and tickets end with
//! the trust that they were made under (`policy`). After the handshake rustls cuts peers that send more than 32 key update
//! requests between two application records, or 32 empty records in a row.

mod accept;
mod hosts;
mod policy;
mod spec;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

pub use accept::Accepted;
pub(crate) use accept::send_alert;
pub use hosts::PolicyId;
pub use spec::{ClientAuth, HostSpec, ServerSpec, SpecError, WithoutSni};

use hosts::Hosts;
use policy::{Current, Policy};

use crate::peer::{Peer, PeerError};
use crate::slot::next_generation;
use crate::x509::{seconds, system};
use crate::{Alpn, Version};

/// The TLS side of a listener, shared by all cores.
#[derive(Debug)]
pub struct ServerTls {
    /// Tells the handshakes of this listener from those of one that it replaced.
    id: u64,
    hosts: Hosts,
    policies: Vec<Policy>,
    min_version: Version,
    without_sni: WithoutSni,
}

/// What a handshake agreed on and proved. Lives as long as its connection.
#[derive(Debug)]
pub struct Handshake {
    /// The server name, lower case and without a final dot.
    pub sni: Option<Arc<str>>,
    /// The TLS policy that it was accepted under; see [`ServerTls::policy_of`] for today's.
    pub policy: PolicyId,
    /// The agreed protocol.
    pub alpn: Alpn,
    /// The TLS version.
    pub version: Version,
    /// The cipher suite by its IANA name.
    pub cipher: &'static str,
    /// The key exchange group by its IANA name; empty for a resumption without one.
    pub key_exchange: &'static str,
    /// Whether a ticket replaced the certificates' exchange.
    pub resumed: bool,
    /// The client, if it proved a certificate.
    pub peer: Option<Arc<Peer>>,
    server: u64,
    verdict: Verdict,
}

/// The last judgement that a connection passed. A connection lives on one core: nothing races here.
#[derive(Debug)]
struct Verdict {
    /// [`Current::id`] of the policy that judged.
    by: AtomicU64,
    /// Seconds since 1970 at which it ends.
    until: AtomicU64,
}

impl ServerTls {
    /// Compiles a listener's TLS.
    ///
    /// # Errors
    /// A specification that names no certificate, no trust where it is needed, or a host that is none.
    pub fn new(spec: &ServerSpec) -> Result<Self, SpecError> {
        let mut hosts = Hosts::default();
        let mut policies = vec![Policy::new(&spec.default, spec.min_version, &spec.alpn)?];
        for (pattern, host) in &spec.hosts {
            let number = u16::try_from(policies.len()).map_err(|_| SpecError::TooManyHosts)?;
            hosts.add(pattern, PolicyId(number))?;
            policies.push(Policy::new(host, spec.min_version, &spec.alpn)?);
        }
        Ok(Self {
            id: next_generation(),
            hosts,
            policies,
            min_version: spec.min_version,
            without_sni: spec.without_sni,
        })
    }

    /// The TLS policy of a host name (without port), by the same rule as for server names.
    #[must_use]
    pub fn policy_for_host(&self, host: &str) -> PolicyId {
        self.hosts.find(host).unwrap_or(DEFAULT)
    }

    /// The policy that today holds for a connection, also if an older listener accepted it.
    #[must_use]
    pub fn policy_of(&self, handshake: &Handshake) -> PolicyId {
        if handshake.server == self.id {
            handshake.policy
        } else {
            handshake.sni.as_deref().map_or(DEFAULT, |name| self.policy_for_host(name))
        }
    }

    /// Whether both policies ask the same of a client: mode and trust entries; certificates do not count.
    #[must_use]
    pub fn same_policy(&self, one: PolicyId, two: PolicyId) -> bool {
        one == two
            || match (self.policy(one), self.policy(two)) {
                (Some(one), Some(two)) => one.same_rule(two),
                _ => false,
            }
    }

    /// Whether a connection may ask for `host`; if not, the answer is 421 (RFC 9110 section 15.5.20).
    #[must_use]
    pub fn serves(&self, handshake: &Handshake, host: &str) -> bool {
        self.same_policy(self.policy_of(handshake), self.policy_for_host(host))
    }

    /// Whether the policy of a host name lets nobody in without a certificate.
    #[must_use]
    pub fn demands_certificate(&self, host: &str) -> bool {
        self.policy(self.policy_for_host(host)).is_none_or(Policy::demands_certificate)
    }

    /// Judges a connection by the policy, trust and CRLs of this moment. Costs two comparisons while they are what they
    /// were when it was judged last, and a chain verification after a change.
    ///
    /// # Errors
    /// The connection would not be accepted today, or its client would be somebody else.
    pub fn rejudge(&self, handshake: &Handshake, now: SystemTime) -> Result<(), PeerError> {
        let policy = self.policy(self.policy_of(handshake)).ok_or(PeerError::NoTrust)?;
        let changed = policy
            .read(|current| (!handshake.verdict.holds(current, now)).then(|| Arc::clone(current)))
            .map_err(|_| PeerError::NoTrust)?;
        let Some(current) = changed else { return Ok(()) };
        if handshake.sni.is_none() && self.without_sni == WithoutSni::Refuse {
            return Err(PeerError::NoServerName);
        }
        if handshake.version < self.min_version {
            return Err(PeerError::OldVersion);
        }
        let peer = handshake.peer.as_deref();
        let proven = current.clients.judge(peer.map(|peer| peer.chain.as_slice()), now)?;
        if let (Some(peer), Some(proven)) = (peer, &proven)
            && (peer.trust != proven.trust
                || peer.certificate.principal != proven.judged.certificate.principal)
        {
            return Err(PeerError::Changed);
        }
        handshake.verdict.renew(&current, proven.map(|proven| proven.judged.until));
        Ok(())
    }

    fn policy(&self, id: PolicyId) -> Option<&Policy> {
        self.policies.get(usize::from(id.0))
    }
}

impl Verdict {
    fn new(current: &Current, until: Option<SystemTime>) -> Self {
        let verdict = Self { by: AtomicU64::new(0), until: AtomicU64::new(0) };
        verdict.renew(current, until);
        verdict
    }

    /// `until` nothing: no certificate, no end.
    fn renew(&self, current: &Current, until: Option<SystemTime>) {
        self.until.store(until.map_or(u64::MAX, seconds), Ordering::Relaxed);
        self.by.store(current.id, Ordering::Release);
    }

    fn holds(&self, current: &Current, now: SystemTime) -> bool {
        self.by.load(Ordering::Acquire) == current.id && seconds(now) < self.until.load(Ordering::Relaxed)
    }
}

impl Handshake {
    /// When the client's proof ends by itself: the earliest end of its certificates and of the CRLs that speak of them.
    /// Nothing for a client without certificate.
    #[must_use]
    pub fn proof_ends(&self) -> Option<SystemTime> {
        self.peer.as_ref()?;
        Some(system(self.verdict.until.load(Ordering::Relaxed)))
    }
}

const DEFAULT: PolicyId = PolicyId(0);
