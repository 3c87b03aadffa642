//! The login of a cluster: one token at a time, kept alive, replaced before it ends.
//!
//! One loop logs in and renews, whoever asks: a request that finds the token dead only tells the loop. A new token serves
//! first, is counted ([`super::Vault::login`]), and the former one is revoked when the overlap is over. What fails is tried again
//! for ever, with full jitter, faster near the token's end, never twice within a second; while the cluster is away nothing
//! is tried, and all of it goes on within a second after it is back. A login that is refused does not end a token that
//! still lives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustify_derive::Endpoint;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::Vault;
use super::answer::Operation;
use super::login::{Granted, LAG};
use super::plan::{Life, retry};
use super::request::Request;
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

/// What the loop remembers from one step to the next.
struct Course {
    token: Option<Arc<Token>>,
    /// Drawn for each grant.
    jitter: f64,
    /// Whether the token must be replaced whatever its life says.
    is_stale: bool,
    last_login: Option<Instant>,
    /// Not before, after a failure.
    login_after: Instant,
    renew_after: Instant,
    login_failures: u32,
    renew_failures: u32,
    /// How long a token of this login lived when a renewal showed its maximum.
    learned: Option<Duration>,
    /// The generation of the certificate that logged in.
    certificate: u64,
}

/// What the loop does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Due {
    Login,
    Renew,
    /// The token has ended without a successor.
    End,
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
    /// Logs in and keeps the login, for ever.
    pub(super) async fn keep_login(&self) {
        let mut course = Course::new(Instant::now());
        let mut returned = self.breaker.returned();
        loop {
            let is_usable = self.breaker.check(Instant::now()).is_ok();
            let (due, at) = course.due(self.settings.overlap, is_usable);
            tokio::select! {
                () = until(at) => match due {
                    Due::Login => self.take_login(&mut course).await,
                    Due::Renew => self.take_renewal(&mut course).await,
                    Due::End => self.take_end(&mut course),
                },
                () = self.session.found_dead.notified() => {
                    course.forget(self.session.dead.load(Ordering::Relaxed), Instant::now());
                }
                () = self.certificate_changed(course.certificate) => {
                    course.certificate = self.certificate();
                    course.replace(Instant::now());
                }
                _ = returned.changed() => self.take_return(&mut course),
            }
        }
    }

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

    async fn take_login(&self, course: &mut Course) {
        course.last_login = Some(Instant::now());
        course.certificate = self.certificate();
        let granted = self.log_in().await;
        let now = Instant::now();
        match granted {
            Ok(granted) => self.take_token(course, granted, now),
            Err(cause) => {
                course.login_failed(now);
                self.fail(course, cause, now);
            }
        }
    }

    fn take_token(&self, course: &mut Course, granted: Granted, now: Instant) {
        let former = course.token.take();
        let is_same = former
            .as_ref()
            .is_some_and(|former| former.secret.expose_secret() == granted.secret.expose_secret());
        let mut token = Token {
            number: *self.session.logins.borrow() + u64::from(!is_same),
            secret: granted.secret,
            life: granted.life,
            can_look_up: granted.can_look_up,
        };
        if self.makes_tokens() {
            token.life.hard_end = course.hard_end(&token.life);
        }
        let token = Arc::new(token);
        course.token = Some(Arc::clone(&token));
        course.jitter = fastrand::f64();
        course.renew_failures = 0;
        *locked(&self.session.failure) = None;
        let number = token.number;
        self.session.state.send_replace(State::Serving(token));
        if is_same {
            // Somebody else's token, and no new one yet.
            course.login_failed(now);
            return;
        }
        (course.login_failures, course.is_stale, course.login_after) = (0, false, now + GAP);
        self.session.logins.send_replace(number);
        tracing::info!(store = self.settings.name, login = number, "logged in");
        if let Some(former) = former.filter(|_| self.makes_tokens()) {
            locked(&self.session.former).push((now + self.settings.overlap, former));
            self.session.retiring.notify_one();
        }
    }

    async fn take_renewal(&self, course: &mut Course) {
        let Some(token) = course.token.clone() else { return };
        let now = Instant::now();
        let life = match self.renew_token(&token).await {
            Ok((granted, is_renewable)) => {
                self.session.renewals.fetch_add(1, Ordering::Relaxed);
                course.renew_failures = 0;
                course.jitter = fastrand::f64();
                token.life.renewed(granted, is_renewable, now)
            }
            Err(cause) if cause.is_configuration() => {
                tracing::info!(store = self.settings.name, %cause, "the token cannot be renewed, logging in anew");
                token.life.refused()
            }
            Err(_) => {
                course.renew_failures += 1;
                let wait =
                    retry(course.renew_failures, token.life.remaining(Instant::now()), fastrand::f64());
                course.renew_after = Instant::now() + wait;
                return;
            }
        };
        if let Some(hard_end) = life.hard_end.filter(|_| life.is_renewable) {
            course.learned = Some(hard_end - life.created);
        }
        let renewed = Arc::new(Token {
            number: token.number,
            secret: token.secret.clone(),
            life,
            can_look_up: token.can_look_up,
        });
        course.token = Some(Arc::clone(&renewed));
        self.session.state.send_if_modified(|state| {
            let serves = matches!(state, State::Serving(token) if token.number == renewed.number);
            if serves {
                *state = State::Serving(renewed);
            }
            serves
        });
    }

    /// What a renewal gave: for how long (none: for ever), and whether it can be renewed again.
    async fn renew_token(&self, token: &Token) -> Result<(Option<Duration>, bool), Cause> {
        #[derive(Deserialize)]
        struct Auth {
            lease_duration: u64,
            renewable: bool,
        }
        let increment = format!("{}s", token.life.increment.as_secs());
        let request = Request::new(Operation::Token, &RenewSelf { increment })?;
        let answer =
            self.ask(&request, Some(&token.secret), token.number).await.map_err(|failure| failure.cause())?;
        let auth: Auth = answer.part_as("auth", "it does not say what a renewal says")?;
        let granted = (auth.lease_duration > 0).then(|| Duration::from_secs(auth.lease_duration));
        Ok((granted, auth.renewable))
    }

    /// The token ended, and no login came before.
    fn take_end(&self, course: &mut Course) {
        course.token = None;
        let now = Instant::now();
        let away = self.breaker.check(now).err();
        let cause = away.or_else(|| self.session.failure().map(|(cause, _)| cause));
        self.session.state.send_replace(cause.map_or(State::Waiting, State::Without));
        tracing::warn!(store = self.settings.name, "the token has ended, there is no login");
    }

    /// The cluster is back: what failed because of it is tried at once, a little apart from other gateways.
    fn take_return(&self, course: &mut Course) {
        let now = Instant::now();
        let soon = now + STAGGER.mul_f64(fastrand::f64());
        course.renew_after = course.renew_after.min(soon).max(now);
        let was_outage = self.session.failure().is_none_or(|(cause, _)| !cause.is_configuration());
        if was_outage {
            course.login_after = soon.max(course.last_login.map_or(now, |last| last + GAP));
            self.session.state.send_if_modified(|state| {
                let is_over = matches!(state, State::Without(cause) if !cause.is_configuration());
                if is_over {
                    *state = State::Waiting;
                }
                is_over
            });
        }
    }

    fn fail(&self, course: &Course, cause: Cause, now: Instant) {
        if course.token.is_none() {
            self.session.state.send_replace(State::Without(cause.clone()));
        }
        let mut failure = locked(&self.session.failure);
        let since = failure.as_ref().map_or(now, |(_, since)| *since);
        if failure.as_ref().is_none_or(|(last, _)| last.word() != cause.word()) {
            tracing::warn!(store = self.settings.name, %cause, "no login");
        }
        *failure = Some((cause, since));
    }

    /// Whether a login makes a token of ours, to be revoked.
    fn makes_tokens(&self) -> bool {
        !matches!(self.settings.login, Login::Token { .. })
    }

    /// The generation of the certificate that logs in; 0 where none does.
    fn certificate(&self) -> u64 {
        match (&self.settings.login, &self.settings.certificate) {
            (Login::Certificate { .. }, Some(slot)) => slot.generation(),
            _ => 0,
        }
    }

    /// Resolves when the certificate is another one than that of this generation.
    async fn certificate_changed(&self, generation: u64) {
        if self.certificate() == 0 {
            return std::future::pending().await;
        }
        while self.certificate() == generation {
            sleep(CERTIFICATE).await;
        }
    }
}

impl Course {
    fn new(now: Instant) -> Self {
        Self {
            token: None,
            jitter: fastrand::f64(),
            is_stale: false,
            last_login: None,
            login_after: now,
            renew_after: now,
            login_failures: 0,
            renew_failures: 0,
            learned: None,
            certificate: 0,
        }
    }

    /// The next thing to do; while the cluster is away, only the end comes.
    fn due(&self, overlap: Duration, is_usable: bool) -> (Due, Option<Instant>) {
        let Some(token) = &self.token else {
            return (Due::Login, is_usable.then_some(self.login_after));
        };
        let plan = token.life.plan(overlap, self.jitter);
        let login = if self.is_stale { Some(self.login_after) } else { plan.login };
        let login = login.map(|at| at.max(self.login_after)).filter(|_| is_usable);
        let renew = plan.renew.map(|at| at.max(self.renew_after)).filter(|_| is_usable);
        let all = [(Due::Login, login), (Due::Renew, renew), (Due::End, token.life.ends)];
        let first = all.into_iter().filter_map(|(due, at)| Some((due, at?))).min_by_key(|(_, at)| *at);
        first.map_or((Due::End, None), |(due, at)| (due, Some(at)))
    }

    fn login_failed(&mut self, now: Instant) {
        self.login_failures += 1;
        let remaining = self.token.as_ref().and_then(|token| token.life.remaining(now));
        self.login_after = now + retry(self.login_failures, remaining, fastrand::f64());
    }

    /// A token was found dead.
    fn forget(&mut self, number: u64, now: Instant) {
        if self.token.take_if(|token| token.number <= number).is_some() {
            self.replace(now);
        }
    }

    /// A new login is wanted now.
    fn replace(&mut self, now: Instant) {
        self.is_stale = true;
        self.login_after = self.last_login.map_or(now, |last| now.max(last + GAP));
    }

    /// When a new token ends whatever is done: as it says, or as the former one taught, unless it already got more.
    fn hard_end(&mut self, life: &Life) -> Option<Instant> {
        if life.hard_end.is_some() {
            return life.hard_end;
        }
        self.learned =
            self.learned.filter(|learned| life.ends.is_some_and(|ends| ends <= life.created + *learned));
        self.learned.map(|learned| life.created + learned)
    }
}

#[derive(Endpoint)]
#[endpoint(path = "auth/token/renew-self", method = "POST")]
struct RenewSelf {
    increment: String,
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

/// Between two logins.
const GAP: Duration = Duration::from_secs(1);
/// How far apart gateways come back.
const STAGGER: Duration = Duration::from_secs(1);
/// A token this young may not be known to every node.
const YOUNG: Duration = Duration::from_secs(2);
/// Between two looks at a token because of a 403.
const LOOK_GAP: Duration = Duration::from_secs(60);
/// Between two tries to revoke a former token.
const RETIRE_AGAIN: Duration = Duration::from_secs(10);
/// How long an end waits for revocations.
const FAREWELL: Duration = Duration::from_secs(5);
/// How soon a new certificate is seen.
const CERTIFICATE: Duration = Duration::from_secs(1);
