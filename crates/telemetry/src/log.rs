//! Tracing to standard error: pretty for people, JSON for machines.
//!
//! Colours only on a terminal and without `NO_COLOR`. What comes from outside belongs into `?` fields: there strings
//! are quoted and escaped in both formats.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::{Layer, Registry, fmt};

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// What is logged; can be changed while the process runs.
#[derive(Clone, Debug)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// Why the log did not start or change.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter has another form than `info` or `info,proxy=debug`.
    #[error("log level `{0}` is not of the form `info` or `info,proxy=debug`")]
    Filter(String),
    /// Another subscriber was there first.
    #[error("the log was already started")]
    Started,
}

/// Starts the log of the process.
///
/// # Errors
/// [`LogError`] if `filter` cannot be read, or a log runs already.
pub fn start_log(format: LogFormat, filter: &str) -> Result<LogLevel, LogError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let lines = match format {
        LogFormat::Pretty => {
            let colour = io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            fmt::layer().with_writer(io::stderr).with_ansi(colour).with_target(false).boxed()
        }
        LogFormat::Json => fmt::layer().with_writer(io::stderr).json().flatten_event(true).boxed(),
    };
    // Not `try_init`: where some crate asks for `tracing-log`, that would bring in what others tell the crate `log`.
    let log = tracing_subscriber::registry().with(lines.with_filter(filter));
    tracing::subscriber::set_global_default(log).map_err(|_| LogError::Started)?;
    Ok(LogLevel(handle))
}

impl LogLevel {
    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// [`LogError::Filter`] if it cannot be read; the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let parsed = parse(filter)?;
        self.0.reload(parsed).map_err(|_| LogError::Filter(filter.to_owned()))
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|_| LogError::Filter(filter.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(parse("info,proxy=debug").is_ok());
        assert_eq!(
            parse("proxy=loudest").unwrap_err().to_string(),
            "log level `proxy=loudest` is not of the form `info` or `info,proxy=debug`"
        );
    }

    #[test]
    fn a_log_starts_once_and_changes_its_level_later() {
        let level = start_log(LogFormat::Json, "warn").unwrap();
        assert!(!tracing::enabled!(tracing::Level::INFO));
        level.set("info").unwrap();
        assert!(tracing::enabled!(tracing::Level::INFO));
        assert!(level.set("=").is_err());
        assert!(matches!(start_log(LogFormat::Pretty, "info"), Err(LogError::Started)));
    }
}
