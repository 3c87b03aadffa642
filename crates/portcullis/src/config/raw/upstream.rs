//! Upstreams as they are written.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::endpoints::{Balance, Breaker, Dns, Health};
use crate::config::reader::{Field, Secret};
use crate::config::values::field::{CredentialField, ExpectedPeer};
use crate::config::values::network::Endpoint;
use crate::config::values::pattern::{Name, SniName};
use crate::config::values::quantity::{Count, Percent, Timespan};
use crate::config::values::secret::SecretText;

/// A server, or several alike.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Upstream {
    /// Its servers, which stand in for each other; all plain or all over TLS.
    pub(in crate::config) endpoints: Field<Vec<Field<Endpoint>>>,
    /// How names among them become addresses.
    pub(in crate::config) dns: Option<Field<Dns>>,
    /// What connections to them speak: `http1` (default), `http2` (over plain `http` with prior knowledge) or `negotiate` (`https`
    /// only: HTTP/2 where the server agrees, else HTTP/1.1).
    pub(in crate::config) protocol: Option<Field<Protocol>>,
    /// `v1` or `v2`: connections begin with a header of the PROXY protocol that names the client, and are used for that client alone; health
    /// checks say that they are the gateway's own. For `http1` only. Default: `off`.
    pub(in crate::config) proxy_protocol: Option<Field<ProxyHeader>>,
    /// How requests are spread over them. Default: `round_robin`.
    pub(in crate::config) balance: Option<Field<Balance>>,
    /// When one of several that fails is left out: a mapping, or `off`. Default: the mapping's defaults.
    pub(in crate::config) ejection: Option<Field<Ejection>>,
    /// How they are asked whether they are usable. Default: traffic alone tells.
    pub(in crate::config) health: Option<Field<Health>>,
    /// How long one that came, or came back, takes less than its share, from a tenth on. Default: not at all.
    pub(in crate::config) slow_start: Option<Field<Timespan>>,
    /// What protects it from too much, and its callers from waiting for nothing. Default: nothing.
    pub(in crate::config) breaker: Option<Field<Breaker>>,
    /// What is sent again to another of them, if no connection came about, or if the method is safe, there is no body and
    /// the connection died without an answer.
    pub(in crate::config) retry: Option<Field<Retry>>,
    /// TLS to it. Default for `https`: system trust, the endpoint's name.
    pub(in crate::config) tls: Option<Field<UpstreamTls>>,
    /// How long things may take.
    pub(in crate::config) timeouts: Option<Field<Timeouts>>,
    /// Connections that are kept.
    pub(in crate::config) pool: Option<Field<Pool>>,
    /// What the gateway shows it in a field of every request; a new value takes over without a reload. Default: nothing.
    pub(in crate::config) credentials: Option<Field<Secret<UpstreamCredentials>>>,
}

/// What connections to an upstream speak.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, which gRPC needs. A server that does not agree on it is refused.
    Http2,
    /// What the server prefers of both.
    Negotiate,
}

/// Whether connections to an upstream begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum ProxyHeader {
    /// They do not.
    Off,
    /// With a line of text (version 1).
    V1,
    /// With a binary one (version 2).
    V2,
}

/// When a failing endpoint is left out.
#[derive(Debug)]
pub(in crate::config) enum Ejection {
    /// Never.
    Off,
    /// By these rules.
    Rules(EjectionRules),
}

/// When a failing endpoint is left out: no connection, no answer in time, or one that is no HTTP. A status is an answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct EjectionRules {
    /// After so many failures in a row. Default: 5.
    pub(in crate::config) failures: Option<Field<Count>>,
    /// For so long; the first failure after it leaves it out again. Default: 10s.
    pub(in crate::config) r#for: Option<Field<Timespan>>,
    /// If more than this share is left out, all are asked. Default: 50%.
    pub(in crate::config) at_most: Option<Field<Percent>>,
}

/// How much is sent again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Retry {
    /// Of all requests; five a second are always allowed. Default: 20%.
    pub(in crate::config) budget: Option<Field<Percent>>,
}

/// What the gateway shows an upstream; what callers send in the same field never reaches it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum UpstreamCredentials {
    /// `Authorization: Bearer …`: the token, by reference.
    Bearer(Field<SecretText>),
    /// `Authorization: Basic …` (RFC 7617).
    Basic(Field<BasicCredentials>),
    /// A field of its own.
    Field(Field<FieldCredentials>),
}

/// A user and a password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct BasicCredentials {
    /// The user, by reference; at the same path of a store as the password, both come from one reading.
    pub(in crate::config) username: Field<SecretText>,
    /// The password, by reference.
    pub(in crate::config) password: Field<SecretText>,
}

/// A field with a secret value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FieldCredentials {
    /// Its name, such as `x-api-key`.
    pub(in crate::config) name: Field<CredentialField>,
    /// Its value, by reference.
    pub(in crate::config) value: Field<SecretText>,
}

/// TLS to an upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct UpstreamTls {
    /// The certificate that the gateway shows: a name of `certificates`. Default: none.
    pub(in crate::config) present: Option<Field<Name>>,
    /// Who vouches for the upstream: `system` (default) or a list of `trust` entries.
    pub(in crate::config) trust: Option<Field<UpstreamTrust>>,
    /// Whom the upstream must prove to be: a SPIFFE id or a DNS name. Default: the name of `sni`.
    pub(in crate::config) expect: Option<Field<ExpectedPeer>>,
    /// The SNI to send. Default: the endpoint's host.
    pub(in crate::config) sni: Option<Field<SniName>>,
}

/// How long an upstream may take.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Timeouts {
    /// To connect, TLS included. Default: 5s.
    pub(in crate::config) connect: Option<Field<Timespan>>,
    /// To connect to one endpoint and until its response begins; then a safe request without a body may go to another one, as far as
    /// `retry` allows. Default: none but `connect` and `response`.
    pub(in crate::config) r#try: Option<Field<Timespan>>,
    /// Until its response begins. Default: 30s.
    pub(in crate::config) response: Option<Field<Timespan>>,
    /// Between two pieces of its response; streams that may be quiet for longer need more. Default: 60s.
    pub(in crate::config) idle: Option<Field<Timespan>>,
    /// For the whole of a request and response. Default: none but the listener's.
    pub(in crate::config) request: Option<Field<Timespan>>,
}

/// Connections to an upstream that are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Pool {
    /// How long one is kept without use. Default: 60s.
    pub(in crate::config) idle: Option<Field<Timespan>>,
    /// How many are kept on each core. Default: 256.
    pub(in crate::config) per_core: Option<Field<Count>>,
}

/// Who vouches for an upstream.
#[derive(Clone, Debug)]
pub(in crate::config) enum UpstreamTrust {
    /// The machine's trust store.
    System,
    /// These entries of `trust`.
    Entries(Vec<Field<Name>>),
}

impl<'de> Deserialize<'de> for UpstreamTrust {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TrustVisitor;

        impl<'de> Visitor<'de> for TrustVisitor {
            type Value = UpstreamTrust;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`system` or a list of names of `trust` entries")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<UpstreamTrust, E> {
                match text {
                    "system" => Ok(UpstreamTrust::System),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<UpstreamTrust, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = items.next_element()? {
                    names.push(name);
                }
                Ok(UpstreamTrust::Entries(names))
            }
        }

        deserializer.deserialize_any(TrustVisitor)
    }
}

impl JsonSchema for UpstreamTrust {
    fn schema_name() -> Cow<'static, str> {
        "UpstreamTrust".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<Name>();
        json_schema!({ "oneOf": [{ "const": "system" }, { "type": "array", "items": name, "minItems": 1 }] })
    }
}

impl<'de> Deserialize<'de> for Ejection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EjectionVisitor;

        impl<'de> Visitor<'de> for EjectionVisitor {
            type Value = Ejection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off` or a mapping with `failures`, `for` and `at_most`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Ejection, E> {
                match text {
                    "off" => Ok(Ejection::Off),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Ejection, A::Error> {
                EjectionRules::deserialize(MapAccessDeserializer::new(map)).map(Ejection::Rules)
            }
        }

        deserializer.deserialize_any(EjectionVisitor)
    }
}

impl JsonSchema for Ejection {
    fn schema_name() -> Cow<'static, str> {
        "Ejection".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rules = generator.subschema_for::<EjectionRules>();
        json_schema!({
            "description": "When a failing endpoint is left out: never, or by these rules.",
            "oneOf": [{ "const": "off" }, rules],
        })
    }
}
