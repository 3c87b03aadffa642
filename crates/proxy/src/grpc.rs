//! gRPC over HTTP/2: which requests are calls, how long a call may take, and what a refusal is to its client. gRPC-Web is not spoken.
//!
//! A client of gRPC reads the status of a call, not that of HTTP: a call that is refused is answered 200 with `grpc-status` in
//! the head and nothing after it ("trailers-only"). Whatever the upstream answers passes as it is; an answer that is cut off on its
//! way ends with a status of ours in trailers.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use crate::body::{BROKE_OFF, BodyError, COMPRESSION_FAILED, UPSTREAM_STALLED};
use crate::lease::{LEASE_ENDED, LeaseEnd};
use crate::refusal::Refusal;

/// True for a call, on a connection that speaks HTTP/2.
pub(crate) fn is_call(head: &Parts) -> bool {
    head.method == Method::POST && is_message(&head.headers)
}

/// True for a body of gRPC's messages.
pub(crate) fn is_message(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How long the client waits for a call: the earlier of what it says in `grpc-timeout` and `whole`. None is for as long as it takes.
///
/// # Errors
/// When it says it otherwise than in at most eight digits and a unit.
pub(crate) fn deadline(headers: &HeaderMap, whole: Option<Duration>) -> Result<Option<Duration>, Refusal> {
    let mut said = headers.get_all(TIMEOUT).iter();
    let Some(first) = said.next() else { return Ok(whole) };
    let timeout = parsed(first.as_bytes()).filter(|_| said.next().is_none()).ok_or(Refusal::GrpcTimeout)?;
    Ok(Some(whole.map_or(timeout, |whole| whole.min(timeout)).min(LONGEST)))
}

fn parsed(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number = digits.iter().try_fold(0, |number: u64, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A refusal as the client of a call reads it. Fields that say when to come again stay.
pub(crate) fn refused(refusal: &Refusal, mut response: Response<Bytes>) -> Response<Bytes> {
    let (_, code, _) = refusal.row();
    *response.status_mut() = StatusCode::OK;
    *response.body_mut() = Bytes::new();
    let headers = response.headers_mut();
    for name in [&CONTENT_LENGTH, &CONNECTION] {
        headers.remove(name);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(u16::from(refusal.grpc_status())));
    headers.insert(MESSAGE, message(&refusal.to_string()));
    headers.insert(CODE, HeaderValue::from_static(code));
    response
}

/// The trailers of an answer that was cut off; none where its client reads no more, or it was the request that failed.
pub(crate) fn cut_off(error: &BodyError) -> Option<HeaderMap> {
    let (status, code) = match error {
        BodyError::LeaseEnded(why) => (lease_status(*why), LEASE_ENDED),
        BodyError::Silent => (DEADLINE_EXCEEDED, UPSTREAM_STALLED),
        BodyError::Transport(_) | BodyError::Upstream(_) => (UNAVAILABLE, BROKE_OFF),
        BodyError::Compression(_) => (UNAVAILABLE, COMPRESSION_FAILED),
        BodyError::Stalled | BodyError::TooLarge | BodyError::TooSlow | BodyError::GivenUp(_) => return None,
    };
    let mut trailers = HeaderMap::with_capacity(3);
    trailers.insert(STATUS, HeaderValue::from(status));
    trailers.insert(MESSAGE, message(&error.to_string()));
    trailers.insert(CODE, HeaderValue::from_static(code));
    Some(trailers)
}

/// What a client would be told that asks again now.
const fn lease_status(why: LeaseEnd) -> u16 {
    match why {
        LeaseEnd::Time => DEADLINE_EXCEEDED,
        LeaseEnd::Denied | LeaseEnd::Policy => PERMISSION_DENIED,
        LeaseEnd::Route => UNAVAILABLE,
        LeaseEnd::Proof | LeaseEnd::Connection => UNAUTHENTICATED,
    }
}

/// Percent-encoded but for visible ASCII and the blank (`Percent-Byte-Encoded` of the gRPC protocol).
fn message(text: &str) -> HeaderValue {
    let encoded = text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    });
    HeaderValue::try_from(encoded).unwrap_or(HeaderValue::from_static(""))
}

const DEADLINE_EXCEEDED: u16 = 4;
const PERMISSION_DENIED: u16 = 7;
const UNAVAILABLE: u16 = 14;
const UNAUTHENTICATED: u16 = 16;

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The stable code of the refusal table, beside the number that many refusals share.
const CODE: HeaderName = HeaderName::from_static("x-portcullis-code");

/// Eight digits of hours are 11,415 years: nobody waits longer than this.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn calls_are_told_by_method_and_media_type() {
        let is = |method: &str, media_type: &str| {
            let request =
                Request::builder().method(method).header(CONTENT_TYPE, media_type).body(()).unwrap();
            is_call(&request.into_parts().0)
        };
        for media_type in ["application/grpc", "application/grpc+proto", "application/grpc;charset=x"] {
            assert!(is("POST", media_type) && !is("GET", media_type), "{media_type}");
        }
        for media_type in
            ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grp"]
        {
            assert!(!is("POST", media_type), "{media_type}");
        }
    }

    #[test]
    fn a_deadline_is_eight_digits_and_a_unit_or_refused() {
        let deadline = |said: &[&'static str], whole| {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(TIMEOUT, HeaderValue::from_static(value));
            }
            deadline(&headers, whole).ok()
        };
        let second = Duration::from_secs(1);
        for (said, time) in [
            ("1S", second),
            ("1000m", second),
            ("1000000u", second),
            ("2M", 120 * second),
            ("1H", 3600 * second),
            ("7n", Duration::from_nanos(7)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(deadline(&[said], None), Some(Some(time)), "{said}");
        }
        assert_eq!(deadline(&["99999999H"], None), Some(Some(LONGEST)));
        assert_eq!(
            deadline(&["5S"], Some(second)),
            Some(Some(second)),
            "the upstream's own bound is earlier"
        );
        assert_eq!(deadline(&["5m"], Some(second)), Some(Some(Duration::from_millis(5))));
        assert_eq!(deadline(&[], Some(second)), Some(Some(second)));
        assert_eq!(deadline(&[], None), Some(None));
        for said in ["", "S", "1", "1s", "-1S", "+1S", " 1S", "1.5S", "123456789S", "1 S", "1SS", "0x1S"] {
            assert_eq!(deadline(&[said], None), None, "{said}");
        }
        assert_eq!(deadline(&["1S", "2S"], None), None, "two are one too many");
    }

    #[test]
    fn a_refusal_is_a_status_a_message_and_our_code() {
        let refusal = Refusal::UpstreamTimeout("100% größer\n".to_owned());
        let response =
            refused(&refusal, refusal.response(&telemetry::TraceIds::new().trace()).map(Bytes::from));
        let field = |name| response.headers()[name].to_str().unwrap();
        assert_eq!((response.status(), response.body().len()), (StatusCode::OK, 0));
        assert_eq!(
            (field(CONTENT_TYPE), field(STATUS), field(CODE)),
            ("application/grpc", "4", "UPSTREAM_TIMEOUT")
        );
        assert_eq!(field(MESSAGE), "upstream `100%25 gr%C3%B6%C3%9Fer%0A` did not answer in time");
    }
}
