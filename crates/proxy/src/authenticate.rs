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
    /// The token among its proofs.
    pub(crate) token: Option<Arc<Proven>>,
}

impl Caller {
    /// Somebody with a name and nothing else.
    #[must_use]
    pub fn new(principal: Arc<Principal>, ends: Option<SystemTime>) -> Self {
        let subject = Arc::new(Subject::of(principal.clone()));
        Self { principal, subject, ends, expires: ends, token: None }
    }
}

/// Proves who calls, and that the deny list does not name them.
///
/// # Errors
/// A proof is missing, does not verify, is denied, or can't be checked now.
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
    let token = match bearer_token(headers)? {
        Some(token) if !issuers.is_empty() => Some(verify(core, issuers, token, now).await?),
        _ => None,
    };
    let caller = caller(connection, *wanted, issuers, trusts, token)?;
    core.deny.judge_caller(&caller, now)?;
    Ok(caller)
}

/// Who calls by a route's rules as they are now, from what was proven before. No signature is checked again: the token
/// stands while an issuer of the route asks the same of tokens as the one that it was proven for, and still has its key.
/// Keys that are unavailable say nothing against it.
///
/// # Errors
/// What was proven would not do any more.
pub(crate) fn authenticate_again(
    core: &Core,
    connection: &Connection,
    wanted: &Authenticate,
    was: &Caller,
    now: SystemTime,
) -> Result<Caller, Refusal> {
    let Authenticate::Proofs { wanted, issuers, trusts } = wanted else {
        return Ok(core.anonymous.clone());
    };
    let token = match &was.token {
        Some(proven) if !issuers.is_empty() => {
            let asks_the_same = |issuer: &&Arc<TokenIssuer>| issuer.issuer == proven.issuer.issuer;
            let issuer = issuers.iter().find(asks_the_same).ok_or(TokenError::IssuerMismatch)?;
            if issuer.keys.current(now).is_ok_and(|keys| !keys.keys.contains(&proven.token.key)) {
                return Err(Refusal::Token(TokenError::SignatureInvalid));
            }
            Some(proven.clone())
        }
        _ => None,
    };
    caller(connection, *wanted, issuers, trusts, token)
}

/// The caller that a token and the connection's certificate make, if they are what is wanted.
fn caller(
    connection: &Connection,
    wanted: Wanted,
    issuers: &[Arc<TokenIssuer>],
    trusts: &[Arc<str>],
    token: Option<Arc<Proven>>,
) -> Result<Caller, Refusal> {
    let certificate = connection.peer().filter(|(peer, _)| trusts.contains(&peer.trust));
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
                token: Some(proven),
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
    let subject = Arc::new(Subject::of(verified.principal.clone()));
    let proven = Arc::new(Proven { token: verified, subject, issuer: issuer.clone() });
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
