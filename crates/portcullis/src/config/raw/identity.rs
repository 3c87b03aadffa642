//! Trust and token issuers as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::token::MintedTokens;
use crate::config::reader::{Entries, Field};
use crate::config::values::field::{FilePath, IssuerTrust, TokenAlgorithm};
use crate::config::values::network::FetchUrl;
use crate::config::values::pattern::Name;
use crate::config::values::quantity::{Timespan, Tolerance};
use crate::config::values::secret::MountPath;

/// Certificate authorities that peers are checked against, and which name of a certificate counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Trust {
    /// From PEM files, which are watched. One of `files`, `vault_pki` and `embedded`.
    pub(in crate::config) files: Option<Field<TrustFiles>>,
    /// The authorities of a PKI mount of Vault, read again while they serve.
    pub(in crate::config) vault_pki: Option<Field<VaultTrust>>,
    /// The authority of the embedded store: `{}`.
    pub(in crate::config) embedded: Option<Field<EmbeddedTrust>>,
    /// Which name form its certificates carry; there is no falling through to another.
    pub(in crate::config) names: Field<NameForm>,
    /// The SPIFFE trust domain. Required with `names: spiffe`, and only there.
    pub(in crate::config) trust_domain: Option<Field<String>>,
    /// Revocation lists.
    pub(in crate::config) revocation: Option<Field<Revocation>>,
}

/// The files of a trust entry, relative to the configuration's directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TrustFiles {
    /// CA certificates.
    pub(in crate::config) ca: Field<FilePath>,
    /// Certificate revocation lists. Default: none.
    pub(in crate::config) crl: Option<Field<Vec<Field<FilePath>>>>,
}

/// The authorities of a PKI mount of Vault.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct VaultTrust {
    /// A name of `secrets.stores`.
    pub(in crate::config) store: Field<Name>,
    /// The mount. Default: `pki`.
    pub(in crate::config) mount: Option<Field<MountPath>>,
    /// Whether the mount's revocation list counts: `true` fetches it, and no certificate passes without one. Default: false.
    pub(in crate::config) crl: Option<Field<bool>>,
}

/// The authority of the embedded store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct EmbeddedTrust {}

/// The name form that a certificate must carry.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum NameForm {
    /// A SPIFFE id (one URI subject alternative name).
    Spiffe,
    /// A DNS subject alternative name.
    Dns,
    /// The subject's distinguished name.
    Subject,
}

/// What counts when revocation lists are old.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Revocation {
    /// A list past its `nextUpdate`: `reject` (default) all certificates of that CA, or `accept` them and say so.
    pub(in crate::config) when_stale: Field<WhenStale>,
}

/// What an old revocation list means.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum WhenStale {
    /// Its CA's certificates are refused.
    Reject,
    /// It still counts, and a gauge says that it is old.
    Accept,
}

/// Who may issue tokens, which tokens the gateway makes itself, and who is denied whatever they prove. At least one of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Identity {
    /// Issuers of JWT bearer tokens.
    pub(in crate::config) jwt: Option<Field<Entries<Name, Jwt>>>,
    /// Short tokens that the gateway mints for upstreams; a route asks for one by `token`.
    pub(in crate::config) tokens: Option<Field<Entries<Name, MintedTokens>>>,
    /// The deny list.
    pub(in crate::config) denied: Option<Field<Denied>>,
}

/// The deny list: principals, workloads, tokens and certificates that no longer count, whatever they prove. What the file
/// says and what `portcullis deny` says counts together. At least one of the two.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Denied {
    /// A file of entries, which is watched: `denied:`, and below it a list. Each entry names one of `principal` (its id as logs
    /// show it), `spiffe` (a SPIFFE id), `token` (a `jti`; with `issuer` of that issuer only) and `certificate` (a serial number;
    /// with `trust`, the name of a trust entry, or `issuer`, the issuer's distinguished name), and may have `until` (a time as in
    /// `2026-12-31T23:59:59Z`) and `reason`. Default: none.
    pub(in crate::config) file: Option<Field<FilePath>>,
    /// The file in which the gateway keeps what `portcullis deny` says; it is made when there is something to keep. Without, a
    /// restart forgets it. Default: none.
    pub(in crate::config) state: Option<Field<FilePath>>,
}

/// An issuer of JWT bearer tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Jwt {
    /// The `iss` claim, byte for byte; without `#`.
    pub(in crate::config) issuer: Field<String>,
    /// Accepted values of the `aud` claim.
    pub(in crate::config) audience: Field<Vec<Field<String>>>,
    /// Where the keys are: `discover` (OpenID Connect discovery at the issuer), a URL, or a file.
    pub(in crate::config) jwks: Field<Jwks>,
    /// Accepted signature algorithms.
    pub(in crate::config) algorithms: Field<Vec<Field<TokenAlgorithm>>>,
    /// How far clocks may differ. Default: 60s.
    pub(in crate::config) skew: Option<Field<Tolerance>>,
    /// How often keys are fetched. Default: 10m.
    pub(in crate::config) refresh: Option<Field<Timespan>>,
    /// How long the last good keys serve when fetching fails; after that 503. Default: 24h.
    pub(in crate::config) max_stale: Option<Field<Timespan>>,
    /// Accepted values of the `typ` header. Default: JWT and at+jwt, or none at all.
    pub(in crate::config) types: Option<Field<Vec<Field<String>>>>,
    /// Claims that policies and limits may read, by the name they get there.
    pub(in crate::config) claims: Option<Field<Entries<Name, Claim>>>,
    /// The claim that lists roles. Default: none.
    pub(in crate::config) roles: Option<Field<String>>,
    /// The claim that lists scopes. Default: none.
    pub(in crate::config) scopes: Option<Field<String>>,
    /// Who vouches for the issuer's server: `system` (default), or the path of a PEM file.
    pub(in crate::config) trust: Option<Field<IssuerTrust>>,
}

/// Where an issuer's keys are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Jwks {
    /// At the `jwks_uri` of the issuer's discovery document.
    Discover,
    /// At this URL.
    Url(Field<FetchUrl>),
    /// In this file, which is watched.
    File(Field<FilePath>),
}

/// A mapped claim.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Claim {
    /// The claim's name in the token. Default: the mapped name.
    pub(in crate::config) from: Option<Field<String>>,
    /// Its type; a token with another type there is refused.
    #[serde(rename = "type")]
    pub(in crate::config) kind: Field<ClaimType>,
}

/// The type of a claim.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum ClaimType {
    /// Text.
    String,
    /// True or false.
    Bool,
    /// A whole number.
    Long,
    /// A list of texts.
    Strings,
}
