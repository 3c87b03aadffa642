//! Stores of secrets of a running gateway: clusters and the embedded store that live on while their definition stays.
//!
//! A store that is new in a generation logs in before that generation counts; should the generation be refused, the store
//! ends with it and revokes its token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrets::embedded::Embedded;
use secrets::reference::read_local;
use secrets::vault::{Login, Settings, Vault};
use secrets::{Reference, Store, StoreError, Stores};
use tls::{Credential, Trust};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::prepare::Fault;
use super::slots::{Held, next_id};
use super::wall_clock;
use crate::config::Span;
use crate::config::material::{Bytes, FromFiles, TrustFile};
use crate::config::model::{CertificateFiles, Name, SecretStore, ServerTrust, VaultStore};

/// A store with what it needs from files; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct LivingStore {
    pub(super) definition: SecretStore,
    /// Never given twice in this process: jobs are built on it.
    pub(super) id: u64,
    pub(super) store: Store,
    /// The authorities that vouch for its servers, from a file that is watched.
    pub(super) trust: Option<Held<TrustFile, Trust>>,
    /// The client certificate of its login, from files that are watched.
    pub(super) certificate: Option<Held<CertificateFiles, Credential>>,
    /// The embedded store that a cluster's login may read from, by number.
    embedded: Option<u64>,
    /// Counts reasons to try now: the cluster answers again, a new login, the operator's word.
    wake: watch::Sender<u64>,
    _running: Option<DropGuard>,
}

/// What stores and jobs run on. Jobs end first: they give back what they hold, and need a login for that.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    pub(super) jobs: Group,
    pub(super) stores: Group,
}

/// Tasks that end together.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Tasks {
    /// Ends all jobs, then all stores, and waits for both.
    pub(super) async fn end(&self) {
        for group in [&self.jobs, &self.stores] {
            group.stop.cancel();
            group.tracker.close();
            group.tracker.wait().await;
        }
    }
}

/// The stores of a configuration by name, those that did not change as they are. With `tasks`, new clusters log in and stay
/// logged in; without, they are only there to be asked.
///
/// # Errors
/// Every store that cannot be opened or asked, with the place that is to blame.
pub(super) fn next(
    definitions: &BTreeMap<Name, SecretStore>,
    former: &BTreeMap<Name, Arc<LivingStore>>,
    tasks: &Tasks,
) -> Result<BTreeMap<Name, Arc<LivingStore>>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut stores = BTreeMap::new();
    // The embedded store first: logins may read from it.
    let (embedded, clusters): (Vec<_>, Vec<_>) =
        definitions.iter().partition(|(_, definition)| matches!(definition, SecretStore::Embedded(_)));
    let mut local: Option<(u64, Arc<Embedded>)> = None;
    for (name, definition) in embedded.into_iter().chain(clusters) {
        let same = former.get(name).filter(|former| {
            former.definition == *definition && former.embedded == local.as_ref().map(|(id, _)| *id)
        });
        let living = match same {
            Some(former) => Ok(Arc::clone(former)),
            None => LivingStore::new(name, definition, local.as_ref(), tasks).map(Arc::new),
        };
        match living {
            Ok(living) => {
                if let Store::Embedded(embedded) = &living.store {
                    local = Some((living.id, Arc::clone(embedded)));
                }
                stores.insert(name.clone(), living);
            }
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(stores) } else { Err(faults) }
}

/// The stores as sources ask them.
pub(super) fn handles(stores: &BTreeMap<Name, Arc<LivingStore>>) -> Stores {
    Stores(stores.iter().map(|(name, living)| (name.to_string(), living.store.clone())).collect())
}

impl LivingStore {
    fn new(
        name: &Name,
        definition: &SecretStore,
        local: Option<&(u64, Arc<Embedded>)>,
        tasks: &Tasks,
    ) -> Result<Self, Fault> {
        match definition {
            SecretStore::Embedded(store) => {
                let failed = |error: StoreError| Fault::new(store.opener.reference().span, error);
                let opener = store.opener.read().map_err(failed)?;
                let directory = store.directory.clone();
                let embedded = Embedded::open(name.as_str(), directory, opener, Arc::new(wall_clock));
                let embedded = embedded.map_err(failed)?;
                Ok(Self {
                    definition: definition.clone(),
                    id: next_id(),
                    store: Store::Embedded(Arc::new(embedded)),
                    trust: None,
                    certificate: None,
                    embedded: None,
                    wake: watch::channel(0).0,
                    _running: None,
                })
            }
            SecretStore::Vault(cluster) => Self::cluster(name, cluster, local, tasks),
        }
    }

    fn cluster(
        name: &Name,
        cluster: &VaultStore,
        local: Option<&(u64, Arc<Embedded>)>,
        tasks: &Tasks,
    ) -> Result<Self, Fault> {
        let trust = match &cluster.trust {
            ServerTrust::System => None,
            ServerTrust::File(reference) => Some(filled(TrustFile(reference.clone()))?),
        };
        let certificate = cluster.certificate.clone().map(filled).transpose()?;
        let settings = Settings {
            name: name.to_string(),
            addresses: cluster.addresses.resolve().map_err(|(span, reason)| Fault::new(span, reason))?,
            namespace: cluster.namespace.clone(),
            trust: trust.as_ref().map(Held::reader),
            login: cluster.login.clone(),
            certificate: certificate.as_ref().map(Held::reader),
            timeout: cluster.timeout,
            overlap: OVERLAP,
            embedded: local.map(|(_, embedded)| Arc::clone(embedded)),
        };
        for reference in shown(&cluster.login) {
            let read = read_local(reference, local.map(|(_, embedded)| embedded.as_ref()));
            read.map_err(|error| Fault::new(cluster.at.0, format!("nothing to log in with: {error}")))?;
        }
        let vault = Vault::new(settings).map_err(|reason| Fault::new(cluster.at.0, reason))?;
        let stop = tasks.stores.stop.child_token();
        let wake = watch::channel(0).0;
        tasks.stores.tracker.spawn(Arc::clone(&vault).run(stop.clone()));
        let following = rotation::follow(Arc::clone(&vault), wake.clone(), stop.clone());
        tasks.stores.tracker.spawn(following);
        Ok(Self {
            definition: SecretStore::Vault(Box::new(cluster.clone())),
            id: next_id(),
            store: Store::Vault(vault),
            trust,
            certificate,
            embedded: local.map(|(id, _)| *id),
            wake,
            _running: Some(stop.drop_guard()),
        })
    }

    /// Changes when jobs that ask this store should try now.
    pub(super) fn woken(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    /// Has jobs that ask this store try now.
    pub(super) fn wake(&self) {
        self.wake.send_modify(|count| *count += 1);
    }
}

/// The references that a login reads.
fn shown(login: &Login) -> Vec<&Reference> {
    match login {
        Login::Token { token } | Login::Kubernetes { token, .. } | Login::Jwt { token, .. } => vec![token],
        Login::AppRole { role_id, secret_id, .. } => std::iter::once(role_id).chain(secret_id).collect(),
        Login::Certificate { .. } => Vec::new(),
    }
}

/// A slot with what files hold now.
fn filled<F, T>(definition: F) -> Result<Held<F, T>, Fault>
where
    F: FromFiles<Value = Arc<T>>,
{
    let loaded = Bytes::read(&definition)
        .map_err(|errors| errors.into_iter().next())
        .and_then(|bytes| bytes.parse(&definition, wall_clock()).map_err(Some));
    match loaded {
        Ok(loaded) => {
            let held = Held::new(definition);
            held.publish(loaded.value, loaded.digest);
            Ok(held)
        }
        Err(error) => {
            let span = error.as_ref().map_or_else(Span::default, |error| error.reference.span);
            let reason = error.map(|error| error.reason).unwrap_or_default();
            Err(Fault::new(span, reason))
        }
    }
}

/// How long a former token lives on after a new login, so that leases move to it.
const OVERLAP: Duration = Duration::from_secs(60);
