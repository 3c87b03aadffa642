//! Stores of secrets as they are written.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrets::Reference;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::config::reader::{Entries, Field};
use crate::config::values::field::{FilePath, IssuerTrust};
use crate::config::values::network::VaultAddress;
use crate::config::values::pattern::Name;
use crate::config::values::quantity::Timespan;
use crate::config::values::secret::{MountPath, SecretText, StoreKey, VaultName};
use crate::config::values::{Misread, Word};

/// Where secrets are kept. The configuration itself holds none: wherever one is needed stands a reference,
/// `vault:<store>/<path>#<field>` (the path as `vault kv get` takes it), `embedded:<name>`, `file:<path>` or `env:<NAME>`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Secrets {
    /// Stores by name; at most one is `embedded`.
    pub(in crate::config) stores: Field<Entries<Name, SecretStore>>,
}

/// A store of secrets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum SecretStore {
    /// A Vault or OpenBao cluster.
    Vault(Box<Field<VaultStore>>),
    /// A directory on this machine, encrypted; filled by `portcullis secret set`.
    Embedded(Box<Field<EmbeddedStore>>),
}

/// A Vault or OpenBao cluster. No `VAULT_*` variable counts unless it is named here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct VaultStore {
    /// Its address; a list for the nodes of one HA cluster; or `env:<NAME>` for a variable that holds the address. Plain
    /// `http` only to this machine.
    pub(in crate::config) address: Field<VaultAddresses>,
    /// The namespace (Vault Enterprise, OpenBao). Default: none.
    pub(in crate::config) namespace: Option<Field<MountPath>>,
    /// Who vouches for its servers: `system` (default), or the path of a PEM file.
    pub(in crate::config) trust: Option<Field<IssuerTrust>>,
    /// How the gateway logs in.
    pub(in crate::config) login: Field<VaultLogin>,
    /// How long one request may take, connecting included. Default: 10s.
    pub(in crate::config) timeout: Option<Field<Timespan>>,
}

/// How the gateway logs in to a cluster. What it shows is read anew at every login; it stands in a file, a variable or the
/// embedded store, never in Vault.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum VaultLogin {
    /// With a token that somebody else makes and renews, such as Vault Agent's file.
    Token(Field<SecretText>),
    /// As an AppRole.
    AppRole(Field<AppRoleLogin>),
    /// As a Kubernetes service account.
    Kubernetes(Field<KubernetesLogin>),
    /// With a JWT of an issuer that Vault trusts.
    Jwt(Field<JwtLogin>),
    /// With a TLS client certificate.
    Certificate(Field<CertificateLogin>),
}

/// A login as an AppRole.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AppRoleLogin {
    /// The role id.
    pub(in crate::config) role_id: Field<SecretText>,
    /// The secret id. Default: none, for roles with `bind_secret_id=false`.
    pub(in crate::config) secret_id: Option<Field<SecretText>>,
    /// The secret id is a response-wrapping token: it is unwrapped once, and only if it was made for this role.
    pub(in crate::config) wrapped: Option<Field<WrappedSecretId>>,
    /// The mount of the auth method. Default: `approle`.
    pub(in crate::config) mount: Option<Field<MountPath>>,
}

/// What a wrapped secret id must have been made for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WrappedSecretId {
    /// The name of the AppRole.
    pub(in crate::config) role: Field<VaultName>,
}

/// A login as a Kubernetes service account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct KubernetesLogin {
    /// The role in Vault.
    pub(in crate::config) role: Field<VaultName>,
    /// The service-account token. Default: `file:/var/run/secrets/kubernetes.io/serviceaccount/token`.
    pub(in crate::config) token: Option<Field<SecretText>>,
    /// The mount of the auth method. Default: `kubernetes`.
    pub(in crate::config) mount: Option<Field<MountPath>>,
}

/// A login with a JWT.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct JwtLogin {
    /// The role in Vault.
    pub(in crate::config) role: Field<VaultName>,
    /// The JWT.
    pub(in crate::config) token: Field<SecretText>,
    /// The mount of the auth method. Default: `jwt`.
    pub(in crate::config) mount: Option<Field<MountPath>>,
}

/// A login with a TLS client certificate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CertificateLogin {
    /// The certificate and its key, PEM files that are watched.
    pub(in crate::config) files: Field<LoginFiles>,
    /// The certificate role in Vault. Default: Vault chooses.
    pub(in crate::config) name: Option<Field<VaultName>>,
    /// The mount of the auth method. Default: `cert`.
    pub(in crate::config) mount: Option<Field<MountPath>>,
}

/// The files of a client certificate, relative to the configuration's directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LoginFiles {
    /// The certificate and its intermediates, leaf first.
    pub(in crate::config) certificate: Field<FilePath>,
    /// Its private key.
    pub(in crate::config) key: Field<FilePath>,
}

/// A store on this machine, encrypted at rest. One of `key` and `passphrase` opens it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct EmbeddedStore {
    /// Its directory.
    pub(in crate::config) directory: Field<FilePath>,
    /// Its key, 32 bytes in base64: `file:<path>`, `env:<NAME>`, or `credential:<NAME>` for a systemd credential (the file
    /// of that name in `$CREDENTIALS_DIRECTORY`).
    pub(in crate::config) key: Option<Field<StoreKey>>,
    /// A passphrase in its place: `file:<path>` or `env:<NAME>`.
    pub(in crate::config) passphrase: Option<Field<SecretText>>,
}

/// Where a cluster is.
#[derive(Clone, Debug)]
pub(in crate::config) enum VaultAddresses {
    /// One address.
    One(VaultAddress),
    /// Its nodes.
    Nodes(Vec<Field<VaultAddress>>),
    /// The variable that holds the address.
    Variable(String),
}

impl<'de> Deserialize<'de> for VaultAddresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressVisitor;

        impl<'de> Visitor<'de> for AddressVisitor {
            type Value = VaultAddresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an address such as `https://vault.internal:8200`, a list of them, or `env:<NAME>`",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<VaultAddresses, E> {
                let parsed = match SecretText::parse(text) {
                    Ok(SecretText(Reference::Env { name })) => return Ok(VaultAddresses::Variable(name)),
                    _ => VaultAddress::parse(text),
                };
                parsed.map(VaultAddresses::One).map_err(|misread| match misread {
                    Misread::Other => E::invalid_value(de::Unexpected::Str(text), &self),
                    Misread::Because(reason) => E::custom(reason),
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<VaultAddresses, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = items.next_element()? {
                    nodes.push(node);
                }
                Ok(VaultAddresses::Nodes(nodes))
            }
        }

        deserializer.deserialize_any(AddressVisitor)
    }
}

impl JsonSchema for VaultAddresses {
    fn schema_name() -> Cow<'static, str> {
        "VaultAddresses".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let address = generator.subschema_for::<VaultAddress>();
        json_schema!({
            "description": "Where a cluster is.",
            "oneOf": [
                { "type": "string", "pattern": "^https?://[^/]+/?$", "description": "Its one address." },
                { "type": "array", "items": address, "minItems": 1, "description": "The nodes of one HA cluster." },
                { "type": "string", "pattern": "^env:[A-Za-z0-9_]+$", "description": "A variable that holds the address." },
            ],
        })
    }
}
