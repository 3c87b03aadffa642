//! Limits, policies, logs, admin and shutdown as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::reader::Field;
use crate::config::values::field::FilePath;
use crate::config::values::network::Bind;
use crate::config::values::pattern::Name;
use crate::config::values::quantity::{Count, Rate, Timespan};

/// How often.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Limit {
    /// What is counted: `address`, `principal`, `route`, or `{ claim: NAME }`.
    pub(in crate::config) key: Field<LimitKey>,
    /// How many in a second, minute or hour.
    pub(in crate::config) rate: Field<Rate>,
    /// How many at once. Default: the rate's number.
    pub(in crate::config) burst: Option<Field<Count>>,
    /// `edge`: before authentication; for `address` and `route`. `address` is always there.
    pub(in crate::config) at: Option<Field<LimitAt>>,
    /// Keys that are remembered. Default: 131072.
    pub(in crate::config) max_keys: Option<Field<Count>>,
}

/// What is counted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum LimitKey {
    /// The client's address (IPv6: its /64).
    Address,
    /// The principal.
    Principal,
    /// The route as a whole.
    Route,
    /// The value of a mapped claim.
    Claim(Field<Name>),
}

/// When a limit is charged.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum LimitAt {
    /// Before authentication.
    Edge,
}

/// Cedar policies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Policies {
    /// The directory of the `*.cedar` files, relative to the configuration's directory.
    pub(in crate::config) directory: Field<FilePath>,
    /// `enforce`.
    #[expect(dead_code, reason = "reading it is the check: there is one value")]
    pub(in crate::config) mode: Option<Field<PolicyMode>>,
}

/// What becomes of a decision.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum PolicyMode {
    /// It counts. A single policy is tried out by `@shadow`.
    Enforce,
}

/// Logs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Telemetry {
    /// One record for each request.
    pub(in crate::config) access_log: Option<Field<AccessLog>>,
    /// What the gateway says about itself, on stderr.
    pub(in crate::config) log: Option<Field<Log>>,
}

/// One record for each request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AccessLog {
    /// `stdout` (default), `stderr`, `off`, or `{ file: PATH }`.
    pub(in crate::config) to: Option<Field<LogTarget>>,
    /// `json`.
    #[expect(dead_code, reason = "reading it is the check: there is one value")]
    pub(in crate::config) format: Option<Field<AccessLogFormat>>,
}

/// Where access records go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// This file, which is opened again on SIGHUP.
    File(Field<FilePath>),
}

/// The form of access records.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum AccessLogFormat {
    /// One JSON object a line.
    Json,
}

/// What the gateway says about itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Log {
    /// `error`, `warn`, `info` (default), `debug` or `trace`.
    pub(in crate::config) level: Option<Field<LogLevel>>,
    /// `pretty` or `json` (default).
    pub(in crate::config) format: Option<Field<LogFormat>>,
}

/// How much is said.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs somebody.
    Error,
    /// What may need somebody.
    Warn,
    /// What happened.
    Info,
    /// What led to it.
    Debug,
    /// Every step.
    Trace,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Metrics, probes and the control socket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Admin {
    /// Metrics (`/metrics`); a loopback address. Default: none.
    pub(in crate::config) bind: Option<Field<Bind>>,
    /// Probes (`/livez`, `/readyz`). Default: none.
    pub(in crate::config) probes: Option<Field<Bind>>,
    /// The unix socket of `portcullis status`. Default: none.
    pub(in crate::config) socket: Option<Field<FilePath>>,
}

/// How the gateway ends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Shutdown {
    /// How long requests in flight may go on after SIGTERM. Default: 30s.
    pub(in crate::config) deadline: Field<Timespan>,
}
