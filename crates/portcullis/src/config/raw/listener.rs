//! Listeners as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::reader::{Entries, Field};
use crate::config::values::network::{Bind, Network};
use crate::config::values::pattern::{Name, SniName};
use crate::config::values::quantity::{ByteRate, Count, Size, Timespan};

/// Where connections come in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Listener {
    /// Address and port.
    pub(in crate::config) bind: Field<Bind>,
    /// `https`: answer every request with a redirect (308) to the same URL over TLS. Then the listener has no routes.
    pub(in crate::config) redirect: Option<Field<Redirect>>,
    /// TLS. Default: plain HTTP.
    pub(in crate::config) tls: Option<Field<ListenerTls>>,
    /// What one peer, and all of them, may take.
    pub(in crate::config) limits: Option<Field<ListenerLimits>>,
    /// `required`: each connection begins with a header of the PROXY protocol (version 1 or 2) from one of
    /// `trusted_proxies`, and others are closed; the client's address is the one that it names. Default: `off`.
    pub(in crate::config) proxy_protocol: Option<Field<ProxyProtocol>>,
    /// Answer other proxies whether a request may pass, by the routes of another listener. Then the listener has no routes.
    pub(in crate::config) validate: Option<Field<Validate>>,
    /// Proxies in front whose forwarding fields count. Default: none.
    pub(in crate::config) trusted_proxies: Option<Field<Vec<Field<Network>>>>,
    /// Limits (key: address) that each new connection is charged to.
    pub(in crate::config) rate: Option<Field<Vec<Field<Name>>>>,
}

/// Where a plain listener sends its visitors.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Redirect {
    /// To the same URL over TLS.
    Https,
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum ProxyProtocol {
    /// They do not.
    Off,
    /// They do.
    Required,
}

/// What other proxies are answered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Validate {
    /// The listener by whose routes their requests are judged.
    pub(in crate::config) routes_of: Field<Name>,
    /// How they ask: `forward_auth` (default; nginx, Traefik, Caddy, HAProxy) or `ext_authz` (Envoy, gRPC).
    pub(in crate::config) protocol: Option<Field<ValidateProtocol>>,
}

/// How other proxies ask.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ValidateProtocol {
    /// By an HTTP request that describes another one in its fields.
    ForwardAuth,
    /// By Envoy's `envoy.service.auth.v3.Authorization/Check`.
    ExtAuthz,
}

/// TLS of a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ListenerTls {
    /// Names of `certificates`. The client's SNI chooses (exact name, then wildcard); the first is the default.
    pub(in crate::config) certificates: Field<Vec<Field<Name>>>,
    /// Certificates of clients. Default: `mode: off`.
    pub(in crate::config) client: Option<Field<ClientCertificates>>,
    /// The lowest TLS version: "1.2" (default) or "1.3".
    pub(in crate::config) min_version: Option<Field<TlsVersion>>,
    /// A client without SNI gets the default certificate, or is refused. Default: `default`.
    pub(in crate::config) without_sni: Option<Field<WithoutSni>>,
    /// A TLS policy of its own for some SNI names, exact or `*.wildcard`. A request whose host belongs to another policy
    /// than its SNI gets 421.
    pub(in crate::config) hosts: Option<Field<Entries<SniName, HostTls>>>,
}

/// The TLS policy of an SNI name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HostTls {
    /// Names of `certificates`. Default: those of the listener.
    pub(in crate::config) certificates: Option<Field<Vec<Field<Name>>>>,
    /// Certificates of clients. Default: `mode: off`.
    pub(in crate::config) client: Option<Field<ClientCertificates>>,
}

/// Whether clients show a certificate, and who vouches for it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ClientCertificates {
    /// `off`, `optional` (asked for; routes decide) or `required` (no handshake without).
    pub(in crate::config) mode: Field<ClientMode>,
    /// Names of `trust` entries.
    pub(in crate::config) trust: Option<Field<Vec<Field<Name>>>>,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum ClientMode {
    /// None is asked for.
    Off,
    /// One is asked for, and checked if it comes.
    Optional,
    /// No handshake without one.
    Required,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// What a client without SNI gets.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum WithoutSni {
    /// The default certificate and TLS policy.
    Default,
    /// A refused handshake.
    Refuse,
}

/// What one peer, and all of them, may take from a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ListenerLimits {
    /// Open connections. Default: 20000.
    pub(in crate::config) connections: Option<Field<Count>>,
    /// Open connections from one address (IPv6: one /64). Default: 1000.
    pub(in crate::config) connections_per_address: Option<Field<Count>>,
    /// Time for the TLS handshake. Default: 5s.
    pub(in crate::config) handshake: Option<Field<Timespan>>,
    /// Bytes of header fields in a request. Default: 32KiB.
    pub(in crate::config) headers: Option<Field<Size>>,
    /// Number of header fields in a request. Default: 100.
    pub(in crate::config) header_count: Option<Field<Count>>,
    /// Time for the header fields of a request. Default: 10s.
    pub(in crate::config) header_timeout: Option<Field<Timespan>>,
    /// Bytes of a request's target. Default: 8KiB.
    pub(in crate::config) uri: Option<Field<Size>>,
    /// Time without a request after which a connection is closed. Default: 60s.
    pub(in crate::config) idle: Option<Field<Timespan>>,
    /// Concurrent streams of an HTTP/2 connection. Default: 128.
    pub(in crate::config) streams: Option<Field<Count>>,
    /// Bytes of a request's body. Default: 64MiB.
    pub(in crate::config) body: Option<Field<Size>>,
    /// The slowest that a body may come in. Default: 1KiB/s.
    pub(in crate::config) body_rate: Option<Field<ByteRate>>,
}
