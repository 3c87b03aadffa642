//! Upgrades: what a client asks to speak instead of HTTP (RFC 9110 section 7.8, RFC 6455 section 4, RFC 8441), and whether the
//! upstream's answer agrees.
//!
//! **Passes** where the route lists the protocol: one protocol, named once, of a request without a body; a WebSocket moreover
//! is asked for by GET, with version 13 and one key of 16 bytes. Over HTTP/2 the same comes as an extended CONNECT.
//! **Ignored**, as on every route without upgrades: an upgrade that `Connection` does not list, one over HTTP/1.0, a protocol
//! that the route does not list. **Refused**: on a route with upgrades, whatever has two readings; and each CONNECT that is
//! no upgrade of its route.
//!
//! INVARIANT: the client is told that the protocol changes if and only if the upstream said so of the protocol that was asked
//! for. Whatever else the upstream answers is an answer over HTTP, and bytes of the client's that were already on their
//! way are read as HTTP or not at all.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;

use crate::normalize::fields::list;
use crate::refusal::Refusal;

/// A protocol that a route may let through: `websocket`, in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Protocol(HeaderValue);

/// Why a word is no protocol that a route may let through.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    /// HTTP, or what carries it: requests inside would pass no policy.
    #[error("requests inside it would pass no policy")]
    CarriesRequests,
    /// Not of the form `name` or `name/version` (RFC 9110 section 7.8).
    #[error("not the name of a protocol")]
    Malformed,
}

impl Protocol {
    /// Reads a protocol, in any case.
    ///
    /// # Errors
    /// It is no name, or one that carries HTTP requests past the gateway: `h2c`, `http`, `tls`, tunnels of CONNECT.
    pub fn parse(text: &str) -> Result<Self, ProtocolError> {
        let lower = text.to_ascii_lowercase();
        let mut parts = lower.splitn(2, '/');
        let name = parts.next().unwrap_or_default();
        if ![Some(name), parts.next()].into_iter().flatten().all(is_token) {
            return Err(ProtocolError::Malformed);
        }
        if CARRYING.contains(&name) || name.starts_with("connect-") {
            return Err(ProtocolError::CarriesRequests);
        }
        HeaderValue::try_from(lower).map(Self).map_err(|_| ProtocolError::Malformed)
    }

    /// True for WebSockets (RFC 6455).
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.0 == WEBSOCKET
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// Why an upgrade is refused on a route that allows some.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UpgradeError {
    /// The request has a body.
    #[error("the request has a body")]
    Body,
    /// No `Sec-WebSocket-Key`, several, or one that is not 16 bytes in base64.
    #[error("not one `Sec-WebSocket-Key` of 16 bytes")]
    Key,
    /// A WebSocket that is not asked for by GET.
    #[error("a WebSocket begins with GET")]
    Method,
    /// Not one protocol of the form `name` or `name/version`.
    #[error("not one protocol")]
    Protocol,
    /// A version of WebSockets other than 13, or several.
    #[error("not `Sec-WebSocket-Version: 13`")]
    Version,
}

/// What a client asks to speak instead of HTTP.
#[derive(Clone, Debug)]
pub struct Upgrade {
    protocol: Protocol,
    /// Of a WebSocket; over HTTP/2 there is none until the upstream is asked.
    key: Option<HeaderValue>,
    /// Over HTTP/2: where the stream comes from once the client was told.
    stream: Option<OnUpgrade>,
}

/// What a request says of an upgrade: nothing, mostly. It is judged when its route is known.
pub type Asked = Option<Result<Upgrade, UpgradeError>>;

/// Takes out of a request's head what it says of an upgrade; an extended CONNECT that can be read
/// is a GET from then on (RFC 8441 section 5), any other stays what it was.
pub fn asked(head: &mut Parts) -> Asked {
    // hyper marks each request that could be one: nothing is looked at of all others.
    let stream = head.extensions.remove::<OnUpgrade>()?;
    if head.method == Method::CONNECT {
        let protocol = head.extensions.remove::<hyper::ext::Protocol>()?;
        return Some(extended_connect(&protocol, head, stream));
    }
    by_field(head)
}

fn extended_connect(
    protocol: &hyper::ext::Protocol,
    head: &mut Parts,
    stream: OnUpgrade,
) -> Result<Upgrade, UpgradeError> {
    let protocol = Protocol::parse(protocol.as_str()).map_err(|_| UpgradeError::Protocol)?;
    if protocol.is_websocket() {
        check_version(&head.headers)?;
        head.headers.remove(SEC_WEBSOCKET_KEY);
    }
    head.method = Method::GET;
    Ok(Upgrade { protocol, key: None, stream: Some(stream) })
}

fn by_field(head: &Parts) -> Asked {
    let is_listed = |value| list(value).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    let is_asked = head.version == Version::HTTP_11
        && head.headers.contains_key(UPGRADE)
        && head.headers.get_all(CONNECTION).iter().any(is_listed);
    is_asked.then(|| {
        let named = only(&head.headers, &UPGRADE).and_then(|value| value.to_str().ok());
        let protocol = Protocol::parse(named.ok_or(UpgradeError::Protocol)?);
        let protocol = protocol.map_err(|_| UpgradeError::Protocol)?;
        let is_empty = head.headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
        if !is_empty || head.headers.contains_key(TRANSFER_ENCODING) {
            return Err(UpgradeError::Body);
        }
        let key = if protocol.is_websocket() { Some(websocket_key(head)?) } else { None };
        Ok(Upgrade { protocol, key, stream: None })
    })
}

/// The key of a WebSocket's handshake, whose other conditions are met too (RFC 6455 section 4.2.1).
fn websocket_key(head: &Parts) -> Result<HeaderValue, UpgradeError> {
    if head.method != Method::GET {
        return Err(UpgradeError::Method);
    }
    check_version(&head.headers)?;
    let key = only(&head.headers, &SEC_WEBSOCKET_KEY).ok_or(UpgradeError::Key)?;
    match STANDARD.decode(key) {
        Ok(bytes) if bytes.len() == KEY => Ok(key.clone()),
        Ok(_) | Err(_) => Err(UpgradeError::Key),
    }
}

fn check_version(headers: &HeaderMap) -> Result<(), UpgradeError> {
    match only(headers, &SEC_WEBSOCKET_VERSION) {
        Some(version) if version == "13" => Ok(()),
        Some(_) | None => Err(UpgradeError::Version),
    }
}

/// The upgrade that a route lets through, if it does.
///
/// # Errors
/// On a route with upgrades, one that has two readings; and over HTTP/2 each that the route does not list.
pub fn allowed(asked: &Asked, by: &[Protocol]) -> Result<Option<Upgrade>, Refusal> {
    match asked {
        None => Ok(None),
        Some(Ok(upgrade)) if by.contains(&upgrade.protocol) => Ok(Some(upgrade.clone())),
        // Over HTTP/2 there is no request to go on with.
        Some(Ok(Upgrade { stream: Some(_), .. })) => Err(Refusal::MethodUnsupported),
        Some(Err(error)) if !by.is_empty() => Err(Refusal::Upgrade(*error)),
        Some(Ok(_) | Err(_)) => Ok(None),
    }
}

/// A client whose upgrade came to nothing may have begun to speak the other protocol: nothing more is read from it.
/// Over HTTP/2 that is the stream's end anyway, and hyper drops the field.
pub(crate) fn close_unless_switched<B>(response: &mut Response<B>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

impl Upgrade {
    /// Asks the upstream for it; `nonce` becomes the key of a WebSocket whose client has none.
    pub(crate) fn ask(&mut self, headers: &mut HeaderMap, nonce: impl FnOnce() -> [u8; KEY]) {
        headers.remove(TE);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, self.protocol.0.clone());
        if self.protocol.is_websocket() {
            if self.key.is_none() {
                self.key = HeaderValue::try_from(STANDARD.encode(nonce())).ok();
            }
            if let Some(key) = &self.key {
                headers.insert(SEC_WEBSOCKET_KEY, key.clone());
            }
        }
    }

    /// False for an answer that its client would take for another than the upstream gave: a change to a protocol that nobody
    /// asked for, or over HTTP/2 a success that changes none.
    pub(crate) fn is_answered(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return self.stream.is_none() || !status.is_success();
        }
        let named = only(headers, &UPGRADE).map(HeaderValue::as_bytes);
        let is_listed = |value| list(value).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        let is_accepted = match &self.key {
            None => true,
            Some(key) => only(headers, &SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| *accept == accepting(key)),
        };
        named.is_some_and(|named| named.eq_ignore_ascii_case(self.protocol.0.as_bytes()))
            && headers.get_all(CONNECTION).iter().any(is_listed)
            && is_accepted
    }

    /// Tells the client, in its own protocol; the fields of the connection are gone from `headers`. Over HTTP/2 comes back
    /// where the stream will come from.
    pub(crate) fn tell(self, headers: &mut HeaderMap) -> (StatusCode, Option<OnUpgrade>) {
        if self.stream.is_some() {
            headers.remove(SEC_WEBSOCKET_ACCEPT);
            return (StatusCode::OK, self.stream);
        }
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, self.protocol.0);
        (StatusCode::SWITCHING_PROTOCOLS, None)
    }
}

/// What a server answers to a key (RFC 6455 section 4.2.2).
fn accepting(key: &HeaderValue) -> String {
    STANDARD.encode(identity::sha1(&[key.as_bytes(), GUID].concat()))
}

/// The value of a field that stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

const WEBSOCKET: &str = "websocket";
/// Other ways to say HTTP (RFC 9110 section 7.8, RFC 2817, RFC 7540 section 3.2), and proxying (RFC 9298, RFC 9484).
const CARRYING: [&str; 5] = ["h2", "h2c", "h3", "http", "tls"];
/// Bytes of a WebSocket's key.
pub(crate) const KEY: usize = 16;
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests;
