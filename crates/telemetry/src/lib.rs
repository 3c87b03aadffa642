//! *What happened*: metrics, the access log, trace ids, and the set-up of tracing.
//!
//! The request path only adds to counters of its own core and appends to a buffer of its own core. Nothing here
//! makes a core wait: where a buffer is full, a record is dropped and counted.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod access_log;
mod collect;
mod json;
mod log;
mod metrics;
mod per_core;
mod record;
mod series;
mod trace;
mod upstream;

pub use access_log::{AccessLog, AccessLogWriter, CoreLog, Destination};
pub use log::{LogError, LogFormat, LogLevel, start_log};
pub use metrics::{Material, Metrics, ResolvedName, SecretStore};
pub use record::{Record, TlsRecord};
pub use series::{
    AnswerSeries, CompressionSeries, IdempotencySeries, InspectionSeries, LimitSeries, ListenerSeries,
    MirrorSeries, OpenConnection, OpenTunnel, RouteSeries, TokenSeries,
};
pub use trace::{SpanId, TraceError, TraceId, TraceIds, Traceparent};
pub use upstream::{EndpointState, Pressure, UpstreamSeries};
