//! The request as the upstream gets it: what the gateway knows, in fields that nobody else can set.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use http::request::Parts;
use http::{Request, Uri};
use identity::PrincipalKind;
use telemetry::{TraceId, Traceparent};
use tls::Handshake;

use crate::authenticate::Caller;
use crate::body::RequestBody;
use crate::connection::Connection;
use crate::normalize::{Canonical, with_path};
use crate::refusal::Refusal;
use crate::route::{Rewrite, Route, filled, remove_spelled};
use crate::upstream::FieldCredential;

/// Field values that are the same for every request of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionFields {
    address: IpAddr,
    client: HeaderValue,
    scheme: HeaderValue,
    certificate: Option<HeaderValue>,
    /// SHA-256 of the client certificate in lower-case hex; empty without one.
    pub(crate) fingerprint: String,
    /// The client certificate's principal id; empty without one.
    pub(crate) certificate_name: String,
    /// The client certificate's serial number in lower-case hex; empty without one.
    pub(crate) serial: String,
}

impl ConnectionFields {
    /// The fields of a connection.
    #[must_use]
    pub(crate) fn new(peer: SocketAddr, handshake: Option<&Handshake>) -> Self {
        let address = peer.ip().to_canonical();
        let peer = handshake.and_then(|h| h.peer.as_deref());
        let fingerprint = peer.map(|p| hex(&p.certificate.fingerprint_sha256)).unwrap_or_default();
        Self {
            address,
            client: address_value(address),
            scheme: HeaderValue::from_static(if handshake.is_some() { "https" } else { "http" }),
            certificate: peer.and_then(|peer| client_cert(peer, &fingerprint)),
            fingerprint,
            certificate_name: peer.map(|p| p.certificate.principal.id.to_string()).unwrap_or_default(),
            serial: peer.map(|p| p.certificate.serial.to_ascii_lowercase()).unwrap_or_default(),
        }
    }
}

/// Turns a permitted request into the one that is forwarded; its fields are taken.
///
/// # Errors
/// When the rewritten path would be read otherwise than it was decided.
pub(crate) fn forwarded(
    head: &mut Parts,
    body: RequestBody,
    canonical: &Canonical,
    route: &Route,
    rewrite: Option<&Rewrite>,
    about: &About<'_>,
    shown: Shown<'_>,
) -> Result<Request<RequestBody>, Refusal> {
    let target = match rewrite {
        Some(rewrite) => with_path(&rewrite.apply(canonical.target.path())?, canonical.target.query())?,
        None => canonical.target.clone(),
    };
    if !route.forward_credentials || shown.token.is_some() {
        head.headers.remove(AUTHORIZATION);
    }
    if !route.remove_fields.is_empty() {
        remove_spelled(&mut head.headers, &route.remove_fields);
    }
    set_fields(&mut head.headers, canonical, about);
    for (name, template) in &route.set_fields {
        head.headers.insert(name.clone(), filled(template, &about.caller.principal, about.client));
    }
    // Last: no rule above sets another value in their place.
    if let Some(token) = shown.token {
        head.headers.insert(AUTHORIZATION, token);
    }
    if let Some(credential) = shown.credential {
        head.headers.insert(credential.name().clone(), credential.value().clone());
    }
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from(target);
    *request.headers_mut() = std::mem::take(&mut head.headers);
    Ok(request)
}

/// What the upstream is shown of the gateway's own.
#[derive(Debug, Default)]
pub(crate) struct Shown<'a> {
    /// `Authorization`, minted for the caller.
    pub token: Option<HeaderValue>,
    /// The upstream's credential.
    pub credential: Option<&'a FieldCredential>,
}

/// What is known of a request when it is forwarded.
#[derive(Debug)]
pub(crate) struct About<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// The client's address.
    pub client: IpAddr,
    /// The connection it came on.
    pub connection: &'a Connection,
    /// Its trace.
    pub trace: Traceparent,
    /// The trace's id as a field value.
    pub request_id: &'a HeaderValue,
}

/// At most so many fields are set, so that the map grows once.
const FIELDS: usize = 10;

fn set_fields(headers: &mut HeaderMap, canonical: &Canonical, about: &About<'_>) {
    let fields = &about.connection.fields;
    let client =
        if about.client == fields.address { fields.client.clone() } else { address_value(about.client) };
    let host = &canonical.host.value;
    let forwarded = || forwarded_value(about.client, host, &fields.scheme);
    headers.reserve(FIELDS);
    headers.insert(HOST, host.clone());
    headers.insert(
        FORWARDED,
        match about.client == fields.address {
            true => canonical.host.forwarded.get_or_init(forwarded).clone(),
            false => forwarded(),
        },
    );
    headers.insert(X_FORWARDED_FOR, client.clone());
    headers.insert(X_REAL_IP, client);
    headers.insert(X_FORWARDED_HOST, host.clone());
    headers.insert(X_FORWARDED_PROTO, fields.scheme.clone());
    if let Some(certificate) = &fields.certificate {
        headers.insert(X_FORWARDED_CLIENT_CERT, certificate.clone());
    }
    headers.insert(X_REQUEST_ID, about.request_id.clone());
    if let Ok(mut value) = HeaderValue::from_bytes(&about.trace.encode()) {
        value.set_sensitive(true);
        headers.insert(TRACEPARENT, value);
    }
    headers.insert(VIA, HeaderValue::from_static("1.1 portcullis"));
}

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Carries the trace id, so that a log line is found by either.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Marked as never to be indexed: HPACK's table has no room for values that never come again (RFC 7541 section 7.1.3).
pub(crate) fn id_value(trace: TraceId) -> HeaderValue {
    let mut value = HeaderValue::from_bytes(&trace.encode()).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

/// RFC 7239: an IPv6 address is quoted and in brackets, a host with a port is quoted.
fn forwarded_value(client: IpAddr, host: &HeaderValue, scheme: &HeaderValue) -> HeaderValue {
    let (host, scheme) = (host.to_str().unwrap_or_default(), scheme.to_str().unwrap_or_default());
    let text = match client {
        IpAddr::V4(v4) => format!("for={v4};host=\"{host}\";proto={scheme}"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\";host=\"{host}\";proto={scheme}"),
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("for=unknown"))
}

/// Envoy's `X-Forwarded-Client-Cert`: hash, subject, URI and DNS names of the certificate of this very connection. The URI
/// only where it is the proven id: elsewhere nobody judged it, and a `;` or `,` in it would begin another name.
fn client_cert(peer: &tls::Peer, fingerprint: &str) -> Option<HeaderValue> {
    let certificate = &peer.certificate;
    let mut text = format!("Hash={fingerprint};Subject=\"");
    for character in certificate.subject.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            other => text.extend(other.escape_unicode()),
        }
    }
    text.push('"');
    if let Some(uri) = &certificate.uri
        && certificate.principal.id.kind() == PrincipalKind::Spiffe
    {
        let _ = write!(text, ";URI={uri}");
    }
    for name in &certificate.dns {
        let _ = write!(text, ";DNS={name}");
    }
    HeaderValue::try_from(text).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
