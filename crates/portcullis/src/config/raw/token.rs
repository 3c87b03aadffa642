//! Tokens that the gateway mints, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::reader::{Field, Secret};
use crate::config::values::pattern::Name;
use crate::config::values::quantity::Timespan;
use crate::config::values::secret::{MountPath, SecretText, VaultName};
use crate::config::values::token::{ExactPath, Scope};

/// Short tokens that the gateway mints for upstreams: the audience is the upstream's name, the subject is the caller.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct MintedTokens {
    /// The `iss` claim; without `#`.
    pub(in crate::config) issuer: Field<String>,
    /// What signs. Default: `local`.
    pub(in crate::config) sign_with: Option<Field<Secret<TokenSigner>>>,
    /// How long a token lives at most, from 5s to 1h; never longer than the caller's proof. Default: 60s.
    pub(in crate::config) ttl: Option<Field<Timespan>>,
    /// Scopes that a token may carry; policies say which of them a caller gets. Default: none.
    pub(in crate::config) scopes: Option<Field<Vec<Field<Scope>>>>,
    /// Listeners that serve the public keys, beside `admin.bind`, which has them at `/jwks/<name>`. Default: none.
    pub(in crate::config) jwks: Option<Field<ServedKeys>>,
}

/// What signs minted tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum TokenSigner {
    /// A P-256 key that the gateway makes at its start and never shows.
    Local,
    /// A private key in PEM (PKCS #8, P-256 or Ed25519), by reference; for gateways that share it.
    Key(Field<SecretText>),
    /// A key that stays in Vault. Every new token asks Vault; while it is away, callers without one get 503.
    Transit(Field<TransitKey>),
}

/// A key of Vault's transit engine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TransitKey {
    /// A name of `secrets.stores`.
    pub(in crate::config) store: Field<Name>,
    /// The mount. Default: `transit`.
    pub(in crate::config) mount: Option<Field<MountPath>>,
    /// The key, of type `ecdsa-p256`, `ed25519` or `rsa-2048` and up.
    pub(in crate::config) key: Field<VaultName>,
}

/// Where the public keys are served.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ServedKeys {
    /// Names of listeners.
    pub(in crate::config) on: Field<Vec<Field<Name>>>,
    /// The path. Default: `/.well-known/jwks.json`.
    pub(in crate::config) path: Option<Field<ExactPath>>,
}
