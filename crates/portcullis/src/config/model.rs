//! The checked configuration: every name resolves, every value has its type, every default is filled in.
//!
//! Paths are joined to the configuration's directory. The span of what names a file stays with it ([`FileReference`]),
//! so that a file that does not load is reported where it is named.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use identity::jwt::{Algorithm, ClaimMapping};
use ipnet::IpNet;
use limit::Quota;
pub use proxy::snapshot::ProxyProtocol;

pub use super::doors::{Admin, LogTarget};
use super::problem::Span;
pub use super::raw::identity::WhenStale;
pub use super::raw::listener::{ClientMode, TlsVersion, WithoutSni};
pub use super::raw::operation::{LogFormat, LogLevel};
pub use super::raw::upstream::Protocol;
pub use super::routes::*;
pub use super::secrets::*;
pub use super::upstreams::*;
pub use super::values::field::ExpectedPeer;
pub use super::values::network::{Endpoint, FetchUrl, Scheme};
pub use super::values::pattern::{Name, SniName};

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many cores carry traffic; `None` is all.
    pub cores: Option<NonZeroUsize>,
    /// Where connections come in.
    pub listeners: BTreeMap<Name, Listener>,
    /// Certificates with their keys.
    pub certificates: BTreeMap<Name, CertificateSource>,
    /// Whom peers are checked against.
    pub trust: BTreeMap<Name, Trust>,
    /// Token issuers.
    pub jwt: BTreeMap<Name, Jwt>,
    /// Where the deny list is.
    pub denied: DeniedPlaces,
    /// Tokens that the gateway mints for upstreams.
    pub tokens: BTreeMap<Name, MintedTokens>,
    /// Where secrets are kept; at most one is embedded.
    pub stores: BTreeMap<Name, SecretStore>,
    /// Where requests go.
    pub upstreams: BTreeMap<Name, Upstream>,
    /// Routes in the order of the file.
    pub routes: Vec<Route>,
    /// How often.
    pub limits: BTreeMap<Name, Limit>,
    /// The core rule set, if routes are looked through by it.
    pub waf: Option<Waf>,
    /// The directory of the policies; `None` denies everything.
    pub policies: Option<FileReference>,
    /// Where access records go.
    pub access_log: LogTarget,
    /// How much the gateway says about itself.
    pub log_level: LogLevel,
    /// In which form.
    pub log_format: LogFormat,
    /// Metrics, probes, control socket.
    pub admin: Admin,
    /// How long requests in flight may go on after SIGTERM.
    pub shutdown_deadline: Duration,
}

/// The core rule set, and who looks through requests by it.
#[derive(Clone, Debug)]
pub struct Waf {
    /// Where it stands.
    pub span: Span,
    /// Its directory.
    pub rules: FileReference,
    /// How many threads; `None` is half as many as carry traffic.
    pub threads: Option<NonZeroUsize>,
    /// Requests that may wait for them.
    pub queue: usize,
    /// How long a request may take there.
    pub time: Duration,
}

/// A path, joined to the configuration's directory, and where it is named.
#[derive(Clone, Debug)]
pub struct FileReference {
    /// The path.
    pub path: PathBuf,
    /// Where the configuration names it.
    pub span: Span,
}

impl PartialEq for FileReference {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for FileReference {}

/// Where connections come in.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Address and port.
    pub bind: SocketAddr,
    /// What happens to a connection.
    pub kind: ListenerKind,
    /// What peers may take.
    pub limits: ListenerLimits,
    /// Whether connections begin with a header of the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// What other proxies are answered, instead of routes.
    pub validate: Option<Validate>,
    /// Proxies whose forwarding fields count.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits that each new connection is charged to; their key is the address.
    pub rate: Vec<Name>,
}

/// How other proxies ask whether a request may pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Validate {
    /// By whose routes it is judged.
    pub routes_of: Name,
    /// How they ask.
    pub protocol: proxy::validate::Protocol,
}

/// What a listener speaks.
#[derive(Clone, Debug)]
pub enum ListenerKind {
    /// Plain HTTP with routes.
    Plain,
    /// Plain HTTP; every request is redirected to TLS.
    Redirect,
    /// HTTP over TLS with routes.
    Tls(ListenerTls),
}

/// TLS of a listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerTls {
    /// The policy of all SNI names but those in `hosts`.
    pub policy: TlsPolicy,
    /// The lowest version.
    pub min_version: TlsVersion,
    /// What a client without SNI gets.
    pub without_sni: WithoutSni,
    /// Policies of their own.
    pub hosts: BTreeMap<SniName, TlsPolicy>,
}

/// Certificates, and what is asked of clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsPolicy {
    /// Names of certificates, never empty; the first is the default.
    pub certificates: Vec<Name>,
    /// Whether clients show a certificate.
    pub client: ClientMode,
    /// Trust entries for it; not empty unless `client` is off.
    pub client_trust: Vec<Name>,
}

/// What peers may take from a listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerLimits {
    /// Open connections.
    pub connections: NonZeroU32,
    /// Open connections from one address.
    pub connections_per_address: NonZeroU32,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Bytes of header fields.
    pub header_bytes: NonZeroU64,
    /// Number of header fields.
    pub header_count: NonZeroU32,
    /// Time for the header fields.
    pub header_timeout: Duration,
    /// Bytes of the request target.
    pub uri_bytes: NonZeroU64,
    /// Time without a request.
    pub idle: Duration,
    /// Concurrent streams of an HTTP/2 connection.
    pub streams: NonZeroU32,
    /// Bytes of a body.
    pub body_bytes: NonZeroU64,
    /// Bytes in a second below which a body is too slow.
    pub body_rate: NonZeroU64,
}

/// The files of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: FileReference,
    /// The private key.
    pub key: FileReference,
}

/// Whom peers are checked against.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trust {
    /// Where its certificates and lists are.
    pub source: TrustSource,
    /// Which name of a certificate counts.
    pub names: NameForm,
    /// What counts when a list is old.
    pub when_stale: WhenStale,
}

/// Which name of a certificate counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NameForm {
    /// A SPIFFE id of this trust domain.
    Spiffe {
        /// The trust domain.
        trust_domain: Arc<str>,
    },
    /// A DNS name.
    Dns,
    /// The subject.
    Subject,
}

/// A token issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// The entry's name.
    pub name: Name,
    /// The `iss` claim.
    pub issuer: Arc<str>,
    /// Accepted `aud` values.
    pub audience: Vec<String>,
    /// Where its keys are.
    pub jwks: Jwks,
    /// Accepted algorithms.
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may differ.
    pub skew: Duration,
    /// How often keys are fetched.
    pub refresh: Duration,
    /// How long the last good keys serve.
    pub max_stale: Duration,
    /// Accepted `typ` values; none is accepted too unless the file lists some.
    pub types: Vec<String>,
    /// Mapped claims.
    pub claims: Vec<ClaimMapping>,
    /// The claim that lists roles.
    pub roles: Option<String>,
    /// The claim that lists scopes.
    pub scopes: Option<String>,
    /// Who vouches for the issuer's server.
    pub trust: ServerTrust,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Jwks {
    /// At the `jwks_uri` of the discovery document of this issuer.
    Discover(FetchUrl),
    /// At this URL.
    Url(FetchUrl),
    /// In this file.
    File(FileReference),
}

/// Who vouches for a server that keys are fetched from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerTrust {
    /// The machine's trust store.
    System,
    /// The CA certificates in this file.
    File(FileReference),
}

/// Where the deny list is; `portcullis deny` adds to it also without.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeniedPlaces {
    /// Entries that somebody else keeps.
    pub file: Option<FileReference>,
    /// Where the gateway keeps what `portcullis deny` said.
    pub state: Option<PathBuf>,
}

/// How often.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limit {
    /// What is counted.
    pub key: LimitKey,
    /// How many in which time, and at once.
    pub quota: Quota,
    /// Whether it is charged before authentication.
    pub at_edge: bool,
    /// How many keys are remembered.
    pub max_keys: NonZeroU32,
}

/// What is counted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LimitKey {
    /// The client's address.
    Address,
    /// The principal.
    Principal,
    /// The route.
    Route,
    /// A mapped claim's value.
    Claim(Name),
}
