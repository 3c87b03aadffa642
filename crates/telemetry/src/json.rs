//! One JSON object in one line, appended to a buffer.
//!
//! Text of printable ASCII is copied; all other text goes through serde_json, and control characters that JSON would
//! let through are escaped as well, so that no value can forge a line or steer a terminal.

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::ser::Formatter;

/// A line that is being written. Keys are names in the code and are not escaped.
pub(crate) struct Line<'a> {
    buffer: &'a mut Vec<u8>,
    separator: u8,
}

impl<'a> Line<'a> {
    pub(crate) fn open(buffer: &'a mut Vec<u8>) -> Self {
        Self { buffer, separator: b'{' }
    }

    pub(crate) fn close(self) {
        self.buffer.extend_from_slice(b"}\n");
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        string(self.buffer, value);
    }

    pub(crate) fn optional_text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        // Writing to a vector does not fail.
        let _ = write!(self.buffer, "{value}");
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.key(key);
        self.buffer.extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(crate) fn shown(&mut self, key: &str, value: &(impl Display + ?Sized)) {
        self.key(key);
        shown(self.buffer, value);
    }

    pub(crate) fn list(&mut self, key: &str, values: &[impl Display]) {
        self.key(key);
        let mut separator = b'[';
        for value in values {
            self.buffer.push(separator);
            separator = b',';
            shown(self.buffer, value);
        }
        self.buffer.push(b']');
    }

    fn key(&mut self, key: &str) {
        self.buffer.push(self.separator);
        self.separator = b',';
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(key.as_bytes());
        self.buffer.extend_from_slice(b"\":");
    }
}

fn string(buffer: &mut Vec<u8>, value: &str) {
    if is_plain(value.as_bytes()) {
        buffer.push(b'"');
        buffer.extend_from_slice(value.as_bytes());
        buffer.push(b'"');
        return;
    }
    let mut serializer = serde_json::Serializer::with_formatter(&mut *buffer, Visible);
    // Writing a string to a vector does not fail.
    let _ = serde::Serialize::serialize(value, &mut serializer);
}

/// What `value` prints, as a string: written in place, and once more if it has to be escaped.
fn shown(buffer: &mut Vec<u8>, value: &(impl Display + ?Sized)) {
    let start = buffer.len();
    let printed = write!(buffer, "\"{value}");
    let text = buffer.get(start + 1..).unwrap_or_default();
    if printed.is_ok() && is_plain(text) {
        buffer.push(b'"');
        return;
    }
    let text = String::from_utf8_lossy(text).into_owned();
    buffer.truncate(start);
    string(buffer, &text);
}

fn is_plain(text: &[u8]) -> bool {
    // Without a branch in the loop it runs over many bytes at once.
    text.iter()
        .fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~') & (*byte != b'"') & (*byte != b'\\'))
}

/// JSON without the control characters that JSON lets through.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            let mut units = [0; 2];
            if is_invisible(character) {
                for unit in character.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                write!(writer, "{character}")?;
            }
        }
        Ok(())
    }
}

/// Controls, line separators, and marks without width or that turn the direction of text.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    proptest! {
        #[test]
        fn no_value_can_forge_a_line_or_steer_a_terminal(
            text in "\\PC{0,20}[\\x00-\\x1f\"\\\\\u{7f}-\u{9f}\u{202e}\u{2028}é]{0,20}\\PC{0,20}"
        ) {
            let mut buffer = Vec::new();
            let mut line = Line::open(&mut buffer);
            line.text("text", &text);
            line.shown("shown", &text);
            line.list("list", &[&text, &text]);
            line.close();
            let line = String::from_utf8(buffer).unwrap();
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            prop_assert!(!line.trim_end().chars().any(is_invisible));
            let value: Value = serde_json::from_str(&line).unwrap();
            for found in [&value["text"], &value["shown"], &value["list"][0], &value["list"][1]] {
                prop_assert_eq!(found.as_str(), Some(text.as_str()));
            }
        }
    }
}
