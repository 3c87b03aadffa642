//! One access record: what a request was, who asked, what was decided, what it cost.
//!
//! A record is one line of JSON. Header values and the query stay out, because tokens travel there; every string is
//! escaped, control characters of all kinds included, so that no request can forge a line or steer a terminal.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::TraceId;
use crate::json::Line;

/// What is written about one request. `P` prints as a policy id.
pub struct Record<'a, P: Display> {
    /// When the request's head was complete.
    pub time: SystemTime,
    /// The trace that the request belongs to.
    pub trace_id: TraceId,
    /// The listener that accepted it.
    pub listener: &'a str,
    /// The route that it took, if any.
    pub route: Option<&'a str>,
    /// The client, by the rules for trusted proxies.
    pub client: IpAddr,
    /// The socket's other end, if it is not the client.
    pub peer: Option<IpAddr>,
    /// `HTTP/1.1`, `HTTP/2`, …
    pub protocol: &'static str,
    /// The method as sent.
    pub method: &'a str,
    /// The canonical host.
    pub host: Option<&'a str>,
    /// The canonical path, without the query.
    pub path: &'a str,
    /// The status that was answered.
    pub status: u16,
    /// The stable code, if the gateway refused.
    pub code: Option<&'static str>,
    /// The id of who was proven.
    pub principal: Option<&'a dyn Display>,
    /// The policies that decided.
    pub policies: &'a [P],
    /// The decision's id, which `explain` resolves.
    pub decision_id: Option<&'a dyn Display>,
    /// The upstream that answered.
    pub upstream: Option<&'a str>,
    /// What the core rule set says against the request: the anomaly score, and the numbers of the rules.
    pub findings: Option<(u32, &'a [u32])>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From the head of the request to the end of its answer.
    pub duration: Duration,
    /// What the client says it is, cut after 256 bytes.
    pub user_agent: Option<&'a str>,
    /// The TLS session, if there is one.
    pub tls: Option<TlsRecord<'a>>,
}

/// What is written about a TLS session.
#[derive(Clone, Copy, Debug)]
pub struct TlsRecord<'a> {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The server name that the client asked for.
    pub sni: Option<&'a str>,
    /// Whether the session was resumed by a ticket.
    pub resumed: bool,
}

impl<P: Display> Record<'_, P> {
    /// Appends the record as a line.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>, clock: &mut Clock) {
        let mut line = Line::open(buffer);
        line.shown("time", &clock.show(self.time));
        line.shown("trace_id", &self.trace_id);
        line.text("listener", self.listener);
        line.optional_text("route", self.route);
        line.shown("client", &self.client);
        if let Some(peer) = &self.peer {
            line.shown("peer", peer);
        }
        line.text("protocol", self.protocol);
        line.text("method", self.method);
        line.optional_text("host", self.host);
        line.text("path", cut(self.path, MAX_PATH));
        line.number("status", self.status.into());
        line.optional_text("code", self.code);
        if let Some(principal) = self.principal {
            line.shown("principal", principal);
        }
        if !self.policies.is_empty() {
            line.list("policies", self.policies);
        }
        if let Some(decision) = self.decision_id {
            line.shown("decision_id", decision);
        }
        line.optional_text("upstream", self.upstream);
        if let Some((score, rules)) = self.findings.filter(|(_, rules)| !rules.is_empty()) {
            line.number("waf_score", score.into());
            line.list("waf_rules", rules);
        }
        line.number("bytes_in", self.bytes_in);
        line.number("bytes_out", self.bytes_out);
        line.number("duration_us", u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX));
        line.optional_text("user_agent", self.user_agent.map(|user_agent| cut(user_agent, MAX_USER_AGENT)));
        if let Some(tls) = self.tls {
            line.text("tls_version", tls.version);
            line.optional_text("sni", tls.sni);
            line.bool("resumed", tls.resumed);
        }
        line.close();
    }
}

/// Moments as RFC 3339 in UTC; what is the same for a whole second is worked out once.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    second: i64,
    date_and_time: String,
}

impl Clock {
    fn show(&mut self, time: SystemTime) -> impl Display {
        // Before 1970 and after 9999 there is no request.
        let time = jiff::Timestamp::try_from(time).unwrap_or_default();
        if self.date_and_time.is_empty() || self.second != time.as_second() {
            self.second = time.as_second();
            self.date_and_time = format!("{time:.0}").trim_end_matches('Z').to_owned();
        }
        fmt::from_fn(move |f| write!(f, "{}.{:06}Z", self.date_and_time, time.subsec_microsecond()))
    }
}

/// At most `max` bytes of `text`, without cutting a character in two.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// Enough to tell clients apart.
const MAX_USER_AGENT: usize = 256;

/// Longer paths are cut in the log: a line stays below what collectors take.
const MAX_PATH: usize = 4096;

#[cfg(test)]
pub(crate) mod tests {
    use std::time::UNIX_EPOCH;

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
            findings: None,
            bytes_in: 1,
            bytes_out: 2,
            duration: Duration::from_micros(345),
            user_agent: Some("curl/8"),
            tls: Some(TlsRecord { version: "1.3", sni: Some("api.example.com"), resumed: true }),
        }
    }

    fn line(record: &Record<'_, &str>) -> String {
        let mut line = Vec::new();
        record.write(&mut line, &mut Clock::default());
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
                r#""user_agent":"curl/8","tls_version":"1.3","sni":"api.example.com","resumed":true}"#,
                "\n"
            )
        );
    }

    #[test]
    fn each_record_tells_its_own_moment() {
        let mut clock = Clock::default();
        let mut show = |micros| clock.show(UNIX_EPOCH + Duration::from_micros(micros)).to_string();
        assert_eq!(show(1), "1970-01-01T00:00:00.000001Z");
        assert_eq!(show(999_999), "1970-01-01T00:00:00.999999Z");
        assert_eq!(show(86_400_000_000), "1970-01-02T00:00:00.000000Z");
        assert_eq!(show(5), "1970-01-01T00:00:00.000005Z");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = "ü".repeat(5_000);
        let value: Value =
            serde_json::from_str(&line(&Record { user_agent: Some(&long), ..record(&long) })).unwrap();
        assert_eq!(value["path"].as_str().unwrap().len(), MAX_PATH);
        assert_eq!(value["user_agent"].as_str().unwrap().len(), MAX_USER_AGENT);
    }
}
