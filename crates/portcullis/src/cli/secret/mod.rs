//! `portcullis secret`: the embedded store, and a look at every reference of a configuration.
//!
//! A value is read from a terminal without echo, from standard input or from a file, never from the command line; only
//! `get` prints one.

mod init;
mod prompt;
mod resolve;
mod value;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use secrets::embedded::Embedded;
use secrets::{Cause, Reference};

use super::exit::{CliError, Report};
use super::source::configuration;
use crate::config::Span;
use crate::config::model::{EmbeddedStore, SecretReference, SecretStore, StoreOpener};
use crate::gateway;

/// Keep secrets in the embedded store, and check where a configuration's secrets come from
#[derive(Args, Debug)]
pub(super) struct Secret {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Set(value::Set),
    Get(value::Get),
    List(value::List),
    Rm(value::Remove),
    Authority(value::Authority),
    Resolve(resolve::Resolve),
}

impl Secret {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        match &self.command {
            Command::Init(init) => init.run(),
            Command::Set(set) => set.run(),
            Command::Get(get) => get.run(),
            Command::List(list) => list.run(),
            Command::Rm(remove) => remove.run(),
            Command::Authority(authority) => authority.run(),
            Command::Resolve(resolve) => resolve.run(),
        }
    }
}

/// Which embedded store.
#[derive(Args, Debug)]
struct Place {
    /// The configuration that names the store
    #[arg(short, long, value_name = "FILE", required_unless_present = "directory")]
    #[arg(conflicts_with_all = ["directory", "key_file"])]
    config: Option<PathBuf>,
    /// The directory of the store, without a configuration
    #[arg(short, long, value_name = "DIR", requires = "key_file")]
    directory: Option<PathBuf>,
    /// The file of its key
    #[arg(short, long, value_name = "FILE", requires = "directory")]
    key_file: Option<PathBuf>,
}

impl Place {
    /// The store's name and what the configuration says of it.
    fn store(&self) -> Result<(String, EmbeddedStore), CliError> {
        if let Some(path) = &self.config {
            let embedded = configuration(path)?.stores.into_iter().find_map(|(name, store)| match store {
                SecretStore::Embedded(embedded) => Some((name.to_string(), embedded)),
                SecretStore::Vault(_) => None,
            });
            return embedded.ok_or_else(|| CliError::read(path, &NO_STORE));
        }
        let directory = self.directory.clone().unwrap_or_default();
        let key = Reference::File { path: self.key_file.clone().unwrap_or_default() };
        let key = SecretReference { reference: key, span: Span::default() };
        Ok(("embedded".to_owned(), EmbeddedStore { directory, opener: StoreOpener::Key(key) }))
    }

    fn open(&self) -> Result<Embedded, CliError> {
        let (name, store) = self.store()?;
        let opener = store.opener.read().map_err(|error| match error.cause {
            Cause::Absent(what) => CliError::Unreadable(format!("there is no {what}; {HINT}")),
            _ => CliError::Store(error),
        })?;
        Ok(Embedded::open(&name, store.directory, opener, Arc::new(gateway::wall_clock))?)
    }
}

const NO_STORE: &str = "it has no embedded store: expected one under `secrets: { stores: … }`";
const HINT: &str = "`portcullis secret init` makes a store with its key";

#[cfg(test)]
mod tests;
