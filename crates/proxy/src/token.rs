//! The token that takes the place of the caller's credential: minted for one upstream, with the scopes that policy grants.
//!
//! **Handed out:** a token for exactly this caller, upstream and set of scopes, granted for this very request, which ends no
//! later than what the caller proved. It is kept per core (one of a remote signer by all cores) and handed out again until a
//! quarter of its life is left; then a new one is made, by a remote signer in the background. **Refused:** a caller whose proof has ended but for the skew that
//! clocks are allowed (401), and one for whom none can be signed now (503) while nothing kept would do.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use identity::PrincipalId;
use identity::jwt::TokenError;
use identity::mint::{Claims, SigningKey};
use policy::{Engine, Facts, Recent, ScopeIndex};
use telemetry::TokenSeries;
use tls::Slot;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::authenticate::Caller;
use crate::core::Core;
use crate::refusal::Refusal;

/// What a route puts in the place of the caller's credential.
#[derive(Debug)]
pub struct RouteToken {
    /// What makes the tokens.
    pub minter: Arc<Minter>,
    /// Scopes that policy may grant, each with its handle in the snapshot's engine.
    pub scopes: Vec<(ScopeIndex, Box<str>)>,
}

/// Makes tokens; lives on across generations while its configuration is the same.
#[derive(Debug)]
pub struct Minter {
    /// The name of its entry in the configuration.
    pub name: Arc<str>,
    /// Stands for this very configuration: tokens of another one are not handed out.
    pub configuration: u64,
    /// The `iss` claim.
    pub issuer: Arc<str>,
    /// How long a token lives at most.
    pub ttl: Duration,
    /// What signs.
    pub signer: Signer,
    /// Its metrics.
    pub series: Arc<TokenSeries>,
}

/// What signs tokens.
#[derive(Debug)]
pub enum Signer {
    /// A key in memory; while its slot is empty nothing is signed.
    Local(Slot<SigningKey>),
    /// Somebody who keeps the key.
    Remote(Arc<dyn RemoteSigner>, SharedTokens),
}

/// Tokens of a remote signer, for all cores: a caller goes on while the signer is away, whichever core he comes to.
#[derive(Debug)]
pub struct SharedTokens(Mutex<Recent<Key, Minted>>);

impl Default for SharedTokens {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(SHARED)))
    }
}

impl SharedTokens {
    /// A core asks only when it has none of its own that lasts.
    fn lock(&self) -> MutexGuard<'_, Recent<Key, Minted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody else who signs. Cores wait for it at most [`DEADLINE`].
pub trait RemoteSigner: fmt::Debug + Send + Sync {
    /// The token with these claims (JSON); nothing if there is no telling when. The future is dropped after [`DEADLINE`].
    fn sign(&self, claims: String) -> Signing;
}

/// A signature on its way.
pub type Signing = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// An `Authorization` field, or the wait for one.
pub(crate) enum Bearer {
    Held(HeaderValue),
    Awaited(Pin<Box<dyn Future<Output = Result<HeaderValue, Refusal>>>>),
}

impl Bearer {
    /// The field, once it is there.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) async fn ready(self) -> Result<HeaderValue, Refusal> {
        match self {
            Self::Held(token) => Ok(token),
            Self::Awaited(token) => token.await,
        }
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer")
    }
}

impl RouteToken {
    /// The `Authorization` field for a permitted request to the upstream called `audience`.
    ///
    /// # Errors
    /// When the caller's proof has ended, or no token can be had.
    pub(crate) fn bearer(
        &self,
        core: &Rc<Core>,
        engine: &Engine,
        audience: &Arc<str>,
        caller: &Caller,
        facts: &Facts<'_>,
    ) -> Result<Bearer, Refusal> {
        let (minter, now) = (&self.minter, facts.now);
        let latest = now + minter.ttl;
        let expires = whole_second(caller.expires.map_or(latest, |end| end.min(latest)));
        if expires <= now {
            return Err(Refusal::Token(TokenError::Expired));
        }
        let key = Key {
            configuration: minter.configuration,
            policies: engine.revision(),
            audience: audience.clone(),
            principal: caller.principal.id.clone(),
            scope: self.granted(core, engine, caller, facts),
        };
        let held = self.held(core, &key, caller, now);
        if let Some(held) = &held
            && (now < held.renew.get() || expires <= held.expires)
        {
            minter.series.counted(core.id.index(), "cached");
            return Ok(Bearer::Held(held.authorization.clone()));
        }
        let order =
            Order { core: core.clone(), minter: minter.clone(), key, ends: caller.expires, now, expires };
        order.fill(held)
    }

    /// What is kept for this caller and still counts.
    fn held(&self, core: &Core, key: &Key, caller: &Caller, now: SystemTime) -> Option<Rc<Minted>> {
        let counts =
            |held: &Minted| now < held.expires && caller.expires.is_none_or(|end| held.expires <= end);
        let mut minted = core.minted.borrow_mut();
        let own = minted.kept.find(key).filter(|own| counts(own));
        let lasts = own.as_ref().is_some_and(|own| now < own.renew.get());
        let Signer::Remote(_, shared) = &self.minter.signer else { return own };
        if lasts {
            return own;
        }
        let other = shared.lock().find(key).filter(counts);
        match other.filter(|other| own.as_ref().is_none_or(|own| own.expires < other.expires)) {
            Some(other) => {
                let other = Rc::new(other);
                minted.kept.insert(key.clone(), other.clone());
                Some(other)
            }
            None => own,
        }
    }

    /// The granted scopes, as one claim (RFC 8693 section 4.2).
    fn granted(&self, core: &Core, engine: &Engine, caller: &Caller, facts: &Facts<'_>) -> String {
        let mut decider = core.decider.borrow_mut();
        let mut scope = String::new();
        for (index, name) in &self.scopes {
            if decider.grants(engine, &caller.subject, *index, facts) {
                scope.extend((!scope.is_empty()).then_some(' '));
                scope.push_str(name);
            }
        }
        scope
    }
}

/// A token that is to be made.
struct Order {
    core: Rc<Core>,
    minter: Arc<Minter>,
    key: Key,
    /// When the caller's proof ends.
    ends: Option<SystemTime>,
    now: SystemTime,
    expires: SystemTime,
}

impl Order {
    /// Has it made. Whoever holds one that still counts gets that while a remote signer makes the next, or cannot.
    fn fill(self, held: Option<Rc<Minted>>) -> Result<Bearer, Refusal> {
        let remote = match &self.minter.signer {
            Signer::Local(slot) => {
                let token =
                    slot.load().and_then(|key| key.sign(&self.claims(&self.subject(), &self.id())).ok());
                let minted = token.and_then(|token| self.keep(&token)).or(held);
                return minted
                    .map(|m| Bearer::Held(m.authorization.clone()))
                    .ok_or_else(|| self.minter.unavailable(&self.core));
            }
            Signer::Remote(remote, _) => remote.clone(),
        };
        match held {
            Some(held) => {
                held.renew.set(self.now + AGAIN);
                self.minter.series.counted(self.core.id.index(), "cached");
                self.owed(remote);
                Ok(Bearer::Held(held.authorization.clone()))
            }
            None => {
                let core = self.core.clone();
                let minter = self.minter.clone();
                let unavailable = move || minter.unavailable(&core);
                let Some(mut owed) = self.owed(remote) else { return Err(unavailable()) };
                Ok(Bearer::Awaited(Box::pin(async move {
                    let minted =
                        owed.wait_for(Option::is_some).await.ok().and_then(|owed| owed.clone().flatten());
                    minted.map(|minted| minted.authorization.clone()).ok_or_else(unavailable)
                })))
            }
        }
    }

    /// What a remote signer owes: one signature for all requests of one caller, made to its end and kept whether or not they
    /// still wait. Or whoever asks and leaves, again and again, would have the signer work for nothing and others wait. Nothing
    /// if too many signatures are owed already.
    fn owed(self, remote: Arc<dyn RemoteSigner>) -> Option<Owed> {
        let core = self.core.clone();
        let mut minted = core.minted.borrow_mut();
        let key = (self.key.clone(), self.ends);
        if let Some(owed) = minted.signing.get(&key) {
            return Some(owed.clone());
        }
        if minted.signing.len() >= MOST_SIGNING {
            return None;
        }
        let (owing, owed) = watch::channel(None);
        minted.signing.insert(key.clone(), owed.clone());
        let entry = Entry { core: core.clone(), key };
        core.tasks.spawn_local(async move {
            let claims = self.claims(&self.subject(), &self.id()).to_string();
            let token = timeout(DEADLINE, remote.sign(claims)).await.ok().flatten();
            let minted = token.and_then(|token| self.keep(&token));
            drop(entry);
            owing.send_replace(Some(minted));
        });
        Some(owed)
    }

    fn keep(&self, token: &str) -> Option<Rc<Minted>> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        authorization.set_sensitive(true);
        let life = self.expires.duration_since(self.now).unwrap_or_default();
        let left = (life / 4).max(LEFT.min(life / 2));
        let renew = Cell::new(self.expires.checked_sub(left).unwrap_or(self.now));
        let minted = Rc::new(Minted { authorization, expires: self.expires, renew });
        self.minter.series.counted(self.core.id.index(), "minted");
        self.core.minted.borrow_mut().kept.insert(self.key.clone(), minted.clone());
        if let Signer::Remote(_, shared) = &self.minter.signer {
            shared.lock().insert(self.key.clone(), Minted::clone(&minted));
        }
        Some(minted)
    }

    fn claims<'a>(&'a self, subject: &'a str, id: &'a str) -> Claims<'a> {
        Claims {
            issuer: &self.minter.issuer,
            audience: &self.key.audience,
            subject,
            scope: &self.key.scope,
            issued: self.now,
            expires: self.expires,
            id,
        }
    }

    fn subject(&self) -> String {
        self.key.principal.to_string()
    }

    /// 128 random bits.
    fn id(&self) -> String {
        self.core.trace_ids.trace().to_string()
    }
}

impl Minter {
    fn unavailable(&self, core: &Core) -> Refusal {
        self.series.counted(core.id.index(), "unavailable");
        Refusal::TokenUnavailable { token: self.name.to_string() }
    }
}

/// The tokens of one core.
#[derive(Debug)]
pub(crate) struct MintedTokens {
    kept: Recent<Key, Rc<Minted>>,
    /// Signatures that a remote signer owes.
    signing: HashMap<(Key, Option<SystemTime>), Owed>,
}

impl MintedTokens {
    /// At most `capacity` are kept.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { kept: Recent::new((capacity / 2).max(1)), signing: HashMap::new() }
    }
}

/// What a remote signer owes; at first nothing, then a token or none.
type Owed = watch::Receiver<Option<Option<Rc<Minted>>>>;

/// What two requests must agree on to get one token.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    configuration: u64,
    policies: [u8; 32],
    audience: Arc<str>,
    principal: PrincipalId,
    scope: String,
}

/// A token with its end.
#[derive(Clone, Debug)]
struct Minted {
    authorization: HeaderValue,
    expires: SystemTime,
    /// When the next one should be made.
    renew: Cell<SystemTime>,
}

/// An entry among the signatures that are owed, until it is dropped.
struct Entry {
    core: Rc<Core>,
    key: (Key, Option<SystemTime>),
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.core.minted.borrow_mut().signing.remove(&self.key);
    }
}

/// What a token says of its end: whole seconds, rounded down.
fn whole_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// How long a request waits for a remote signer.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// A token is made anew when a quarter of its life, and at least this (but no more than half of its life), is left.
const LEFT: Duration = Duration::from_secs(10);

/// How soon after a try in the background the next one may follow.
const AGAIN: Duration = Duration::from_secs(1);

/// Tokens that all cores share: half of what is kept at most, each of about 1 KB.
const SHARED: usize = 4096;

/// How many callers' signatures a core is owed at once; a signer that hangs holds up no more.
const MOST_SIGNING: usize = 64;
