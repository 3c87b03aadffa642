//! Logging in: a token by one of the methods, from credentials that are read anew each time.
//!
//! **Passes:** service tokens without a count of uses. **Refused:** an answer that asks for a second factor, batch tokens (they
//! cannot be renewed, and leases die with them), tokens that may be used a number of times, a wrapped secret id that was not
//! wrapped for exactly this role. What was refused is revoked as far as it can be.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustify::endpoint::Endpoint;
use rustify_derive::Endpoint;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;
use vaultrs::api::auth::oidc::requests::JWTLoginRequest;

use super::Vault;
use super::answer::{Answer, Failure, Operation, lifetime};
use super::plan::Life;
use super::request::Request;
use super::settings::Login;
use super::wrapping::UnwrapError;
use crate::{Cause, Reference, reference};

/// What a login gave.
pub(super) struct Granted {
    pub(super) secret: SecretString,
    pub(super) life: Life,
    /// Whether the token's policy allows it to look itself up: without that, a 403 cannot be told apart.
    pub(super) can_look_up: bool,
}

/// The secret id that came out of a wrapping token: that gives it only once, and a login is needed more often.
#[derive(Debug, Default)]
pub(super) struct Unwrapped {
    /// The wrapping token and what was inside.
    held: Mutex<Option<(SecretString, SecretString)>>,
    /// The wrapping token that the last security event was about.
    suspected: Mutex<Option<SecretString>>,
}

/// What `lookup-self` says.
pub(super) struct Looked {
    ttl: Duration,
    creation_ttl: Duration,
    explicit_max: Duration,
    period: Duration,
    is_renewable: bool,
    ends: bool,
}

impl Vault {
    /// Logs in.
    ///
    /// # Errors
    /// [`Cause::LoginRefused`], what the credentials are lacking, or the outage.
    pub(super) async fn log_in(&self) -> Result<Granted, Cause> {
        match &self.settings.login {
            Login::Token { token } => self.adopt(self.credential(token)?).await,
            Login::AppRole { mount, role_id, secret_id, wrapped } => {
                let role_id = self.credential(role_id)?;
                let secret_id = match (secret_id, wrapped) {
                    (None, _) => None,
                    (Some(secret_id), None) => Some(self.credential(secret_id)?),
                    (Some(token), Some(wrapped)) => {
                        let path = format!("auth/{mount}/role/{}/secret-id", wrapped.role);
                        Some(self.unwrapped(self.credential(token)?, &path).await?)
                    }
                };
                let request = LoginWithApproleRequest {
                    mount: mount.clone(),
                    role_id: role_id.expose_secret().to_owned(),
                    secret_id: secret_id.as_ref().map(|id| id.expose_secret().to_owned()).unwrap_or_default(),
                };
                self.show(&request, secret_id.as_ref()).await
            }
            Login::Kubernetes { mount, role, token } => {
                let token = self.credential(token)?;
                let jwt = token.expose_secret().to_owned();
                let request = LoginWithKubernetesRequest { mount: mount.clone(), role: role.clone(), jwt };
                self.show(&request, Some(&token)).await
            }
            Login::Jwt { mount, role, token } => {
                let token = self.credential(token)?;
                let jwt = token.expose_secret().to_owned();
                let request = JWTLoginRequest { mount: mount.clone(), role: Some(role.clone()), jwt };
                self.show(&request, Some(&token)).await
            }
            Login::Certificate { mount, name } => {
                self.show(&CertificateLogin { mount: mount.clone(), name: name.clone() }, None).await
            }
        }
    }

    /// What the token says of itself; none if its policy does not allow it to look, or if it is dead.
    ///
    /// # Errors
    /// The outage.
    pub(super) async fn look_up(&self, token: &SecretString) -> Result<Option<Looked>, Cause> {
        let request = Request::new(Operation::Token, &LookUp {})?;
        match self.ask(&request, Some(token), 0).await {
            Ok(answer) => Looked::read(&answer).map(Some),
            Err(Failure::Refused(refusal)) if refusal.status == 403 => Ok(None),
            Err(failure) => Err(failure.cause()),
        }
    }

    /// Ends a token; one that is dead already is fine.
    ///
    /// # Errors
    /// Why it may still live.
    pub(super) async fn end(&self, token: &SecretString) -> Result<(), Cause> {
        let request = Request::new(Operation::Token, &RevokeSelf {})?;
        match self.ask(&request, Some(token), 0).await {
            Ok(_) | Err(Failure::Refused(_)) => Ok(()),
            Err(failure) => Err(failure.cause()),
        }
    }

    /// A token that somebody else made.
    async fn adopt(&self, secret: SecretString) -> Result<Granted, Cause> {
        let now = Instant::now();
        let refused = "the token is not valid, or its policy does not allow `auth/token/lookup-self`";
        let looked = self.look_up(&secret).await?.ok_or_else(|| Cause::LoginRefused(refused.to_owned()))?;
        Ok(Granted { life: looked.life(now), secret, can_look_up: true })
    }

    /// Shows credentials to a method's login endpoint.
    async fn show<E: Endpoint>(
        &self,
        endpoint: &E,
        credential: Option<&SecretString>,
    ) -> Result<Granted, Cause> {
        let now = Instant::now();
        let request = Request::new(Operation::Login, endpoint)?;
        let answer = match self.ask(&request, None, 0).await {
            Ok(answer) => answer,
            Err(Failure::Refused(mut refusal)) => {
                if let Some(credential) = credential {
                    refusal.hide(credential);
                }
                let said = if refusal.errors.is_empty() {
                    format!("status {}", refusal.status)
                } else {
                    refusal.errors.join("; ")
                };
                return Err(Cause::LoginRefused(said));
            }
            Err(failure) => return Err(failure.cause()),
        };
        for warning in answer.warnings() {
            tracing::warn!(store = self.settings.name, warning, "the login comes with a warning");
        }
        let auth: Auth = answer.part_as("auth", "it does not say what a login says")?;
        let secret = auth.client_token.filter(|token| !token.expose_secret().is_empty());
        let Some(secret) = secret else {
            let said = if auth.mfa_requirement.is_some() {
                "it asks for a second factor (MFA), which a gateway has not"
            } else {
                "it gave no token"
            };
            return Err(Cause::LoginRefused(said.to_owned()));
        };
        let looked = match check(auth.token_type.as_deref(), auth.num_uses) {
            Ok(()) => self.look_up_new(&secret).await,
            Err(cause) => Err(cause),
        };
        if let Err(cause @ Cause::LoginRefused(_)) = looked {
            // It is of no use to us: best effort, its life ends by itself.
            let _ = self.end(&secret).await;
            return Err(cause);
        }
        let granted = lifetime(auth.lease_duration);
        let mut life = Life {
            created: now,
            granted: now,
            ends: (!granted.is_zero()).then(|| now + granted),
            increment: granted,
            is_renewable: auth.renewable,
            hard_end: None,
        };
        let can_look_up = !matches!(looked, Ok(None));
        if let Ok(Some(looked)) = looked {
            life.hard_end = looked.hard_end(now);
            life.ends = life.ends.filter(|_| looked.ends);
        }
        Ok(Granted { secret, life, can_look_up })
    }

    /// A new token may not be known yet to the node that is asked: one more look.
    async fn look_up_new(&self, token: &SecretString) -> Result<Option<Looked>, Cause> {
        if let Some(looked) = self.look_up(token).await? {
            return Ok(Some(looked));
        }
        sleep(LAG).await;
        self.look_up(token).await
    }

    /// The secret id inside of a wrapping token that was made for `path`.
    async fn unwrapped(&self, token: SecretString, path: &str) -> Result<SecretString, Cause> {
        if let Some(secret_id) = self.unwrapped.of(&token) {
            return Ok(secret_id);
        }
        let found = async {
            let wrapping = self.lookup_wrapping(&token).await?;
            if wrapping.creation_path != path {
                return Ok(Err(wrapping.creation_path));
            }
            self.unwrap(&token).await.map(Ok)
        };
        let answer = match found.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(other)) => {
                self.suspect(&token, "the wrapped secret id was made for another path");
                let said = format!("the wrapping token was made for `{other}`, expected `{path}`");
                return Err(Cause::LoginRefused(said));
            }
            Err(UnwrapError::Used) => {
                self.suspect(&token, "the wrapped secret id was taken by somebody else, or has expired");
                return Err(Cause::LoginRefused(UnwrapError::Used.to_string()));
            }
            Err(UnwrapError::Store(error)) => return Err(error.cause),
        };
        #[derive(Deserialize)]
        struct Data {
            secret_id: SecretString,
        }
        let data: Data = answer.data_as("it has no secret id")?;
        self.unwrapped.keep(token, data.secret_id.clone());
        Ok(data.secret_id)
    }

    /// A security event: once for each token.
    fn suspect(&self, token: &SecretString, what: &str) {
        let mut last = self.unwrapped.suspected.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|last| last.expose_secret() != token.expose_secret()) {
            tracing::error!(event = "wrapping_token_misused", store = self.settings.name, "{what}");
            *last = Some(token.clone());
        }
    }

    /// The value of a reference of the login, read now.
    fn credential(&self, from: &Reference) -> Result<SecretString, Cause> {
        let read = reference::read_local(from, self.settings.embedded.as_deref());
        read.and_then(|reading| reading.value(from)).map_err(|error| error.cause)
    }
}

impl Unwrapped {
    fn of(&self, token: &SecretString) -> Option<SecretString> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, secret_id) = held.as_ref()?;
        (of.expose_secret() == token.expose_secret()).then(|| secret_id.clone())
    }

    fn keep(&self, token: SecretString, secret_id: SecretString) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((token, secret_id));
    }
}

impl Looked {
    fn read(answer: &Answer) -> Result<Self, Cause> {
        #[derive(Deserialize)]
        struct Data {
            ttl: u64,
            #[serde(default)]
            creation_ttl: u64,
            #[serde(default)]
            explicit_max_ttl: u64,
            #[serde(default)]
            period: u64,
            #[serde(default)]
            renewable: bool,
            #[serde(default)]
            num_uses: i64,
            #[serde(default, rename = "type")]
            kind: Option<String>,
            #[serde(default)]
            expire_time: Value,
        }
        let data: Data = answer.data_as("it does not say what a token's lookup says")?;
        check(data.kind.as_deref(), data.num_uses)?;
        Ok(Self {
            ttl: lifetime(data.ttl),
            creation_ttl: lifetime(data.creation_ttl),
            explicit_max: lifetime(data.explicit_max_ttl),
            period: lifetime(data.period),
            is_renewable: data.renewable,
            ends: data.ttl != 0 || !data.expire_time.is_null(),
        })
    }

    /// When it ends whatever is done, for a token of which `now` is the first moment.
    fn hard_end(&self, now: Instant) -> Option<Instant> {
        Some(self.explicit_max).filter(|max| !max.is_zero()).map(|max| now + max)
    }

    /// The life of a token that has lived already: its maximum counts from a moment that we did not see, and shows itself
    /// when a renewal gives less.
    fn life(&self, now: Instant) -> Life {
        let increment = if self.period.is_zero() { self.creation_ttl } else { self.period };
        Life {
            created: now,
            granted: now,
            ends: self.ends.then(|| now + self.ttl),
            increment: increment.max(self.ttl),
            is_renewable: self.is_renewable,
            hard_end: None,
        }
    }
}

/// Whether a token of this kind and number of uses can keep a gateway going.
fn check(kind: Option<&str>, uses: i64) -> Result<(), Cause> {
    let refused = |said: String| Err(Cause::LoginRefused(said));
    if kind == Some("batch") {
        return refused(
            "a batch token cannot be renewed: expected token_type=service on the role".to_owned(),
        );
    }
    if uses != 0 {
        return refused(format!("the token is for {uses} uses: expected token_num_uses=0 on the role"));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Auth {
    client_token: Option<SecretString>,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    num_uses: i64,
    #[serde(default)]
    mfa_requirement: Option<Value>,
}

/// vaultrs calls the field `cert_name`, which no server reads.
#[derive(Endpoint)]
#[endpoint(path = "auth/{self.mount}/login", method = "POST")]
struct CertificateLogin {
    #[endpoint(skip)]
    mount: String,
    name: Option<String>,
}

#[derive(Endpoint)]
#[endpoint(path = "auth/token/lookup-self")]
struct LookUp {}

#[derive(Endpoint)]
#[endpoint(path = "auth/token/revoke-self", method = "POST")]
struct RevokeSelf {}

/// How long a node may take to know a new token.
pub(super) const LAG: Duration = Duration::from_millis(400);
