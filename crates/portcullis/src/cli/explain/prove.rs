//! The proofs of a request: a certificate in the handshake, a token in its fields.

use std::sync::Arc;
use std::time::SystemTime;

use ::policy::CertificateFacts;
use identity::Principal;
use identity::certificate::PeerCertificate;
use identity::jwt::{TokenError, VerifiedToken, peek_issuer};
use proxy::authenticate::bearer_token;
use proxy::refusal::Refusal;

use super::question::Question;
use super::walk::{Site, Stop};
use crate::cli::token::{Unproven, verify_by};
use crate::config::model::{
    Authenticate, ClientMode, Jwt, ListenerKind, ListenerTls, Name, Proof, Route, SniName, TlsPolicy,
};

/// A client certificate, and the trust entry that it was proven under.
pub(super) struct Peer {
    pub(super) trust: Name,
    pub(super) certificate: PeerCertificate,
}

/// A client certificate as policies see it.
pub(super) struct Shown {
    name: String,
    fingerprint: String,
    serial: String,
}

/// Who calls, and by which proofs.
pub(super) struct Proven {
    pub(super) principal: Arc<Principal>,
    /// In words.
    pub(super) proofs: Vec<String>,
    pub(super) until: Option<SystemTime>,
}

impl Site<'_> {
    /// The client's certificate as the listener's TLS takes it; none if it is not asked for.
    pub(super) fn shake_hands(&self, question: &Question, now: SystemTime) -> Result<Option<Peer>, Stop> {
        let kind = self.config.listeners.get(&question.listener).map(|listener| &listener.kind);
        let Some(ListenerKind::Tls(tls)) = kind else { return Ok(None) };
        let policy = policy(tls, &question.sni);
        match (policy.client, question.chain.as_slice()) {
            (ClientMode::Off, _) | (ClientMode::Optional, []) => Ok(None),
            (ClientMode::Required, []) => Err(Stop::Handshake("no certificate was presented".to_owned())),
            (ClientMode::Optional | ClientMode::Required, chain) => {
                let mut reasons = Vec::new();
                for name in &policy.client_trust {
                    let Some(trust) = self.material.trust.get(name) else { continue };
                    match trust.value.verify_client(chain, now) {
                        Ok(certificate) => return Ok(Some(Peer { trust: name.clone(), certificate })),
                        Err(error) => reasons.push(format!("`{name}`: {error}")),
                    }
                }
                Err(Stop::Handshake(reasons.join("; ")))
            }
        }
    }

    /// Proves who calls, as [`proxy::authenticate`] does.
    pub(super) fn authenticate(
        &self,
        question: &Question,
        route: &Route,
        peer: Option<&Peer>,
        now: SystemTime,
    ) -> Result<Proven, Stop> {
        let (all, proofs) = match &route.authenticate {
            Authenticate::None => return Ok(Proven::nobody()),
            Authenticate::Any(proofs) => (false, proofs),
            Authenticate::All(proofs) => (true, proofs),
        };
        let (mut issuers, mut trusts) = (Vec::new(), Vec::new());
        for proof in proofs {
            match proof {
                Proof::Jwt(name) => issuers.extend(self.config.jwt.get(name)),
                Proof::Certificate(name) => trusts.push(name.as_str()),
            }
        }
        let certificate = peer.filter(|peer| trusts.contains(&peer.trust.as_str()));
        let token = match bearer_token(&question.headers)? {
            Some(token) if !issuers.is_empty() => Some(self.verify(&issuers, token, peer, now)?),
            _ => None,
        };
        let no_token = token.is_none() && !issuers.is_empty();
        let no_certificate = certificate.is_none() && !trusts.is_empty();
        if if all { no_token || no_certificate } else { token.is_none() && certificate.is_none() } {
            let trusts = trusts.join(" or ");
            return Err(if no_token {
                Refusal::TokenMissing
            } else {
                Refusal::CertificateRequired { trusts }
            }
            .into());
        }
        let mut proven = Proven::nobody();
        if let Some(Peer { trust, certificate }) = certificate {
            proven.principal = certificate.principal.clone();
            proven.proofs.push(format!("certificate {} under trust `{trust}`", certificate.principal.id));
            proven.until = Some(certificate.not_after);
        }
        if let Some((issuer, token)) = token {
            // With both proofs the token is the principal, and the certificate is context.
            proven.principal = token.principal;
            proven.proofs.insert(0, format!("token of issuer `{issuer}`"));
            proven.until =
                Some(proven.until.map_or(token.accepted_until, |end| end.min(token.accepted_until)));
        }
        Ok(proven)
    }

    fn verify<'a>(
        &self,
        issuers: &[&'a Jwt],
        token: &str,
        peer: Option<&Peer>,
        now: SystemTime,
    ) -> Result<(&'a Name, VerifiedToken), Stop> {
        let issuer = match issuers {
            [only] => *only,
            several => {
                let claimed = peek_issuer(token)?;
                let known = several.iter().find(|issuer| *issuer.issuer == claimed);
                known.ok_or(TokenError::IssuerMismatch)?
            }
        };
        let verified = verify_by(issuer, token, self.material, now).map_err(|unproven| match unproven {
            Unproven::Token(error) => Stop::from(error),
            Unproven::KeysElsewhere(_) => Stop::Unknown(format!("issuer `{}`: {unproven}", issuer.name)),
        })?;
        let presented = peer.map(|peer| peer.certificate.fingerprint_sha256);
        match verified.certificate_thumbprint {
            Some(bound) if presented != Some(bound) => Err(Refusal::TokenBinding.into()),
            _ => Ok((&issuer.name, verified)),
        }
    }
}

impl Proven {
    fn nobody() -> Self {
        Self { principal: Arc::new(Principal::anonymous()), proofs: Vec::new(), until: None }
    }
}

impl Peer {
    pub(super) fn shown(&self) -> Shown {
        let certificate = &self.certificate;
        Shown {
            name: certificate.principal.id.to_string(),
            fingerprint: certificate.fingerprint_sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            serial: certificate.serial.to_ascii_lowercase(),
        }
    }
}

impl Shown {
    pub(super) fn facts(&self) -> CertificateFacts<'_> {
        CertificateFacts { name: &self.name, fingerprint: &self.fingerprint, serial: &self.serial }
    }
}

/// The TLS policy of a server name: exact, then a wildcard over one label, then the listener's.
fn policy<'a>(tls: &'a ListenerTls, sni: &str) -> &'a TlsPolicy {
    let named = |wildcard: bool, text: &str| {
        let is_named = |name: &SniName| name.wildcard == wildcard && &*name.text == text;
        tls.hosts.iter().find(|(name, _)| is_named(name)).map(|(_, policy)| policy)
    };
    let sni = sni.to_ascii_lowercase();
    let above = sni.split_once('.').map(|(_, rest)| format!(".{rest}")).unwrap_or_default();
    named(false, &sni).or_else(|| named(true, &above)).unwrap_or(&tls.policy)
}
