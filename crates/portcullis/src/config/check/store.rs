//! Stores of secrets, and the references that name them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use secrets::Reference;
use secrets::vault::{Login, Wrapped};

use super::listener::time;
use super::names::{Section, dangling};
use super::{Check, flat};
use crate::config::finding::Finding;
use crate::config::model::{
    At, CertificateFiles, EmbeddedStore, Name, SecretReference, SecretStore, ServerTrust, StoreOpener,
    VaultAddresses, VaultStore,
};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::secrets as raw;
use crate::config::reader::{Field, Secret};
use crate::config::values::Word as _;
use crate::config::values::field::IssuerTrust;
use crate::config::values::secret::{MountPath, SecretText, StoreKey};

/// The stores that the file names, and their kinds, even of those with an error.
pub(super) struct Stores {
    pub(super) section: Section,
    kinds: BTreeMap<Name, Kind>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Vault,
    Embedded,
}

impl Stores {
    pub(super) fn new(secrets: Option<&Field<Secret<raw::Secrets>>>) -> Self {
        let stores = secrets.and_then(|field| field.value.as_ref()).map(|secrets| &secrets.0.stores);
        let entries = stores.and_then(|field| field.value.as_ref()).map(|entries| entries.0.as_slice());
        let kind = |store: &raw::SecretStore| match store {
            raw::SecretStore::Vault(_) => Kind::Vault,
            raw::SecretStore::Embedded(_) => Kind::Embedded,
        };
        let kinds = entries.unwrap_or_default().iter();
        let kinds = kinds.filter_map(|(key, store)| Some((key.value.clone()?, kind(store.value.as_ref()?))));
        Self { section: Section::new("store of secrets", stores), kinds: kinds.collect() }
    }

    fn embedded(&self) -> Option<&Name> {
        self.kinds.iter().find(|(_, kind)| **kind == Kind::Embedded).map(|(name, _)| name)
    }
}

impl Check<'_> {
    pub(super) fn secret_stores(
        &mut self,
        secrets: Option<Field<Secret<raw::Secrets>>>,
    ) -> BTreeMap<Name, SecretStore> {
        let mut embedded: Option<Span> = None;
        self.entries(flat(secrets).map(|secrets| secrets.0.stores), |check, name, store| match store {
            raw::SecretStore::Vault(store) => {
                check.vault_store(store.value?).map(Box::new).map(SecretStore::Vault)
            }
            raw::SecretStore::Embedded(store) => {
                if let Some(first) = embedded {
                    let finding = Finding::error(name.span, "a second embedded store");
                    check.error(finding.expecting("at most one").related(first, "the first is at"));
                }
                embedded = embedded.or(Some(name.span));
                check.embedded_store(store.value?, store.span).map(SecretStore::Embedded)
            }
        })
    }

    fn vault_store(&mut self, raw: raw::VaultStore) -> Option<VaultStore> {
        let addresses = self.addresses(raw.address);
        let trust = self.server_trust(raw.trust);
        let at = At(raw.login.span);
        let login = raw.login.value.and_then(|login| self.login(login));
        let (login, certificate) = login?;
        Some(VaultStore {
            addresses: addresses?,
            namespace: flat(raw.namespace).map(|namespace| namespace.0),
            trust,
            login,
            certificate,
            at,
            timeout: time(raw.timeout, Duration::from_secs(10)),
        })
    }

    fn addresses(&mut self, field: Field<raw::VaultAddresses>) -> Option<VaultAddresses> {
        let span = field.span;
        match field.value? {
            raw::VaultAddresses::One(address) => Some(VaultAddresses::Nodes(vec![address.0])),
            raw::VaultAddresses::Variable(name) => Some(VaultAddresses::Variable { name, at: At(span) }),
            raw::VaultAddresses::Nodes(nodes) => {
                let mut addresses = Vec::new();
                for Spanned { value, span } in self.names(Field { value: Some(nodes), span }, "address") {
                    if addresses.contains(&value.0) {
                        self.error(Finding::error(span, "the same address a second time"));
                    }
                    addresses.push(value.0);
                }
                Some(VaultAddresses::Nodes(addresses))
            }
        }
    }

    pub(super) fn server_trust(&self, field: Option<Field<IssuerTrust>>) -> ServerTrust {
        match field {
            Some(Field { value: Some(IssuerTrust::File(path)), span }) => {
                ServerTrust::File(self.file(&path, span))
            }
            _ => ServerTrust::System,
        }
    }

    fn login(&mut self, login: raw::VaultLogin) -> Option<(Login, Option<CertificateFiles>)> {
        let login = match login {
            raw::VaultLogin::Token(token) => Login::Token { token: self.shown_at_login(token)? },
            raw::VaultLogin::AppRole(login) => self.app_role(login.value?)?,
            raw::VaultLogin::Kubernetes(login) => {
                let login = login.value?;
                let token = match login.token {
                    Some(token) => self.shown_at_login(token),
                    None => Some(Reference::File { path: SERVICE_ACCOUNT_TOKEN.into() }),
                };
                let mount = mount_or(login.mount, "kubernetes");
                Login::Kubernetes { mount, role: login.role.value?.0, token: token? }
            }
            raw::VaultLogin::Jwt(login) => {
                let login = login.value?;
                let token = self.shown_at_login(login.token);
                Login::Jwt { mount: mount_or(login.mount, "jwt"), role: login.role.value?.0, token: token? }
            }
            raw::VaultLogin::Certificate(login) => {
                let login = login.value?;
                let files = login.files.value?;
                let certificate = self.reference(files.certificate);
                let key = self.reference(files.key);
                let files = CertificateFiles { certificate: certificate?, key: key? };
                let name = flat(login.name).map(|name| name.0);
                return Some((
                    Login::Certificate { mount: mount_or(login.mount, "cert"), name },
                    Some(files),
                ));
            }
        };
        Some((login, None))
    }

    fn app_role(&mut self, login: raw::AppRoleLogin) -> Option<Login> {
        let role_id = self.shown_at_login(login.role_id);
        let given = login.secret_id.is_some();
        let secret_id = login.secret_id.and_then(|secret_id| self.shown_at_login(secret_id));
        let wrapped = login.wrapped.map(|wrapped| {
            if !given {
                let finding = Finding::error(wrapped.span, "`wrapped` says how `secret_id` comes");
                self.error(finding.expecting("`secret_id` beside it"));
            }
            wrapped.value.and_then(|wrapped| wrapped.role.value)
        });
        Some(Login::AppRole {
            mount: mount_or(login.mount, "approle"),
            role_id: role_id?,
            secret_id,
            wrapped: wrapped.flatten().map(|role| Wrapped { role: role.0 }),
        })
    }

    /// INVARIANT: nothing that a login shows comes from a Vault, which would have to be logged in to before.
    fn shown_at_login(&mut self, field: Field<SecretText>) -> Option<Reference> {
        let span = field.span;
        if let Some(SecretText(Reference::Vault { .. })) = field.value {
            let finding = Finding::error(span, "a login cannot show what Vault holds");
            self.error(finding.expecting("`file:<path>`, `env:<NAME>` or `embedded:<name>`"));
            return None;
        }
        self.secret(field).map(|secret| secret.reference)
    }

    fn embedded_store(&mut self, raw: raw::EmbeddedStore, span: Span) -> Option<EmbeddedStore> {
        let opener = match (raw.key, raw.passphrase) {
            (Some(key), Some(passphrase)) => {
                let finding = Finding::error(passphrase.span, "`key` and `passphrase` for one store");
                self.error(finding.expecting("one of them").related(key.span, "`key` stands at"));
                None
            }
            (None, None) => {
                self.error(
                    Finding::error(span, "nothing opens the store").expecting("`key` or `passphrase`"),
                );
                None
            }
            (Some(key), None) => {
                let span = key.span;
                let reference = match key.value? {
                    StoreKey::Reference(reference) => self.local(reference, span)?,
                    StoreKey::Credential(name) => {
                        let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
                        let directory = directory.unwrap_or_else(|| "$CREDENTIALS_DIRECTORY".into());
                        Reference::File { path: Path::new(&directory).join(name) }
                    }
                };
                Some(StoreOpener::Key(SecretReference { reference, span }))
            }
            (None, Some(passphrase)) => {
                let span = passphrase.span;
                let reference = self.local(passphrase.value?.0, span)?;
                Some(StoreOpener::Passphrase(SecretReference { reference, span }))
            }
        };
        let directory = raw.directory.value.map(|path| self.path(&path.0));
        Some(EmbeddedStore { directory: directory?, opener: opener? })
    }

    /// What opens a store does not lie in one.
    fn local(&mut self, reference: Reference, span: Span) -> Option<Reference> {
        match reference {
            Reference::File { path } => Some(Reference::File { path: self.path(&path) }),
            Reference::Env { .. } => Some(reference),
            Reference::Vault { .. } | Reference::Embedded { .. } => {
                let finding = Finding::error(span, "what opens a store cannot lie in a store");
                self.error(finding.expecting("`file:<path>` or `env:<NAME>`"));
                None
            }
        }
    }

    /// A reference whose store is configured.
    pub(super) fn secret(&mut self, field: Field<SecretText>) -> Option<SecretReference> {
        self.resolvable(field.value?.0, field.span)
    }

    pub(super) fn resolvable(&mut self, reference: Reference, span: Span) -> Option<SecretReference> {
        let reference = match reference {
            Reference::File { path } => Reference::File { path: self.path(&path) },
            Reference::Env { .. } => reference,
            Reference::Embedded { .. } => {
                self.embedded_name(span)?;
                reference
            }
            Reference::Vault { ref store, .. } => {
                match Name::parse(store) {
                    Ok(name) => self.vault_name(name, span)?,
                    Err(_) => {
                        let known = self.stores.section.names().map(Name::as_str);
                        let finding = dangling(store, span, "store of secrets", known);
                        self.error(finding);
                        return None;
                    }
                };
                reference
            }
        };
        Some(SecretReference { reference, span })
    }

    /// The name of a Vault store.
    pub(super) fn vault_name(&mut self, name: Name, span: Span) -> Option<Name> {
        let name = self.stores.section.resolve(name, span, self.findings)?;
        if self.stores.kinds.get(&name) == Some(&Kind::Embedded) {
            let finding = Finding::error(span, format!("`{name}` is the embedded store"));
            self.error(finding.expecting("a store that is a `vault`; the embedded one is just `embedded`"));
            return None;
        }
        Some(name)
    }

    /// The name of the embedded store.
    pub(super) fn embedded_name(&mut self, span: Span) -> Option<Name> {
        let name = self.stores.embedded().cloned();
        match &name {
            Some(name) => _ = self.stores.section.take(name),
            None => {
                let finding = Finding::error(span, "there is no embedded store");
                self.error(finding.expecting("a store with `embedded` among `secrets.stores`"));
            }
        }
        name
    }
}

pub(super) fn mount_or(field: Option<Field<MountPath>>, default: &str) -> String {
    flat(field).map_or_else(|| default.to_owned(), |mount| mount.0)
}

/// Where Kubernetes puts it.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
