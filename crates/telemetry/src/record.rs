//! One access record: what a request was, who asked, what was decided, what it cost.
//!
//! A record is one line of JSON. Header values and the query stay out, because tokens travel there; every string is
//! escaped, control characters of all kinds included, so that no request can forge a line or steer a terminal.

use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::ser::{Serialize, Serializer};

use crate::TraceId;

/// What is written about one request. `P` prints as a policy id.
#[derive(serde::Serialize)]
pub struct Record<'a, P: Display> {
    /// When the request's head was complete.
    #[serde(serialize_with = "as_rfc3339")]
    pub time: SystemTime,
    /// The trace that the request belongs to.
    #[serde(serialize_with = "as_text")]
    pub trace_id: TraceId,
    /// The listener that accepted it.
    pub listener: &'a str,
    /// The route that it took, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    /// The client, by the rules for trusted proxies.
    pub client: IpAddr,
    /// The socket's other end, if it is not the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// `HTTP/1.1`, `HTTP/2`, …
    pub protocol: &'static str,
    /// The method as sent.
    pub method: &'a str,
    /// The canonical host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'a str>,
    /// The canonical path, without the query.
    #[serde(serialize_with = "cut_path")]
    pub path: &'a str,
    /// The status that was answered.
    pub status: u16,
    /// The stable code, if the gateway refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The id of who was proven.
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub principal: Option<&'a dyn Display>,
    /// The policies that decided.
    #[serde(serialize_with = "as_texts", skip_serializing_if = "<[P]>::is_empty")]
    pub policies: &'a [P],
    /// The decision's id, which `explain` resolves.
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<&'a dyn Display>,
    /// The upstream that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'a str>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From the head of the request to the end of its answer.
    #[serde(rename = "duration_us", serialize_with = "as_microseconds")]
    pub duration: Duration,
    /// What the client says it is, cut after 256 bytes.
    #[serde(serialize_with = "cut_user_agent", skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<&'a str>,
    /// The TLS session, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsRecord<'a>>,
}

/// What is written about a TLS session.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct TlsRecord<'a> {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The server name that the client asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<&'a str>,
    /// Whether the session was resumed by a ticket.
    pub resumed: bool,
}

impl<P: Display> Record<'_, P> {
    /// Appends the record and a line feed to `line`.
    pub(crate) fn write(&self, line: &mut Vec<u8>) -> serde_json::Result<()> {
        let mut serializer = serde_json::Serializer::with_formatter(&mut *line, Visible);
        self.serialize(&mut serializer)?;
        line.push(b'\n');
        Ok(())
    }
}

/// JSON in one line, in which the control characters that JSON lets through are escaped, too.
struct Visible;

impl serde_json::ser::Formatter for Visible {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.bytes().all(|byte| byte.is_ascii() && byte != DELETE) {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if is_invisible(character) {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                writer.write_all(character.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Controls beyond those that JSON itself escapes, line separators, and marks that turn the direction of text.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn as_rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    match jiff::Timestamp::try_from(*time) {
        Ok(time) => serializer.collect_str(&format_args!("{time:.6}")),
        Err(_) => serializer.serialize_none(),
    }
}

fn as_microseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_optional_text<T: Display + ?Sized, S: Serializer>(
    value: &Option<&T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn as_texts<P: Display, S: Serializer>(values: &&[P], serializer: S) -> Result<S::Ok, S::Error> {
    struct Text<'a, P>(&'a P);
    impl<P: Display> Serialize for Text<'_, P> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self.0)
        }
    }
    serializer.collect_seq(values.iter().map(Text))
}

fn cut_path<S: Serializer>(path: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(path, MAX_PATH))
}

fn cut_user_agent<S: Serializer>(user_agent: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    user_agent.map(|user_agent| cut(user_agent, MAX_USER_AGENT)).serialize(serializer)
}

/// At most `max` bytes of `text`, without cutting a character in two.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// Enough to tell clients apart.
const MAX_USER_AGENT: usize = 256;

/// Longer paths are cut in the log: a line stays below what collectors take.
const MAX_PATH: usize = 4096;

const DELETE: u8 = 0x7f;

#[cfg(test)]
pub(crate) mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::Traceparent;

    pub(crate) fn record(path: &str) -> Record<'_, &'static str> {
        let trace =
            Traceparent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap().trace;
        Record {
            time: UNIX_EPOCH + Duration::from_micros(1_795_298_400_123_456),
            trace_id: trace,
            listener: "edge",
            route: Some("orders"),
            client: "192.0.2.1".parse().unwrap(),
            peer: None,
            protocol: "HTTP/1.1",
            method: "GET",
            host: Some("api.example.com"),
            path,
            status: 403,
            code: Some("POLICY_FORBIDDEN"),
            principal: Some(&"jwt:https://id.example.com#alice"),
            policies: &["deny-nights"],
            decision_id: Some(&"00000000000000a1"),
            upstream: None,
            bytes_in: 1,
            bytes_out: 2,
            duration: Duration::from_micros(345),
            user_agent: Some("curl/8"),
            tls: Some(TlsRecord { version: "1.3", sni: Some("api.example.com"), resumed: true }),
        }
    }

    fn line(record: &Record<'_, &str>) -> String {
        let mut line = Vec::new();
        record.write(&mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_record_reads_as_one_flat_line() {
        assert_eq!(
            line(&record("/orders/7")),
            concat!(
                r#"{"time":"2026-11-21T22:00:00.123456Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","#,
                r#""listener":"edge","route":"orders","client":"192.0.2.1","protocol":"HTTP/1.1","method":"GET","#,
                r#""host":"api.example.com","path":"/orders/7","status":403,"code":"POLICY_FORBIDDEN","#,
                r#""principal":"jwt:https://id.example.com#alice","policies":["deny-nights"],"#,
                r#""decision_id":"00000000000000a1","bytes_in":1,"bytes_out":2,"duration_us":345,"#,
                r#""user_agent":"curl/8","tls":{"version":"1.3","sni":"api.example.com","resumed":true}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = "ü".repeat(5_000);
        let value: Value =
            serde_json::from_str(&line(&Record { user_agent: Some(&long), ..record(&long) })).unwrap();
        assert_eq!(value["path"].as_str().unwrap().len(), MAX_PATH);
        assert_eq!(value["user_agent"].as_str().unwrap().len(), MAX_USER_AGENT);
    }

    proptest! {
        #[test]
        fn no_request_can_forge_a_line_or_steer_a_terminal(text in "\\PC{0,20}[\\x00-\\x1f\"\\\\\u{7f}-\u{9f}\u{202e}\u{2028}é]{0,20}\\PC{0,20}") {
            let line = line(&Record {
                method: &text,
                host: Some(&text),
                user_agent: Some(&text),
                principal: Some(&text),
                policies: &[text.as_str()],
                ..record(&text)
            });
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            prop_assert!(!line.trim_end().chars().any(is_invisible));
            let value: Value = serde_json::from_str(&line).unwrap();
            for found in [&value["method"], &value["host"], &value["path"], &value["principal"], &value["policies"][0]] {
                prop_assert_eq!(found.as_str(), Some(text.as_str()));
            }
        }
    }
}
