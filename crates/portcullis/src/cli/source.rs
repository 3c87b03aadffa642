//! What commands read: files, and the configuration without the files that it names.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tokio::runtime::{Builder, Runtime};

use super::exit::CliError;
use crate::config::model::Config;
use crate::config::{self, Checked};
use crate::gateway;

/// Reads a configuration with all that it names, as `run` does.
pub(super) fn checked(path: &Path) -> Result<Checked, CliError> {
    tls::install_default();
    identity::jwt::install_crypto_provider();
    config::load(path, gateway::wall_clock()).map_err(CliError::Config)
}

/// Reads a configuration alone: what it names may be missing, or be nobody's business but the gateway's.
pub(super) fn configuration(path: &Path) -> Result<Config, CliError> {
    let (config, problems) = config::read(&path.display().to_string(), text(path)?, directory(path));
    config.ok_or(CliError::Config(problems))
}

/// The control socket that a configuration names, whatever else is wrong with it: a running gateway is asked above all
/// when it refused the file.
pub(super) fn control_socket(path: &Path) -> Result<Option<PathBuf>, CliError> {
    Ok(config::control_socket(&text(path)?, directory(path)))
}

fn text(path: &Path) -> Result<String, CliError> {
    String::from_utf8(bytes(path)?).map_err(|_| CliError::read(path, &"it is not UTF-8"))
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The bytes of a file, or of standard input if it is called `-`.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().take(LARGEST + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| CliError::read(path, &format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(CliError::read(path, &format!("it is larger than {LARGEST} bytes")));
    }
    Ok(bytes)
}

/// The JSON files of a directory, in the order of their names.
pub(super) fn json_files(directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let failed = |error: io::Error| CliError::read(directory, &format!("cannot be read: {error}"));
    let mut paths = Vec::new();
    for entry in directory.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A runtime for one question to the gateway.
pub(super) fn runtime() -> Result<Runtime, CliError> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// No file that a command reads is larger.
const LARGEST: u64 = 32 << 20;
