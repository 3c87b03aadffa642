//! How a cluster is reached and what it is shown; everything explicit, nothing from `VAULT_*` variables.

use std::sync::Arc;
use std::time::Duration;

use tls::{Credential, Slot, Trust};
use url::Url;

use crate::Reference;
use crate::embedded::Embedded;

/// How a cluster is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The store's name in the configuration.
    pub name: String,
    /// The nodes of one HA cluster, at least one, all `https`, or `http` to a loopback address.
    pub addresses: Vec<Url>,
    /// Sent as `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// Who vouches for the servers; none is the machine's trust store.
    pub trust: Option<Slot<Trust>>,
    /// What the login shows.
    pub login: Login,
    /// The client certificate of every connection ([`Login::Certificate`] needs one).
    pub certificate: Option<Slot<Credential>>,
    /// For each request, connecting included.
    pub timeout: Duration,
    /// How long a former token lives on after a new login took over, so that leases move.
    pub overlap: Duration,
    /// Resolves `embedded:` references of the login.
    pub embedded: Option<Arc<Embedded>>,
}

/// What a login shows. References (`file:`, `env:`, `embedded:`; never `vault:`) are read anew at every login.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Login {
    /// A token that somebody else made.
    Token {
        /// The token.
        token: Reference,
    },
    /// AppRole.
    AppRole {
        /// Mount of the auth method, `approle` by default.
        mount: String,
        /// The role id; no secret by itself.
        role_id: Reference,
        /// The secret id; none for roles with `bind_secret_id=false`.
        secret_id: Option<Reference>,
        /// Whether `secret_id` is a response-wrapping token that must be unwrapped first. Its creation path must be
        /// `auth/<mount>/role/<role>/secret-id`; a token that somebody else has used is a security event.
        wrapped: Option<Wrapped>,
    },
    /// A Kubernetes service account.
    Kubernetes {
        /// Mount of the auth method, `kubernetes` by default.
        mount: String,
        /// Vault's role.
        role: String,
        /// The projected service-account token.
        token: Reference,
    },
    /// A JWT of an issuer that Vault trusts (also the `oidc` method's jwt role).
    Jwt {
        /// Mount of the auth method, `jwt` by default.
        mount: String,
        /// Vault's role.
        role: String,
        /// The token.
        token: Reference,
    },
    /// The TLS client certificate of [`Settings::certificate`].
    Certificate {
        /// Mount of the auth method, `cert` by default.
        mount: String,
        /// The certificate role; none lets Vault choose.
        name: Option<String>,
    },
}

/// What a wrapped secret id must have been made for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wrapped {
    /// The AppRole's name, for the creation path.
    pub role: String,
}
