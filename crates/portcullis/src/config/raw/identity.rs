//! Certificates, trust and token issuers as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::reader::{Entries, Field};
use crate::config::values::field::{FilePath, IssuerTrust, TokenAlgorithm};
use crate::config::values::network::FetchUrl;
use crate::config::values::pattern::Name;
use crate::config::values::quantity::{Timespan, Tolerance};

/// A certificate with its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(in crate::config) enum Certificate {
    /// From PEM files, which are watched and reloaded as one pair.
    Files(Field<CertificateFiles>),
}

/// The files of a certificate, relative to the configuration's directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CertificateFiles {
    /// The certificate and its intermediates, leaf first.
    pub(in crate::config) certificate: Field<FilePath>,
    /// Its private key (PKCS #8, PKCS #1 or SEC 1).
    pub(in crate::config) key: Field<FilePath>,
}

/// Certificate authorities that peers are checked against, and which name of a certificate counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Trust {
    /// PEM files, which are watched.
    pub(in crate::config) files: Field<TrustFiles>,
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

/// Who may issue tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Identity {
    /// Issuers of JWT bearer tokens.
    pub(in crate::config) jwt: Field<Entries<Name, Jwt>>,
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
