//! The loop that logs in and renews: what is due, and what came of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustify_derive::Endpoint;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{State, Token, locked, until};
use crate::Cause;
use crate::vault::Vault;
use crate::vault::answer::{Operation, lifetime};
use crate::vault::login::Granted;
use crate::vault::plan::{Life, retry};
use crate::vault::request::Request;
use crate::vault::settings::Login;

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

impl Vault {
    /// Logs in and keeps the login, for ever.
    pub(in crate::vault) async fn keep_login(&self) {
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
        let granted = (auth.lease_duration > 0).then(|| lifetime(auth.lease_duration));
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

/// Between two logins.
const GAP: Duration = Duration::from_secs(1);
/// How far apart gateways come back.
const STAGGER: Duration = Duration::from_secs(1);
/// How soon a new certificate is seen.
const CERTIFICATE: Duration = Duration::from_secs(1);
