//! The core rule set as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::reader::Field;
use crate::config::values::field::FilePath;
use crate::config::values::quantity::{Count, Paranoia, Size, Timespan};

/// The OWASP core rule set, for routes with `waf`. It is read when the configuration is; a rule that cannot be kept is a problem with its
/// file and line. The rules run on threads of their own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Waf {
    /// The directory of the rule set as its release lays it out: `crs-setup.conf` (or `crs-setup.conf.example`) and `rules/*.conf`. Settings
    /// and exclusions of your own stand in there, as with any other engine; paranoia level and threshold are the route's.
    pub(in crate::config) rules: Field<FilePath>,
    /// How many threads look at requests. Default: half of the cores that carry traffic, at least one.
    pub(in crate::config) threads: Option<Field<Count>>,
    /// How many requests may wait for them. Default: 64.
    pub(in crate::config) queue: Option<Field<Count>>,
    /// How long a request may wait and be looked at, together, up to `1m`. Default: `1s`.
    pub(in crate::config) time: Option<Field<Timespan>>,
}

/// How a route's requests are looked through, after policy permitted them and before an upstream is chosen.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RouteWaf {
    /// What becomes of findings: `detect` or `block`.
    pub(in crate::config) mode: Field<WafMode>,
    /// The paranoia level, from 1 (hardly any false alarm) to 4. Default: 1.
    pub(in crate::config) paranoia: Option<Field<Paranoia>>,
    /// From which anomaly score on a request is an attack; one critical rule scores 5. Default: 5.
    pub(in crate::config) threshold: Option<Field<Count>>,
    /// Up to which size bodies are looked at, at most `1MiB`: forms, JSON and XML; of others, of gRPC and of upgrades only the head is.
    /// Where it is larger, a route that blocks answers 413, and one that detects looks at the head only. Default: `128KiB`.
    pub(in crate::config) body: Option<Field<Size>>,
}

/// What becomes of findings.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum WafMode {
    /// They are counted and written to the access log; every request passes.
    Detect,
    /// What looks like an attack is refused with 403, and what cannot be judged in time with 503.
    Block,
}
