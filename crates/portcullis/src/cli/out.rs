//! The only place that prints, and what printed texts are made of. Colours are for terminals, and not where `NO_COLOR`
//! is set.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use clap::builder::styling::{AnsiColor, Style};

use crate::config::Problems;

/// For whom a result is meant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Text,
    /// For machines
    Json,
}

/// Writes to standard output.
///
/// # Errors
/// When it can't be written.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    unless_left(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// A reader who has seen enough and left is no error.
fn unless_left(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes a secret to standard output exactly as it is, also what looks like a colour; a line end follows on a terminal.
///
/// # Errors
/// When it can't be written.
pub(super) fn print_exactly(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let end: &[u8] = if out.is_terminal() { b"\n" } else { b"" };
    unless_left(out.write_all(text.as_bytes()).and_then(|()| out.write_all(end)).and_then(|()| out.flush()))
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
pub(super) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// How many of something, in words.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Foreign text as it can be shown: what a terminal would obey, or show in another order, is escaped.
pub(super) fn printable(text: &str) -> String {
    let is_obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let shown = |c: char| if is_obeyed(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Lines of `label  value`, with all values in one column.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<(&'static str, String)>);

impl Rows {
    /// Adds a line; the lines of a longer value stand below each other.
    pub(super) fn add(&mut self, label: &'static str, value: impl Into<String>) {
        self.0.push((label, value.into()));
    }

    /// Adds several values under one label; nothing if there is none.
    pub(super) fn list(&mut self, label: &'static str, values: impl IntoIterator<Item = String>) {
        let values: Vec<String> = values.into_iter().collect();
        if !values.is_empty() {
            self.add(label, values.join("\n"));
        }
    }
}

impl Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
        for (label, value) in &self.0 {
            let mut label = *label;
            for line in value.lines() {
                writeln!(f, "{LABEL}{label:width$}{LABEL:#}  {line}")?;
                label = "";
            }
        }
        Ok(())
    }
}

pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
const LABEL: Style = AnsiColor::Cyan.on_default();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_one_column_and_longer_ones_below_each_other() {
        let mut rows = Rows::default();
        rows.add("a", "1");
        rows.list("long", ["2".to_owned(), "3".to_owned()]);
        rows.list("empty", []);
        let plain = anstream::adapter::strip_str(&rows.to_string()).to_string();
        assert_eq!(plain, "a     1\nlong  2\n      3\n");
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor_or_turn_the_line_round() {
        assert_eq!(printable("a\u{1b}[2J\u{9b}2J\u{202e}b"), r"a\u{1b}[2J\u{9b}2J\u{202e}b");
        assert_eq!(printable("größe"), "größe");
    }
}
