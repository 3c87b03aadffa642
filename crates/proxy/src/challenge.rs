//! The answer to an ACME server that validates a name over plain HTTP (RFC 8555 section 8.3).
//!
//! **Answered:** GET and HEAD for the token of a proof that is being shown ([`tls::acme`]), for the host that it proves, on a plain
//! listener. It needs no permit, as the redirect of such a listener needs none, and tells no more than the order itself has told
//! the ACME server. **Not answered here:** everything else; it goes on to the redirect or the routes as if this were not here.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use crate::connection::Connection;
use crate::normalize::Canonical;

/// The key authorization that is asked for, if it is.
pub(crate) fn proof(connection: &Connection, method: &Method, canonical: &Canonical) -> Option<Bytes> {
    if connection.handshake().is_some() || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let token = canonical.target.path().strip_prefix(PATH)?;
    tls::acme::key_authorization(&canonical.host.name, token)
        .map(|shown: Arc<str>| Bytes::copy_from_slice(shown.as_bytes()))
}

const PATH: &str = "/.well-known/acme-challenge/";
