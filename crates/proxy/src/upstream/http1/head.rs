//! Heads of HTTP/1.1 messages as the gateway speaks it to an upstream: requests are written, answers are read (RFC 9112).
//!
//! **Refused**, where RFC 9112 section 6.3 leaves a choice: an answer with both lengths, with lengths that differ, with a transfer
//! coding other than `chunked`, or with any transfer coding in an answer of HTTP/1.0. What httparse takes for malformed is: folded lines, white space
//! before a colon, control characters.

use std::io::Write as _;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode};
use httparse::{ParserConfig, Status};
use hyper::body::Body as _;

use super::chunked::Chunked;
use crate::forward::Outgoing;
use crate::normalize::fields::list;

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Encoding {
    /// There is none.
    #[default]
    Empty,
    /// So many bytes are still to come.
    Length(u64),
    /// `chunked`.
    Chunked,
}

/// How the body of an answer is framed.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// `chunked`.
    Chunked(Chunked),
    /// It ends with the connection.
    UntilClose,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// The connection may take another request afterwards.
    pub(super) keeps_alive: bool,
}

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnswerError {
    /// Its head is no head of HTTP/1.
    #[error("no head of HTTP/1")]
    Head,
    /// Its head has more fields, or bytes, than are read.
    #[error("its head is too large")]
    HeadTooLarge,
    /// Its length has two readings, or none.
    #[error("its length has two readings, or none")]
    Length,
    /// It is not chunked as it says.
    #[error("its chunks are malformed")]
    Chunk,
}

/// Writes the head of a request whose target is in origin form.
pub(super) fn write(Outgoing { request, own }: &Outgoing, to: &mut Vec<u8>) -> Encoding {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    for part in [request.method().as_str(), " ", target, " HTTP/1.1\r\n"] {
        to.extend_from_slice(part.as_bytes());
    }
    for (name, value) in request.headers() {
        field(to, name.as_str(), value.as_bytes());
    }
    own.as_ref().inspect(|own| own.write(to));
    let body = request.body();
    let encoding = if body.is_end_stream() {
        // Servers may insist on a length where the method lets them expect content (RFC 9110 section 8.6).
        if matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
            field(to, "content-length", b"0");
        }
        Encoding::Empty
    } else if let Some(length) = body.size_hint().exact() {
        // Writing to memory does not fail.
        let _ = write!(to, "content-length: {length}\r\n");
        Encoding::Length(length)
    } else {
        field(to, "transfer-encoding", b"chunked");
        Encoding::Chunked
    };
    to.extend_from_slice(b"\r\n");
    encoding
}

/// Writes a field.
pub(crate) fn field(to: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        to.extend_from_slice(part);
    }
}

/// Takes the head of an answer off the front of `ahead`; none while it is not all there.
///
/// # Errors
/// It is none, or its body has no one length.
pub(super) fn parse(ahead: &mut Bytes, is_to_head: bool) -> Result<Option<Head>, AnswerError> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parsed_length =
        match ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, ahead, &mut fields) {
            Ok(Status::Complete(length)) if length <= MOST_HEAD => length,
            Ok(Status::Partial) if ahead.len() < MOST_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(AnswerError::HeadTooLarge),
            Err(_) => return Err(AnswerError::Head),
        };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(AnswerError::Head)?;
    let is_http10 = parsed.version == Some(0);
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + OWN_FIELDS);
    for field in &*parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| AnswerError::Head)?;
        // Shares the memory of the head.
        let value =
            HeaderValue::from_maybe_shared(ahead.slice_ref(field.value)).map_err(|_| AnswerError::Head)?;
        headers.append(name, value);
    }
    let length = content_length(&headers)?;
    if let Some(length) = length {
        // Whoever reads it next may read lists, and zeros in front, otherwise.
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let framing = framing(status, &headers, length, is_to_head, is_http10)?;
    let keeps_alive = keeps_alive(&headers, is_http10);
    let _ = ahead.split_to(parsed_length);
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(Some(Head { response, framing, keeps_alive }))
}

/// RFC 9112 section 6.3.
fn framing(
    status: StatusCode,
    headers: &HeaderMap,
    length: Option<u64>,
    is_to_head: bool,
    is_http10: bool,
) -> Result<Framing, AnswerError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if coding.is_some() && (length.is_some() || is_http10 || codings.next().is_some()) {
        return Err(AnswerError::Length);
    }
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(AnswerError::Length);
    }
    let has_none = is_to_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match (coding, length) {
        _ if has_none => Framing::Length(0),
        (Some(_), _) => Framing::Chunked(Chunked::default()),
        (None, Some(length)) => Framing::Length(length),
        (None, None) => Framing::UntilClose,
    })
}

/// The one length that all `Content-Length` fields name.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, AnswerError> {
    let mut length = None;
    for one in headers.get_all(CONTENT_LENGTH).iter().flat_map(list) {
        // `u64::from_str` would take a sign.
        if one.is_empty() || !one.iter().all(u8::is_ascii_digit) {
            return Err(AnswerError::Length);
        }
        let text = str::from_utf8(one).map_err(|_| AnswerError::Length)?;
        let value: u64 = text.parse().map_err(|_| AnswerError::Length)?;
        if length.replace(value).is_some_and(|other| other != value) {
            return Err(AnswerError::Length);
        }
    }
    Ok(length)
}

/// RFC 9112 section 9.3.
fn keeps_alive(headers: &HeaderMap, is_http10: bool) -> bool {
    let says = |word: &str| {
        let mut options = headers.get_all(CONNECTION).iter().flat_map(list);
        options.any(|option| option.eq_ignore_ascii_case(word.as_bytes()))
    };
    if is_http10 { says("keep-alive") && !says("close") } else { !says("close") }
}

/// An upstream is trusted less than the operator: its heads are bounded too.
const MOST_FIELDS: usize = 200;
/// Bytes of a head.
pub(in crate::upstream) const MOST_HEAD: usize = 32 * 1024;
/// What the gateway adds to an answer fits without another allocation.
const OWN_FIELDS: usize = 6;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::body::RequestBody;

    fn read(text: &str) -> Result<Option<Head>, AnswerError> {
        parse(&mut Bytes::copy_from_slice(text.as_bytes()), false)
    }

    fn length(text: &str) -> Result<Framing, AnswerError> {
        read(&format!("HTTP/1.1 200 OK\r\n{text}\r\n")).map(|head| head.unwrap().framing)
    }

    #[test]
    fn a_request_is_written_with_the_length_of_its_body() {
        let written = |method: Method, body: RequestBody| {
            let mut request = Request::new(body);
            *request.method_mut() = method;
            *request.uri_mut() = "/a?b".parse().unwrap();
            request.headers_mut().insert("host", HeaderValue::from_static("h"));
            let mut bytes = Vec::new();
            let encoding = write(&Outgoing { request, own: None }, &mut bytes);
            (String::from_utf8(bytes).unwrap(), encoding)
        };
        let head = "GET /a?b HTTP/1.1\r\nhost: h\r\n\r\n".to_owned();
        assert_eq!(written(Method::GET, RequestBody::empty()), (head, Encoding::Empty));
        let head = "POST /a?b HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n".to_owned();
        assert_eq!(written(Method::POST, RequestBody::empty()), (head, Encoding::Empty));
        let head = "PUT /a?b HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n".to_owned();
        assert_eq!(written(Method::PUT, RequestBody::held("abc".into())), (head, Encoding::Length(3)));
    }

    #[test]
    fn an_answer_has_one_length_or_is_refused() {
        assert!(matches!(length("Content-Length: 5, 5\r\ncontent-length: 5\r\n"), Ok(Framing::Length(5))));
        assert!(matches!(length(""), Ok(Framing::UntilClose)));
        assert!(matches!(length("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked(_))));
        for bad in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551621\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(length(bad).err(), Some(AnswerError::Length), "{bad}");
        }
        assert!(read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_length_is_said_in_one_form() {
        let head =
            read("HTTP/1.1 200 OK\r\nContent-Length: 05, 5\r\nContent-Length: 5\r\n\r\n").unwrap().unwrap();
        let lengths: Vec<_> = head.response.headers().get_all(CONTENT_LENGTH).iter().collect();
        assert_eq!(lengths, ["5"]);
    }

    #[test]
    fn some_answers_have_no_body_whatever_they_say() {
        for status in ["100 Continue", "101 Switching Protocols", "204 No Content", "304 Not Modified"] {
            let head = read(&format!("HTTP/1.1 {status}\r\nContent-Length: 60\r\n\r\n")).unwrap().unwrap();
            assert!(matches!(head.framing, Framing::Length(0)), "{status}");
        }
        let mut answer = Bytes::from_static(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n");
        let head = parse(&mut answer, true).unwrap().unwrap();
        assert!(matches!(head.framing, Framing::Length(0)));
        assert_eq!(&*answer, b"5\r\n", "what follows stays");
    }

    #[test]
    fn a_connection_is_kept_as_its_version_says() {
        let kept = |text: &str| read(text).unwrap().unwrap().keeps_alive;
        assert!(kept("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n"));
        assert!(!kept("HTTP/1.0 200 OK\r\n\r\n"));
        assert!(kept("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn a_head_is_waited_for_and_bounded() {
        assert!(read("HTTP/1.1 200 OK\r\nA: b\r\n").unwrap().is_none());
        let many: String = (0..=MOST_FIELDS).map(|n| format!("x-{n}: 1\r\n")).collect();
        assert_eq!(length(&many).err(), Some(AnswerError::HeadTooLarge));
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MOST_HEAD));
        assert_eq!(read(&long).err(), Some(AnswerError::HeadTooLarge));
        assert_eq!(read("ok just text\r\n\r\n").err(), Some(AnswerError::Head));
        assert_eq!(read("HTTP/1.1 99999 Odd\r\n\r\n").err(), Some(AnswerError::Head));
        assert_eq!(length("X: a\r\n b\r\n").err(), Some(AnswerError::Head));
        assert_eq!(length("Content-Length : 2\r\n").err(), Some(AnswerError::Head));
    }
}
