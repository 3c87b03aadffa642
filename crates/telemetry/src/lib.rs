//! What happened: metrics, access log, tracing set-up.
