//! HTTP/2 requests that no library sends: frames and header blocks by hand.

use std::net::SocketAddr;

use testkit::{Protocol, Trust, Wire};

use super::Fate::{self, CutOff, OneForm, Refused};
use crate::scene::API;

/// One request: its fields, its DATA frames, and what must become of it.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) fate: Fate,
    fields: Vec<(String, String)>,
    data: Vec<&'static str>,
    /// After the data.
    trailers: Vec<(&'static str, &'static str)>,
}

/// How the gateway answered.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) status: Option<u16>,
    reset: bool,
    closed: bool,
}

impl Ended {
    pub(super) fn is_refused(&self) -> bool {
        self.reset || self.closed || self.status.is_some_and(|status| status >= 400)
    }
}

/// Added to a valid request.
const ADDED: [(&str, &str, &str, Fate); 31] = [
    ("CR LF in a value", "x-a", "b\r\ntransfer-encoding: chunked", Refused),
    ("CR in a value", "x-a", "b\rc: d", Refused),
    ("LF in a value", "x-a", "b\nc: d", Refused),
    ("NUL in a value", "x-a", "b\0c", Refused),
    ("CR LF in a name", "x-a: b\r\nx-c", "d", Refused),
    ("a colon in a name", "x-a:b", "c", Refused),
    ("a space in a name", "x a", "b", Refused),
    ("a NUL in a name", "x\0a", "b", Refused),
    ("upper case in a name", "X-A", "b", Refused),
    ("an empty name", "", "b", Refused),
    ("connection", "connection", "x-a", Refused),
    ("keep-alive", "keep-alive", "timeout=5", Refused),
    ("proxy-connection", "proxy-connection", "keep-alive", Refused),
    ("upgrade", "upgrade", "h2c", Refused),
    ("a coding", "transfer-encoding", "chunked", Refused),
    ("te other than trailers", "te", "gzip", Refused),
    ("te with trailers", "te", "trailers", OneForm),
    ("a length beside no body", "content-length", "5", Refused),
    ("a length of words", "content-length", "five", Refused),
    ("a list of lengths", "content-length", "0, 0", Refused),
    ("a negative length", "content-length", "-1", Refused),
    ("another host", "host", "other.example", Refused),
    ("a second :path", ":path", "/hidden", Refused),
    ("a second :method", ":method", "POST", Refused),
    ("a pseudo field of answers", ":status", "200", Refused),
    ("an unknown pseudo field", ":x", "y", Refused),
    ("a pseudo field after a field", ":scheme", "https", Refused),
    ("an extended CONNECT that nobody offered", ":protocol", "websocket", Refused),
    ("a name that looks like a length", "content_length", "44", OneForm),
    ("a name that looks like a coding", "transfer_encoding", "chunked", OneForm),
    ("a cookie", "cookie", "a=b", OneForm),
];

/// In place of the one of the same name in a valid request.
const REPLACED: [(&str, &str, &str, Fate); 15] = [
    ("CR LF in the path", ":path", "/x HTTP/1.1\r\nX-A: b", Refused),
    ("a space in the path", ":path", "/x y", Refused),
    ("a NUL in the path", ":path", "/x\0y", Refused),
    // Cut off: there is one reading, and nobody is told of the fragment.
    ("a fragment in the path", ":path", "/x#y", OneForm),
    ("an empty path", ":path", "", Refused),
    ("a path without a slash", ":path", "x", Refused),
    ("a URL for a path", ":path", "https://other.example/x", Refused),
    ("* for GET", ":path", "*", Refused),
    ("CR LF in the method", ":method", "GET / HTTP/1.1\r\nX-A: b\r\n\r\nGET", Refused),
    ("a space in the method", ":method", "GET /hidden", Refused),
    ("an empty method", ":method", "", Refused),
    ("CONNECT", ":method", "CONNECT", Refused),
    ("CR LF in the authority", ":authority", "api.example.com\r\nX-A: b", Refused),
    ("a user in the authority", ":authority", "a@api.example.com", Refused),
    ("CR LF in the scheme", ":scheme", "https\r\nX-A: b", Refused),
];

/// With a body.
type Body = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], Fate);
const BODIES: [Body; 7] = [
    ("a length shorter than the data", &[("content-length", "3")], &["hello"], CutOff),
    ("a length longer than the data", &[("content-length", "44")], &["hello"], CutOff),
    ("two lengths", &[("content-length", "5"), ("content-length", "6")], &["hello"], CutOff),
    ("equal lengths", &[("content-length", "5"), ("content-length", "5")], &["hello"], OneForm),
    ("the right length", &[("content-length", "5")], &["he", "llo"], OneForm),
    ("no length", &[], &["5\r\nhello\r\n0\r\n\r\n", "GET /hidden HTTP/1.1\r\n\r\n"], OneForm),
    (
        "a coding and a body",
        &[("transfer-encoding", "chunked")],
        &["0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n"],
        Refused,
    ),
];

const TRAILERS: [(&str, &str, &str, Fate); 5] = [
    ("a trailer with CR LF", "x-a", "b\r\n\r\nGET /hidden HTTP/1.1", CutOff),
    ("a trailer that is a length", "content-length", "44", OneForm),
    ("a trailer that is a coding", "transfer-encoding", "chunked", CutOff),
    ("a trailer that is a host", "host", "other.example", OneForm),
    ("a pseudo field in the trailers", ":path", "/hidden", OneForm),
];

pub(super) fn cases() -> Vec<Case> {
    let valid = || -> Vec<(String, String)> {
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", API),
            (":path", "/x"),
            ("x-first", "1"),
        ];
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    };
    let posted = || {
        let mut fields = valid();
        fields[0].1 = "POST".to_owned();
        fields
    };
    let mut all = vec![Case {
        name: "a valid request",
        fate: OneForm,
        fields: valid(),
        data: vec![],
        trailers: vec![],
    }];
    for (name, field, value, fate) in ADDED {
        let mut fields = valid();
        fields.push((field.to_owned(), value.to_owned()));
        all.push(Case { name, fate, fields, data: vec![], trailers: vec![] });
    }
    for (name, field, value, fate) in REPLACED {
        let mut fields = valid();
        fields.iter_mut().filter(|known| known.0 == field).for_each(|known| value.clone_into(&mut known.1));
        all.push(Case { name, fate, fields, data: vec![], trailers: vec![] });
    }
    for missing in [":method", ":scheme", ":path", ":authority"] {
        let mut fields = valid();
        fields.retain(|known| known.0 != missing);
        all.push(Case { name: missing, fate: Refused, fields, data: vec![], trailers: vec![] });
    }
    for (name, added, data, fate) in BODIES {
        let mut fields = posted();
        fields.extend(added.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        all.push(Case { name, fate, fields, data: data.to_vec(), trailers: vec![] });
    }
    for (name, field, value, fate) in TRAILERS {
        all.push(Case { name, fate, fields: posted(), data: vec!["hello"], trailers: vec![(field, value)] });
    }
    all
}

/// Sends the request on a connection of its own, and reads until it is answered or refused.
pub(super) fn send(address: SocketAddr, trust: &Trust, case: &Case) -> Ended {
    let mut wire = Wire::tls(address, trust, API, Protocol::H2).unwrap();
    let is_last = case.data.is_empty() && case.trailers.is_empty();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, b""));
    let fields = case.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    bytes.extend(frame(HEADERS, END_HEADERS | u8::from(is_last), 1, &block(fields)));
    for (at, data) in case.data.iter().enumerate() {
        let is_last = at + 1 == case.data.len() && case.trailers.is_empty();
        bytes.extend(frame(DATA, u8::from(is_last), 1, data.as_bytes()));
    }
    if !case.trailers.is_empty() {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(case.trailers.iter().copied())));
    }
    // The gateway may close before all is sent.
    wire.send(&bytes).ok();
    let (mut ended, mut read) = (Ended::default(), Vec::new());
    loop {
        while let Some((kind, flags, stream, payload)) = next_frame(&mut read) {
            match (kind, stream) {
                (HEADERS, 1) => {
                    ended.status = ended.status.or(status(&payload));
                    if flags & END_STREAM != 0 {
                        return ended;
                    }
                }
                (DATA, 1) if flags & END_STREAM != 0 => return ended,
                (RST_STREAM, 1) => {
                    ended.reset = true;
                    return ended;
                }
                (GOAWAY, _) => {
                    ended.closed = true;
                    return ended;
                }
                _ => {}
            }
        }
        let Some(more) = wire.read_some() else {
            ended.closed = true;
            return ended;
        };
        read.extend(more);
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Literal fields without indexing (RFC 7541 section 6.2.2), whose bytes go out as they are.
fn block<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

fn next_frame(read: &mut Vec<u8>) -> Option<(u8, u8, u8, Vec<u8>)> {
    let head = read.get(..9)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let (kind, flags, stream) = (head[3], head[4], head[8]);
    read.get(..9 + length)?;
    let payload = read.drain(..9 + length).skip(9).collect();
    Some((kind, flags, stream, payload))
}

/// The status at the beginning of a header block: an index of the static table, or 0 for one that has none there.
fn status(block: &[u8]) -> Option<u16> {
    let known = [200, 204, 206, 304, 400, 404, 500];
    let first = *block.first()?;
    Some(first.checked_sub(0x88).and_then(|index| known.get(usize::from(index)).copied()).unwrap_or(499))
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
