//! A Vault in memory, for what the real one cannot be made to do: a clock that the test drives, namespaces, 412, 472 and 473,
//! answers that lie, are cut off or too large.
//!
//! It passes the same contract suite as the real one (`tests/promises/vault_contract.rs`), which is why it may be believed. It has two
//! doors: [`VaultFake::url`] is the product's, where requests are counted and faults happen; the operator's, for setting up, is the
//! [`VaultClient`] that it derefs to, with a root token, never sealed and never failing. Ciphers are none: what it encrypts can be read.

mod auth;
mod call;
mod clock;
mod database;
mod door;
mod fault;
mod kv;
mod leases;
mod pki;
mod policy;
mod state;
mod sys;
#[cfg(test)]
mod tests;
mod tokens;
mod transit;

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Handle;

use self::call::{Call, Reply};
use self::clock::Clock;
use self::door::Door;
pub use self::fault::Fault;
use self::fault::Faults;
use self::state::State;
use crate::server::{Body, Server, ServerTls};
use crate::vault_client::VaultClient;

/// A running fake; ends when dropped.
pub struct VaultFake {
    shared: Arc<Shared>,
    door: Door,
    scheme: &'static str,
    operator: VaultClient,
    _operators_door: Server,
}

/// A request that came through the product's door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The HTTP method.
    pub method: String,
    /// The path without `/v1/`.
    pub path: String,
    /// The namespace that it named.
    pub namespace: Option<String>,
    /// The status that it was answered with; 0 if it was not answered.
    pub status: u16,
    /// When, counted from the start of the fake by its own clock.
    pub at: Duration,
}

struct Shared {
    clock: Clock,
    state: Mutex<State>,
    faults: Faults,
    asked: Mutex<Vec<Asked>>,
}

impl VaultFake {
    /// Starts one that speaks plain HTTP, on a thread and by a clock of its own ([`VaultFake::advance`]).
    #[must_use]
    pub fn start() -> Self {
        Self::open(None, None)
    }

    /// The same over TLS.
    #[must_use]
    pub fn start_tls(tls: ServerTls) -> Self {
        Self::open(Some(tls), None)
    }

    /// Serves on the runtime that this is called on and goes by its clock, also when that is paused: time then passes as soon
    /// as nobody has anything to do, and requests take none.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn here() -> Self {
        Self::open(None, Some(Handle::current()))
    }

    fn open(tls: Option<ServerTls>, runtime: Option<Handle>) -> Self {
        let shared = Arc::new(Shared {
            clock: Clock::new(runtime.clone()),
            state: Mutex::new(State::new(ROOT)),
            faults: Faults::default(),
            asked: Mutex::default(),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let door = Door::open(shared.clone(), tls, runtime);
        let operators = shared.clone();
        let operators_door = Server::start(None, move || {
            move |_, request| {
                let shared = operators.clone();
                Box::pin(async move { Some(shared.answer(&Call::read(request, None).await).response()) })
            }
        });
        let operator = VaultClient { address: operators_door.address, trust: None, token: ROOT.to_owned() };
        Self { shared, door, scheme, operator, _operators_door: operators_door }
    }

    /// Where the product asks.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address())
    }

    /// The address of [`VaultFake::url`].
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.door.address
    }

    /// Moves its clock forward: tokens, leases and wrappings end.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// How long it has been running, by its own clock.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.clock.now()
    }

    /// Seals or unseals it: sealed, every request but `sys/health` and `sys/seal-status` gets 503.
    pub fn seal(&self, sealed: bool) {
        self.state().sealed = sealed;
    }

    /// Makes it a standby without an active node (requests get 500, health 429), or active again.
    pub fn standby(&self, standby: bool) {
        self.state().standby = standby;
    }

    /// Requires this namespace in `X-Vault-Namespace`; none refuses the field.
    pub fn namespace(&self, namespace: Option<&str>) {
        self.state().namespace = namespace.map(str::to_owned);
    }

    /// From now on `auth/<mount>/login` takes this token (a service account's, a JWT) for `role`; write the role's settings
    /// (`token_policies`, `token_ttl`, `token_max_ttl`, …) to `auth/<mount>/role/<role>` before.
    pub fn accept_jwt(&self, mount: &str, role: &str, token: &str) {
        self.state().accept(mount, role, token);
    }

    /// From now on `auth/<mount>/login` takes the client certificate with this SHA-256 for the role `name`.
    pub fn accept_certificate(&self, mount: &str, name: &str, fingerprint: &str) {
        self.state().accept(mount, name, fingerprint);
    }

    /// Forgets leases for this many requests that name one, as a new active node does that has not read them yet.
    pub fn lose_leases(&self, requests: usize) {
        self.state().lost_leases = requests;
    }

    /// Fails requests whose path starts with `path` (all if empty) until [`VaultFake::heal`].
    pub fn fail(&self, path: &str, fault: Fault) {
        self.shared.faults.add(path, None, fault);
    }

    /// Fails the next `times` requests whose path starts with `path`.
    pub fn fail_times(&self, path: &str, times: usize, fault: Fault) {
        self.shared.faults.add(path, Some(times), fault);
    }

    /// Ends all faults; what hangs goes on.
    pub fn heal(&self) {
        self.shared.faults.heal();
    }

    /// Every request of the product so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How many requests of the product so far had a path that starts with `path`.
    #[must_use]
    pub fn requests(&self, path: &str) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|asked| asked.path.starts_with(path)).count()
    }

    /// How many logins succeeded so far.
    #[must_use]
    pub fn logins(&self) -> usize {
        let is_login = |asked: &&Asked| {
            asked.path.starts_with("auth/") && asked.path.ends_with("/login") && asked.status == 200
        };
        self.shared.asked.lock().unwrap().iter().filter(is_login).count()
    }

    /// How many tokens live, those of the operator not counted.
    #[must_use]
    pub fn tokens(&self) -> usize {
        let now = self.now();
        self.state().tokens_of_logins(now)
    }

    /// How many leases live.
    #[must_use]
    pub fn leases(&self) -> usize {
        let now = self.now();
        self.state().living_leases(now)
    }

    /// How many connections the product opened.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.door.connections()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl Deref for VaultFake {
    type Target = VaultClient;

    fn deref(&self) -> &VaultClient {
        &self.operator
    }
}

impl Shared {
    /// What a healthy server answers; the operator's way is never sealed.
    fn answer(&self, call: &Call) -> Reply {
        let mut state = self.state.lock().unwrap();
        state.now = self.clock.now();
        state.operator = true;
        state.answer(call)
    }

    /// What the product gets: counted, and failed where a fault says so.
    async fn serve(&self, call: Call) -> Option<http::Response<Body>> {
        let at = self.clock.now();
        let (fault, reply) = self.faults.before(&call.path).await;
        let healthy = || {
            let mut state = self.state.lock().unwrap();
            state.now = self.clock.now();
            state.operator = false;
            state.answer(&call)
        };
        let response = match (fault, reply) {
            (_, Some(reply)) => Some(reply.response()),
            (None, None) => Some(healthy().response()),
            (Some(fault), None) => fault.spoil(healthy()),
        };
        let status = response.as_ref().map_or(0, |response| response.status().as_u16());
        let Call { method, path, namespace, .. } = call;
        self.asked.lock().unwrap().push(Asked { method, path, namespace, status, at });
        response
    }
}

/// The operator's token.
const ROOT: &str = "fake-root";
