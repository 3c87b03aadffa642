//! Who calls: mutual TLS, a bearer token, or both, to one principal.
//!
//! A route says `none`, `any` or `all` of named proofs. What is presented and does not verify is refused, also where
//! another proof would do. With both, the token is the principal and the certificate its context; a token bound to a
//! certificate (`cnf`, RFC 8705 section 3) must match the connection's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use identity::Principal;
use identity::jwks::{KeyStore, Refetch};
use identity::jwt::{Issuer, TokenError, peek_issuer};
use policy::Subject;
use tls::Peer;

use crate::connection::Connection;
use crate::core::Core;
use crate::refusal::Refusal;
use crate::token_cache::Proven;

/// Which proofs a route wants.
#[derive(Clone, Debug)]
pub enum Authenticate {
    /// Anybody: the principal is anonymous, and still needs a permit.
    Nobody,
    /// One of the proofs, or all of them.
    Proofs {
        /// Any or all.
        wanted: Wanted,
        /// Token issuers that count.
        issuers: Vec<Arc<TokenIssuer>>,
        /// Trust entries whose client certificates count.
        trusts: Vec<Arc<str>>,
    },
}

/// How many of the named proofs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// All of them.
    All,
    /// At least one.
    Any,
}

/// An issuer with its keys.
#[derive(Debug)]
pub struct TokenIssuer {
    /// What its tokens must be.
    pub issuer: Issuer,
    /// The keys that verify them.
    pub keys: KeyStore,
    /// Stands for this very configuration: tokens proven for another one do not count.
    pub configuration: u64,
}

/// Who calls, as proven for this request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The one principal.
    pub principal: Arc<Principal>,
    /// Its entities for policy.
    pub subject: Arc<Subject>,
    /// When the earliest of its proofs ends.
    pub ends: Option<SystemTime>,
    /// The same without the skew that clocks are allowed: nothing that is made from the proofs lives longer.
    pub expires: Option<SystemTime>,
}

impl Caller {
    /// Somebody with a name and nothing else.
    #[must_use]
    pub fn new(principal: Arc<Principal>, ends: Option<SystemTime>) -> Self {
        let subject = Arc::new(Subject::new(&principal));
        Self { principal, subject, ends, expires: ends }
    }
}

/// Proves who calls.
///
/// # Errors
/// A proof is missing, does not verify, or can't be checked now.
pub async fn authenticate(
    core: &Core,
    connection: &Connection,
    wanted: &Authenticate,
    headers: &HeaderMap,
    now: SystemTime,
) -> Result<Caller, Refusal> {
    let Authenticate::Proofs { wanted, issuers, trusts } = wanted else {
        return Ok(core.anonymous.clone());
    };
    let certificate = connection.peer().filter(|(peer, _)| trusts.contains(&peer.trust));
    let token = match bearer_token(headers)? {
        Some(token) if !issuers.is_empty() => Some(verify(core, issuers, token, now).await?),
        _ => None,
    };
    if let Some(proven) = &token {
        check_binding(proven, connection.peer().map(|(peer, _)| peer))?;
    }
    let missing = match wanted {
        Wanted::Any => token.is_none() && certificate.is_none(),
        Wanted::All => {
            (token.is_none() && !issuers.is_empty()) || (certificate.is_none() && !trusts.is_empty())
        }
    };
    if missing {
        return Err(if token.is_none() && !issuers.is_empty() {
            Refusal::TokenMissing
        } else {
            Refusal::CertificateRequired { trusts: trusts.join(" or ") }
        });
    }
    match (token, certificate) {
        (Some(proven), certificate) => {
            let certified = certificate.and_then(|_| connection.proof_ends());
            let earliest = |until: SystemTime| Some(certified.map_or(until, |end| end.min(until)));
            Ok(Caller {
                principal: proven.token.principal.clone(),
                subject: proven.subject.clone(),
                ends: earliest(proven.token.accepted_until),
                expires: earliest(proven.token.expires),
            })
        }
        (None, Some((_, caller))) => {
            let ends = connection.proof_ends();
            Ok(Caller { ends, expires: ends, ..caller.clone() })
        }
        // `missing` above covers this: a route without any proof is `Nobody`.
        (None, None) => Err(Refusal::TokenMissing),
    }
}

/// The token of a `Bearer` credential (RFC 6750 section 2.1); another scheme is none of ours.
///
/// # Errors
/// When the scheme is `Bearer` and what follows is not one token.
pub fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let value = value.as_bytes();
    let (scheme, token) =
        value.split_at(value.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(value.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    match token.strip_prefix(b" ").map(str::from_utf8) {
        Some(Ok(token)) if !token.is_empty() => Ok(Some(token)),
        _ => Err(Refusal::Token(TokenError::Malformed("no single token after the scheme"))),
    }
}

async fn verify(
    core: &Core,
    issuers: &[Arc<TokenIssuer>],
    token: &str,
    now: SystemTime,
) -> Result<Arc<Proven>, Refusal> {
    let issuer = match issuers {
        [only] => only,
        several => {
            let claimed = peek_issuer(token)?;
            let known = several.iter().find(|i| i.issuer.issuer == claimed);
            known.ok_or(Refusal::Token(TokenError::IssuerMismatch))?
        }
    };
    let unavailable = || Refusal::KeysUnavailable { issuer: issuer.issuer.name.to_string() };
    let keys = issuer.keys.current(now).map_err(|_| unavailable())?;
    if let Some(proven) = core.tokens.borrow_mut().get(token, issuer.configuration, &keys, now) {
        core.metrics.token_cache(core.id.index(), "hit");
        return Ok(proven);
    }
    core.metrics.token_cache(core.id.index(), "miss");
    let (verified, keys) = match issuer.issuer.verify(token, &keys.keys, now) {
        Err(unknown @ TokenError::KeyUnknown { .. }) => {
            match Box::pin(issuer.keys.refetched(keys.generation, REFETCH_WAIT)).await {
                Refetch::Refreshed => {
                    let keys = issuer.keys.current(now).map_err(|_| unavailable())?;
                    (issuer.issuer.verify(token, &keys.keys, now)?, keys)
                }
                Refetch::TooSoon | Refetch::TimedOut => return Err(Refusal::Token(unknown)),
                Refetch::Failed => return Err(unavailable()),
            }
        }
        verified => (verified?, keys),
    };
    let subject = Arc::new(Subject::new(&verified.principal));
    let proven = Arc::new(Proven { token: verified, subject, issuer: issuer.configuration });
    core.tokens.borrow_mut().insert(token, proven.clone(), &keys);
    Ok(proven)
}

/// How long a request waits for the one shared refetch that an unknown `kid` asks for.
const REFETCH_WAIT: Duration = Duration::from_secs(2);

fn check_binding(proven: &Proven, peer: Option<&Arc<Peer>>) -> Result<(), Refusal> {
    match proven.token.certificate_thumbprint {
        Some(bound) if peer.is_none_or(|p| p.certificate.fingerprint_sha256 != bound) => {
            Err(Refusal::TokenBinding)
        }
        _ => Ok(()),
    }
}
