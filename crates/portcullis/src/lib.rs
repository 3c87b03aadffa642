//! The gateway: command line, configuration, wiring, shutdown.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests"))]

pub mod cli;
pub mod config;
pub mod dev;
pub mod gateway;
