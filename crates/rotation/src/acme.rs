//! Certificates over ACME (RFC 8555).
//!
//! **Obtained:** a chain for a key that is made here, for exactly the names that were asked for, valid now; kept on disk with the
//! account, so that a restart orders nothing while what is kept is good. **Refused:** everything else, in the words of the
//! ACME server (problem type and detail).
//!
//! The first look only takes what is kept: an order needs listeners that are open, and they open first. So a new entry
//! fails once with [`AcmeError::NothingKept`] and orders a second later; one whose names were changed serves what it has until
//! the new names are issued. Orders of one entry never run twice at once, in no
//! process of this machine: a lock in the state directory sees to it. What is shown for a challenge
//! ([`tls::acme`]) is withdrawn when its order ends, however it ends.
//!
//! It is renewed when the server suggests it (RFC 9773), else at two thirds of its life. Using it agrees to the server's terms of
//! service.

mod account;
mod error;
mod kept;
mod order;
mod renewal;
mod state;
mod transport;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, ExternalAccountKey};
use secrets::{ExposeSecret as _, SecretString};
use tls::{Credential, UpstreamTrust};
use zeroize::Zeroizing;

pub use self::error::AcmeError;
use self::kept::{Kept, Loaded};
use self::state::State;
use self::transport::Transport;
use crate::error::{Rejection, SourceError};
use crate::keeper::Clock;
use crate::source::{Life, Obtained, Source};

/// What is asked of which ACME server.
#[derive(Clone, Debug)]
pub struct AcmeSpec {
    /// The entry's name: part of a file name in `state`.
    pub entry: String,
    /// The server's directory, `https`.
    pub directory: String,
    /// Who vouches for the server.
    pub trust: UpstreamTrust,
    /// Contacts (`mailto:…`) of the account.
    pub contact: Vec<String>,
    /// DNS names, no wildcards: neither challenge can prove them.
    pub names: Vec<String>,
    /// How control over the names is proven.
    pub challenge: Challenge,
    /// The directory in which account and certificate are kept; made if it is not there. Entries may share it.
    pub state: PathBuf,
    /// External account binding (RFC 8555 section 7.3.4).
    pub external_account: Option<ExternalAccount>,
}

/// How control over a name is proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Challenge {
    /// In a TLS handshake (RFC 8737).
    TlsAlpn01,
    /// Over plain HTTP (RFC 8555 section 8.3).
    Http01,
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, Debug)]
pub struct ExternalAccount {
    /// The key's id.
    pub key_id: String,
    /// The MAC key, base64url.
    pub key: SecretString,
}

/// A certificate that an ACME server issues.
pub struct AcmeCertificate {
    names: Vec<String>,
    challenge: Challenge,
    contact: Vec<String>,
    directory: String,
    entry: String,
    state: State,
    transport: Transport,
    external_account: Option<ExternalAccountKey>,
    clock: Clock,
    /// The fingerprint of what was handed out last.
    served: Option<String>,
    /// Whether what is kept was looked at.
    looked: bool,
}

impl AcmeCertificate {
    /// A source for `spec`; nothing is asked and nothing is written yet.
    ///
    /// # Errors
    /// No name, a wildcard, a directory that is no `https` URL, or a binding key that is not base64url.
    pub fn new(spec: AcmeSpec, clock: Clock) -> Result<Self, AcmeError> {
        if spec.names.is_empty() {
            return Err(AcmeError::NoNames);
        }
        let names: Vec<String> = spec.names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if let Some(wildcard) = names.iter().find(|name| name.contains('*')) {
            return Err(AcmeError::Wildcard(wildcard.clone()));
        }
        if !spec.directory.starts_with("https://") {
            return Err(AcmeError::Directory(spec.directory));
        }
        let external_account = spec.external_account.map(|account| binding(&account)).transpose()?;
        Ok(Self {
            names,
            challenge: spec.challenge,
            contact: spec.contact,
            transport: Transport::new(spec.trust, Arc::clone(&clock)),
            state: State::new(spec.state),
            directory: spec.directory,
            entry: spec.entry,
            external_account,
            clock,
            served: None,
            looked: false,
        })
    }

    /// What is kept for the entry, if it is valid now.
    fn load(&self, now: SystemTime) -> Result<Option<Loaded>, AcmeError> {
        let kept: Option<Kept> = self.state.read(&kept::file(&self.entry))?;
        Ok(kept.and_then(|kept| kept.load(now)))
    }

    /// What is kept; better than nothing also if it was issued for other names, as long as one of them is still asked for.
    fn look(&mut self, now: SystemTime) -> Result<Obtained<Arc<Credential>>, AcmeError> {
        let loaded = self.load(now)?.filter(|loaded| loaded.kept.names_any_of(&self.names));
        let loaded = loaded.ok_or(AcmeError::NothingKept)?;
        let is_asked_for = loaded.kept.is_for(&self.directory, &self.names);
        Ok(match self.hand_out(loaded, now) {
            Obtained::New(credential, life) if !is_asked_for => {
                Obtained::New(credential, Life { again_in: Some(Duration::ZERO), ..life })
            }
            obtained => obtained,
        })
    }

    /// Renews what is kept if it is time, else says how long it is good.
    async fn renew(&mut self, held: Option<&Life>) -> Result<Obtained<Arc<Credential>>, SourceError> {
        let _lock = self.state.lock(&kept::lock(&self.entry)).await?;
        let now = (self.clock)();
        // Another process may have renewed it while this one waited.
        let kept = self.load(now)?.filter(|loaded| loaded.kept.is_for(&self.directory, &self.names));
        if let Some(mut loaded) = kept {
            if loaded.kept.asks_again(now) {
                self.ask_for_window(&mut loaded, now).await;
            }
            if now < loaded.kept.renew_at() {
                let life = loaded.life(now);
                let known = held.is_some() && self.served.as_deref() == Some(loaded.credential.fingerprint());
                return Ok(if known { Obtained::Unchanged(life) } else { self.hand_out(loaded, now) });
            }
        }
        tracing::info!(entry = %self.entry, names = ?self.names, "a certificate is ordered over ACME");
        let account = self.account().await?;
        let issued = match order::run(&account, &self.names, self.challenge).await {
            // The server forgot the account (or it was closed there): one new one.
            Err(error) if error.is_unknown_account() => {
                self.forget_account()?;
                order::run(&self.account().await?, &self.names, self.challenge).await
            }
            issued => issued,
        };
        let issued = issued.map_err(|error| error.after(self.transport.retry_after()))?;
        let now = (self.clock)();
        let credential = Credential::from_pem(issued.chain.as_bytes(), issued.key.as_bytes(), now)
            .map_err(Rejection::from)?;
        if let Some(missing) = self.names.iter().find(|name| credential.dns_names().all(|own| own != **name))
        {
            return Err(Rejection::Name(missing.clone()).into());
        }
        let kept = Kept::new(self.directory.clone(), self.names.clone(), issued, &credential);
        let mut loaded = Loaded { kept, credential: Arc::new(credential) };
        self.keep(&loaded);
        self.ask_window_of(&account, &mut loaded, now).await;
        Ok(self.hand_out(loaded, now))
    }

    /// Asks when the server wants it renewed; without an answer what is known holds, and it is asked again later.
    async fn ask_for_window(&self, loaded: &mut Loaded, now: SystemTime) {
        match self.account().await {
            Ok(account) => self.ask_window_of(&account, loaded, now).await,
            Err(error) => {
                tracing::debug!(entry = %self.entry, %error, "the ACME server says nothing about renewal");
                loaded.kept.answered(renewal::Answer::Silent, now, 0.0);
            }
        }
    }

    async fn ask_window_of(&self, account: &Account, loaded: &mut Loaded, now: SystemTime) {
        let answer = renewal::ask(account, &loaded.kept).await;
        loaded.kept.answered(answer, now, fastrand::f64());
        self.keep(loaded);
    }

    /// What was issued serves also if it cannot be kept; a restart then orders anew.
    fn keep(&self, loaded: &Loaded) {
        if let Err(error) = self.state.write(&kept::file(&self.entry), &loaded.kept) {
            tracing::error!(entry = %self.entry, %error, "an ACME certificate cannot be kept: a restart would order anew");
        }
    }

    fn hand_out(&mut self, loaded: Loaded, now: SystemTime) -> Obtained<Arc<Credential>> {
        self.served = Some(loaded.credential.fingerprint().to_owned());
        let life = loaded.life(now);
        Obtained::New(loaded.credential, life)
    }
}

impl Source for AcmeCertificate {
    type Material = Arc<Credential>;

    async fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<Obtained<Arc<Credential>>, SourceError> {
        if !std::mem::replace(&mut self.looked, true) {
            return Ok(self.look(now)?);
        }
        // An order's future is large, and most of the time there is none.
        match tokio::time::timeout(WHOLE, Box::pin(self.renew(held))).await {
            Ok(result) => result,
            Err(_) => Err(AcmeError::Slow.into()),
        }
    }
}

impl std::fmt::Debug for AcmeCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcmeCertificate")
            .field("entry", &self.entry)
            .field("directory", &self.directory)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

fn binding(account: &ExternalAccount) -> Result<ExternalAccountKey, AcmeError> {
    let text = account.key.expose_secret().trim().trim_end_matches('=');
    let key = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| AcmeError::BindingKey)?);
    Ok(ExternalAccountKey::new(account.key_id.clone(), &key))
}

/// For a whole order: validations of several names from several places take their time.
const WHOLE: Duration = Duration::from_secs(600);
