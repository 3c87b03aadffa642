//! One canonical request: path, host and fields get their one reading here, before routing.
//!
//! Route, policy, limit, log and upstream see the same bytes; what has two readings is refused.

pub mod authority;
pub mod client;
pub mod fields;
pub mod path;

use std::cell::OnceCell;
use std::rc::Rc;

use http::header::HOST;
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Uri};

use crate::connection::Connection;
use crate::forward::Hop;
use crate::refusal::Refusal;
use crate::snapshot::Bounds;
use crate::upgrade::{Asked, asked};
use authority::authority;
use fields::{Reserved, clean_request};
use path::{CanonicalPath, Oddities, canonical_path};

/// Host and target in canonical form.
#[derive(Clone, Debug)]
pub struct Canonical {
    /// The host.
    pub host: Rc<HostFacts>,
    /// Path and query; the path is canonical, the query as it came.
    pub target: PathAndQuery,
    /// What was unusual about the path.
    pub oddities: Oddities,
    /// What is asked to be spoken instead of HTTP.
    pub upgrade: Asked,
}

/// A host, and the field values made of it; one connection mostly asks for one host.
#[derive(Debug)]
pub struct HostFacts {
    /// Lower case, without port.
    pub name: Box<str>,
    /// Name and port, for `Host` and `X-Forwarded-Host`.
    pub value: HeaderValue,
    /// The fields of requests whose client is the connection's peer.
    pub(crate) hop: OnceCell<Rc<Hop>>,
    /// The host as the client spelled it.
    spelled: Box<[u8]>,
}

/// Reads the head of a request once, and cleans it in place.
///
/// # Errors
/// When any part of it has two readings, or none.
pub fn normalize(
    head: &mut Parts,
    connection: &Connection,
    bounds: &Bounds,
    reserved: &Reserved,
) -> Result<Canonical, Refusal> {
    let upgrade = asked(head);
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(match upgrade {
            Some(Err(error)) => Refusal::Upgrade(error),
            Some(Ok(_)) | None => Refusal::MethodUnsupported,
        });
    }
    if head.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(Refusal::SchemeUnknown);
    }
    let host = host(head, connection)?;
    let (target, oddities) = canonical_target(&head.uri, bounds)?;
    clean_request(&mut head.headers, reserved)?;
    Ok(Canonical { host, target, oddities, upgrade })
}

/// The canonical path with its query, and what was unusual about it.
///
/// # Errors
/// When the target is too long, or its path has two readings, or none.
pub fn canonical_target(uri: &Uri, bounds: &Bounds) -> Result<(PathAndQuery, Oddities), Refusal> {
    let target = uri.path_and_query().ok_or(Refusal::Path(path::PathError::Relative))?;
    if target.as_str().len() > bounds.uri_bytes {
        return Err(Refusal::UriTooLong);
    }
    if target.query().is_some_and(|query| !query.bytes().all(is_query_byte)) {
        return Err(Refusal::Path(path::PathError::RawCharacter));
    }
    let CanonicalPath { path, oddities } = canonical_path(target.path())?;
    let target = if path == target.path() { target.clone() } else { with_path(&path, target.query())? };
    Ok((target, oddities))
}

/// The same query behind another path.
///
/// # Errors
/// When together they are no request target.
pub(crate) fn with_path(path: &str, query: Option<&str>) -> Result<PathAndQuery, Refusal> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    PathAndQuery::try_from(text).map_err(|_| Refusal::Path(path::PathError::RawCharacter))
}

fn host(head: &Parts, connection: &Connection) -> Result<Rc<HostFacts>, Refusal> {
    let mut known = connection.last_host.borrow_mut();
    let spelled = spelled_once(head);
    if let (Some(spelled), Some(host)) = (spelled, &*known)
        && *host.spelled == *spelled
    {
        return Ok(host.clone());
    }
    let authority = authority(&head.uri, &head.headers)?;
    let value = match authority.port {
        Some(port) => HeaderValue::try_from(format!("{}:{port}", authority.host)),
        None => HeaderValue::from_str(&authority.host),
    };
    let host = Rc::new(HostFacts {
        name: authority.host.into(),
        value: value.map_err(|_| Refusal::Authority(authority::AuthorityError::Malformed))?,
        hop: OnceCell::new(),
        spelled: spelled.unwrap_or_default().into(),
    });
    if spelled.is_some() {
        *known = Some(host.clone());
    }
    Ok(host)
}

/// The one place where the host is named; none if there are several, or none.
fn spelled_once(head: &Parts) -> Option<&[u8]> {
    let mut fields = head.headers.get_all(HOST).iter();
    match (head.uri.authority(), fields.next(), fields.next()) {
        (Some(target), None, _) => Some(target.as_str().as_bytes()),
        (None, Some(field), None) => Some(field.as_bytes()),
        _ => None,
    }
}

/// Visible ASCII, without what no URI may hold and what some servers would take for a new request line.
const fn is_query_byte(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e)
}
