//! The request as the upstream gets it: what the gateway knows, in fields that nobody else can set.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Uri};
use identity::PrincipalKind;
use telemetry::Traceparent;
use tls::Handshake;

use crate::authenticate::Caller;
use crate::body::RequestBody;
use crate::connection::Connection;
use crate::cors::one;
use crate::normalize::{Canonical, with_path};
use crate::refusal::Refusal;
use crate::route::{Rewrite, Route, filled, remove_spelled};
use crate::upstream::{FieldCredential, field};

/// Field values that are the same for every request of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionFields {
    address: IpAddr,
    scheme: &'static str,
    /// `X-Forwarded-Client-Cert`.
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
            scheme: if handshake.is_some() { "https" } else { "http" },
            certificate: peer.and_then(|peer| client_cert(peer, &fingerprint)),
            fingerprint,
            certificate_name: peer.map(|p| p.certificate.principal.id.to_string()).unwrap_or_default(),
            serial: peer.map(|p| p.certificate.serial.to_ascii_lowercase()).unwrap_or_default(),
        }
    }
}

/// A request as its upstream gets it.
#[derive(Debug)]
pub struct Outgoing {
    /// The caller's, cleaned, with what its route sets.
    pub request: Request<RequestBody>,
    /// What only the gateway says; none once it stands among the fields of the request.
    pub own: Option<OwnFields>,
}

impl Outgoing {
    /// The value of a field; none if it is not there, or there more than once.
    pub(crate) fn one(&self, name: &HeaderName) -> Option<HeaderValue> {
        one(self.request.headers(), name).cloned().or_else(|| self.own.as_ref()?.get(name))
    }

    /// The gateway's own fields become fields of the request.
    pub(crate) fn merge(&mut self) {
        if let Some(own) = self.own.take() {
            let headers = self.request.headers_mut();
            for (name, value) in own.hop.fields().iter().cloned().chain(own.ids()) {
                headers.insert(name, value);
            }
        }
    }
}

/// What only the gateway says of a request: no caller's field of these names passes, and no route sets one.
#[derive(Clone, Debug)]
pub struct OwnFields {
    hop: Rc<Hop>,
    trace: Traceparent,
}

impl OwnFields {
    fn ids(&self) -> [(HeaderName, HeaderValue); 2] {
        [(X_REQUEST_ID, id_value(&self.trace.trace.encode())), (TRACEPARENT, id_value(&self.trace.encode()))]
    }

    fn get(&self, name: &HeaderName) -> Option<HeaderValue> {
        let fields = self.hop.fields().iter().cloned().chain(self.ids());
        fields.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Writes them as field lines of HTTP/1.1.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.hop.lines);
        field(to, "x-request-id", &self.trace.trace.encode());
        field(to, "traceparent", &self.trace.encode());
    }
}

/// The fields that are the same for all requests of one client for one host on a connection: made once for the connection's peer (for each
/// request whose client a trusted proxy tells) and written in one piece, since to put ten fields into a map for each takes longer than to route it.
#[derive(Debug)]
pub(crate) struct Hop {
    /// `name: value`, each with its end of line.
    lines: Vec<u8>,
    /// The same as fields: for HTTP/2, and for an endpoint chosen by one of them.
    fields: OnceCell<Box<[(HeaderName, HeaderValue)]>>,
}

impl Hop {
    fn new(client: IpAddr, host: &HeaderValue, connection: &ConnectionFields) -> Self {
        let ConnectionFields { scheme, certificate, .. } = connection;
        let mut lines = Vec::with_capacity(512);
        let mut line = |name, value: &[u8]| field(&mut lines, name, value);
        let address = client.to_string();
        line("forwarded", forwarded_value(client, host, scheme).as_bytes());
        line("x-forwarded-for", address.as_bytes());
        line("x-real-ip", address.as_bytes());
        line("x-forwarded-host", host.as_bytes());
        line("x-forwarded-proto", scheme.as_bytes());
        if let Some(certificate) = certificate {
            line("x-forwarded-client-cert", certificate.as_bytes());
        }
        line("via", b"1.1 portcullis");
        Self { lines, fields: OnceCell::new() }
    }

    fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        self.fields.get_or_init(|| {
            let lines = self.lines.split(|byte| *byte == b'\n');
            let fields = lines.filter_map(|line| {
                let mut parts = line.splitn(2, |byte| *byte == b':');
                let name = HeaderName::from_bytes(parts.next()?).ok()?;
                Some((name, HeaderValue::from_bytes(parts.next()?.trim_ascii()).ok()?))
            });
            fields.collect()
        })
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
) -> Result<Outgoing, Refusal> {
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
    head.headers.insert(HOST, canonical.host.value.clone());
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
    Ok(Outgoing { request, own: Some(OwnFields { hop: hop(canonical, about), trace: about.trace }) })
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
}

fn hop(canonical: &Canonical, about: &About<'_>) -> Rc<Hop> {
    let fields = &about.connection.fields;
    let new = || Rc::new(Hop::new(about.client, &canonical.host.value, fields));
    match about.client == fields.address {
        true => canonical.host.hop.get_or_init(new).clone(),
        false => new(),
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Carries the trace id, so that a log line is found by either.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Marked as never to be indexed: HPACK's table has no room for values that never come again (RFC 7541 section 7.1.3).
pub(crate) fn id_value(id: &[u8]) -> HeaderValue {
    let mut value = HeaderValue::from_bytes(id).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// RFC 7239: an IPv6 address is quoted and in brackets, a host with a port is quoted.
fn forwarded_value(client: IpAddr, host: &HeaderValue, scheme: &str) -> String {
    let host = host.to_str().unwrap_or_default();
    match client {
        IpAddr::V4(v4) => format!("for={v4};host=\"{host}\";proto={scheme}"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\";host=\"{host}\";proto={scheme}"),
    }
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

#[cfg(test)]
mod tests {
    use telemetry::TraceIds;

    use super::*;
    use crate::normalize::fields::Reserved;

    #[test]
    fn both_versions_of_http_tell_the_upstream_the_same() {
        let ids = TraceIds::new();
        let trace = Traceparent { trace: ids.trace(), parent: ids.span(), sampled: true };
        let mut connection = ConnectionFields::new("[2001:db8::1]:9".parse().unwrap(), None);
        connection.certificate = Some(HeaderValue::from_static("Hash=00;Subject=\"CN=a: b\""));
        let host = HeaderValue::from_static("gw.test:8443");
        let hop = Rc::new(Hop::new(connection.address, &host, &connection));
        let own = OwnFields { hop, trace };
        let mut lines = Vec::new();
        own.write(&mut lines);
        let mut outgoing = Outgoing { request: Request::new(RequestBody::empty()), own: Some(own) };
        assert_eq!(outgoing.one(&HeaderName::from_static("x-real-ip")).unwrap(), "2001:db8::1");
        outgoing.merge();
        let fields = outgoing.request.headers();
        assert_eq!(fields["forwarded"], "for=\"[2001:db8::1]\";host=\"gw.test:8443\";proto=http");
        assert_eq!(fields["x-request-id"], String::from_utf8_lossy(&trace.trace.encode()).as_ref());
        let mut told: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect();
        let lines = String::from_utf8(lines).unwrap();
        let mut written: Vec<&str> = lines.split_inclusive('\n').collect();
        told.sort_unstable();
        written.sort_unstable();
        assert_eq!(told, written);
        assert_eq!(told.len(), 9);
        let reserved = Reserved::default();
        for line in written {
            let name = line.split(':').next().unwrap();
            assert!(reserved.contains(name), "a caller's `{name}` would pass beside ours");
        }
    }
}
