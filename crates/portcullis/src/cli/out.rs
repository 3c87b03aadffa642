//! The only place that prints. Colours are for terminals, and not where `NO_COLOR` is set.

use std::io::{self, ErrorKind, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};

use crate::config::Problems;

/// Writes to standard output.
///
/// # Errors
/// When it can't be written. A reader who has seen enough and left is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes to standard error; if even that fails there is nobody left to tell.
pub(super) fn complain(text: &str) {
    anstream::stderr().lock().write_all(text.as_bytes()).ok();
}

/// Problems as standard error gets them: with source lines on a terminal, else one line each.
pub(super) fn problems(problems: &Problems) -> String {
    let stderr = io::stderr();
    let plain = !stderr.is_terminal() || AutoStream::choice(&stderr) == ColorChoice::Never;
    if plain { problems.to_string() } else { problems.fancy() }
}

/// The text in a style.
pub(super) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// How many of something, in words.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
