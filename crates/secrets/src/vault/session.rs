//! The login of a cluster: one token at a time, kept alive, replaced before it ends.
//!
//! One loop logs in and renews, whoever asks: a request that finds the token dead only tells the loop. A new token serves
//! first, is counted ([`super::Vault::login`]), and the former one is revoked when the overlap is over. What fails is tried again
//! for ever, with full jitter, faster near the token's end, never twice within a second; while the cluster is away nothing
//! is tried, and all of it goes on within a second after it is back. A login that is refused does not end a token that
//! still lives.

mod course;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::Vault;
use super::login::LAG;
use super::plan::Life;
use super::settings::Login;
use crate::Cause;

/// What the tasks of a cluster share about its login.
#[derive(Debug)]
pub(super) struct Session {
    state: watch::Sender<State>,
    logins: watch::Sender<u64>,
    renewals: AtomicU64,
    /// The number of the login that was found dead.
    dead: AtomicU64,
    /// Wakes the loop: a token was found dead.
    found_dead: Notify,
    /// Former tokens with the time when they are revoked.
    former: Mutex<Vec<(Instant, Arc<Token>)>>,
    retiring: Notify,
    /// Why the last login failed, and since when logins fail; none after one that worked.
    failure: Mutex<Option<(Cause, Instant)>>,
    /// The last look at a token that a 403 asked for; held while it is looked.
    looked: tokio::sync::Mutex<Option<Look>>,
}

/// A token that serves.
#[derive(Debug)]
pub(super) struct Token {
    /// Counts logins from 1.
    pub(super) number: u64,
    pub(super) secret: SecretString,
    pub(super) life: Life,
    can_look_up: bool,
}

#[derive(Clone, Debug)]
enum State {
    /// No login has ended yet; one is under way.
    Waiting,
    /// There is no token: why.
    Without(Cause),
    Serving(Arc<Token>),
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    number: u64,
    is_alive: bool,
}

/// What a 403 means.
pub(super) enum Forbidden {
    /// The policy does not allow it.
    Denied,
    /// Ask once more, with this token.
    Again(Arc<Token>),
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            state: watch::Sender::new(State::Waiting),
            logins: watch::Sender::new(0),
            renewals: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            found_dead: Notify::new(),
            former: Mutex::new(Vec::new()),
            retiring: Notify::new(),
            failure: Mutex::new(None),
            looked: tokio::sync::Mutex::new(None),
        }
    }

    /// The token that serves, waited for while a login is under way.
    ///
    /// # Errors
    /// Why the last login failed, or [`Cause::Timeout`].
    pub(super) async fn token(&self, wait: Duration) -> Result<Arc<Token>, Cause> {
        let mut state = self.state.subscribe();
        let ready = timeout(wait, state.wait_for(|state| !matches!(state, State::Waiting))).await;
        match ready.map(|state| state.map(|state| state.clone())) {
            Ok(Ok(State::Serving(token))) => Ok(token),
            Ok(Ok(State::Without(cause))) => Err(cause),
            Ok(Ok(State::Waiting) | Err(_)) | Err(_) => Err(Cause::Timeout),
        }
    }

    /// The token that serves now, if there is one.
    pub(super) fn serving(&self) -> Option<Arc<Token>> {
        match &*self.state.borrow() {
            State::Serving(token) => Some(Arc::clone(token)),
            State::Waiting | State::Without(_) => None,
        }
    }

    pub(super) fn logins(&self) -> watch::Receiver<u64> {
        self.logins.subscribe()
    }

    pub(super) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Relaxed)
    }

    /// Why logins fail, and since when.
    pub(super) fn failure(&self) -> Option<(Cause, Instant)> {
        locked(&self.failure).clone()
    }

    /// Tells the loop that a login's token is dead; requests wait for the next one.
    fn lost(&self, number: u64) {
        self.state.send_if_modified(|state| {
            let is_it = matches!(state, State::Serving(token) if token.number == number);
            if is_it {
                *state = State::Waiting;
            }
            is_it
        });
        self.dead.fetch_max(number, Ordering::Relaxed);
        self.found_dead.notify_one();
    }
}

impl Vault {
    /// Revokes former tokens when their overlap is over, for ever.
    pub(super) async fn retire(&self) {
        loop {
            let next = locked(&self.session.former).iter().map(|(at, _)| *at).min();
            tokio::select! {
                () = until(next) => {}
                () = self.session.retiring.notified() => continue,
            }
            let now = Instant::now();
            let due: Vec<_> = locked(&self.session.former).extract_if(.., |(at, _)| *at <= now).collect();
            for (_, token) in due {
                let lives = token.life.ends.is_none_or(|ends| now < ends);
                if lives && self.end(&token.secret).await.is_err() {
                    let again = Instant::now() + RETIRE_AGAIN.mul_f64(0.5 + fastrand::f64());
                    locked(&self.session.former).push((again, token));
                }
            }
        }
    }

    /// Revokes what was logged in: nothing serves after this.
    pub(super) async fn end_login(&self) {
        let serving = self.session.serving();
        self.session.state.send_replace(State::Without(Cause::Timeout));
        let former = std::mem::take(&mut *locked(&self.session.former));
        let limit = Instant::now() + self.settings.timeout.min(FAREWELL);
        for token in serving
            .into_iter()
            .filter(|_| self.makes_tokens())
            .chain(former.into_iter().map(|(_, token)| token))
        {
            if !matches!(timeout_at(limit, self.end(&token.secret)).await, Ok(Ok(()))) {
                tracing::warn!(store = self.settings.name, "a token could not be revoked, it ends by itself");
            }
        }
    }

    /// Sorts a 403: a token too young to be known everywhere, a dead one, or a policy that does not allow it. At most one
    /// look a minute.
    ///
    /// # Errors
    /// Why it cannot be told, or why there is no new token.
    pub(super) async fn forbidden(&self, token: &Arc<Token>) -> Result<Forbidden, Cause> {
        if token.life.created.elapsed() < YOUNG {
            sleep(LAG).await;
            return Ok(Forbidden::Again(Arc::clone(token)));
        }
        let mut looked = self.session.looked.lock().await;
        if self.session.serving().is_none_or(|serving| serving.number != token.number) {
            drop(looked); // Or those who wait for the next token would do so one after the other.
            return self.session.token(self.settings.timeout).await.map(Forbidden::Again);
        }
        if !token.can_look_up {
            return Ok(Forbidden::Denied);
        }
        let now = Instant::now();
        let is_alive = match looked.filter(|look| now < look.at + LOOK_GAP) {
            Some(look) => look.number != token.number || look.is_alive,
            None => {
                let is_alive = self.look_up(&token.secret).await?.is_some();
                *looked = Some(Look { at: now, number: token.number, is_alive });
                is_alive
            }
        };
        if is_alive {
            return Ok(Forbidden::Denied);
        }
        tracing::warn!(store = self.settings.name, "the token is dead before its time, logging in anew");
        self.session.lost(token.number);
        drop(looked);
        self.session.token(self.settings.timeout).await.map(Forbidden::Again)
    }

    /// Whether a login makes a token of ours, to be revoked.
    fn makes_tokens(&self) -> bool {
        !matches!(self.settings.login, Login::Token { .. })
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token this young may not be known to every node.
const YOUNG: Duration = Duration::from_secs(2);
/// Between two looks at a token because of a 403.
const LOOK_GAP: Duration = Duration::from_secs(60);
/// Between two tries to revoke a former token.
const RETIRE_AGAIN: Duration = Duration::from_secs(10);
/// How long an end waits for revocations.
const FAREWELL: Duration = Duration::from_secs(5);
