//! The file as it is written: one type for each mapping, for reading and for the JSON Schema. Comments here are the
//! reference that `portcullis schema` prints. Every field is `Field<T>` (required) or `Option<Field<T>>` (optional).

pub(super) mod certificate;
pub(super) mod endpoints;
pub(super) mod identity;
pub(super) mod listener;
pub(super) mod operation;
pub(super) mod route;
pub(super) mod secrets;
pub(super) mod token;
pub(super) mod upstream;
pub(super) mod waf;

use schemars::JsonSchema;
use serde::Deserialize;

use self::certificate::Certificate;
use self::identity::{Identity, Trust};
use self::listener::Listener;
use self::operation::{Admin, Limit, Policies, Shutdown, Telemetry};
use self::route::Route;
use self::secrets::Secrets;
use self::upstream::Upstream;
use self::waf::Waf;
use super::reader::{Entries, Field, Secret};
use super::values::pattern::Name;
use super::values::quantity::Count;

/// The configuration of the gateway: one file, every list keyed by name, references instead of copies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Portcullis")]
pub(in crate::config) struct File {
    /// The version of this format: 1.
    #[schemars(with = "u16", extend("const" = 1))]
    pub(in crate::config) version: Field<u16>,
    /// How many cores carry traffic. Default: all.
    pub(in crate::config) cores: Option<Field<Count>>,
    /// Where secrets are kept, for what names them by reference.
    pub(in crate::config) secrets: Option<Field<Secret<Secrets>>>,
    /// Where connections come in.
    pub(in crate::config) listeners: Field<Entries<Name, Listener>>,
    /// Certificates with their keys, from files or from who issues them.
    pub(in crate::config) certificates: Option<Field<Entries<Name, Certificate>>>,
    /// Certificate authorities that peers are checked against.
    pub(in crate::config) trust: Option<Field<Entries<Name, Trust>>>,
    /// Who may issue tokens, and which tokens the gateway makes itself.
    pub(in crate::config) identity: Option<Field<Identity>>,
    /// Where requests go.
    pub(in crate::config) upstreams: Option<Field<Entries<Name, Upstream>>>,
    /// Which request goes where, and what it needs for that.
    pub(in crate::config) routes: Option<Field<Vec<Field<Route>>>>,
    /// How often.
    pub(in crate::config) limits: Option<Field<Entries<Name, Limit>>>,
    /// The OWASP core rule set, which routes with `waf` are looked through by. Default: none.
    pub(in crate::config) waf: Option<Field<Waf>>,
    /// Who may do what: Cedar policies. Without them every request is denied.
    pub(in crate::config) policies: Option<Field<Policies>>,
    /// Logs.
    pub(in crate::config) telemetry: Option<Field<Telemetry>>,
    /// Metrics, probes and the control socket.
    pub(in crate::config) admin: Option<Field<Admin>>,
    /// How the gateway ends.
    pub(in crate::config) shutdown: Option<Field<Shutdown>>,
}
