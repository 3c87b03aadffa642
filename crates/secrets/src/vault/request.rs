//! A request, made from an endpoint type of vaultrs or of ours.
//!
//! Of rustify only the four accessors are used: what executes requests there writes spans, follows nothing of ours and loses
//! the headers of an error.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method};
use rustify::endpoint::Endpoint;
use rustify::enums::RequestMethod;
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zeroize::Zeroizing;

use super::answer::Operation;
use crate::Cause;

/// One request, to whichever node.
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) method: Method,
    /// Without a slash at its start and without `v1`.
    pub(super) path: String,
    pub(super) query: Option<String>,
    /// Wiped when the last copy is dropped.
    pub(super) body: Bytes,
}

impl Request {
    /// # Errors
    /// An endpoint that does not fit into a request.
    pub(super) fn new<E: Endpoint>(operation: Operation, endpoint: &E) -> Result<Self, Cause> {
        let unwritable = |_| Cause::Refused("the request cannot be written".to_owned());
        let body = endpoint.body().map_err(unwritable)?.unwrap_or_default();
        let query = endpoint.query().map_err(unwritable)?.filter(|query| !query.is_empty());
        let (method, query) = match endpoint.method() {
            // Verbs of one's own are dropped by boxes on the way.
            RequestMethod::LIST => {
                (Method::GET, Some(query.map_or_else(|| LIST.to_owned(), |query| format!("{query}&{LIST}"))))
            }
            method => (method.into(), query),
        };
        let path = endpoint.path().trim_matches(|c: char| c == '/' || c.is_whitespace()).to_owned();
        Ok(Self { operation, method, path, query, body: Bytes::from_owner(Zeroizing::new(body)) })
    }

    /// Whether it may be sent again when it is not known whether it was done.
    pub(super) fn is_repeatable(&self) -> bool {
        match self.operation {
            // Each one makes a user of the database.
            Operation::Database => false,
            Operation::Token | Operation::Lease | Operation::Health => true,
            Operation::Kv | Operation::Pki | Operation::Transit | Operation::Login => {
                self.method == Method::GET
            }
        }
    }

    /// As it goes to the node at `base`.
    ///
    /// # Errors
    /// A token or namespace that no field can hold.
    pub(super) fn to_node(
        &self,
        base: &Url,
        namespace: Option<&str>,
        token: Option<&SecretString>,
    ) -> Result<http::Request<Bytes>, Cause> {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(self.path.split('/'));
        }
        url.set_query(self.query.as_deref());
        let unwritable = |_| Cause::Refused("the request cannot be written".to_owned());
        let mut request = http::Request::builder()
            .method(self.method.clone())
            .uri(url.as_str())
            .header("x-vault-request", "true")
            .header(ACCEPT, "application/json")
            .body(self.body.clone())
            .map_err(unwritable)?;
        let headers = request.headers_mut();
        if !self.body.is_empty() {
            let patch = self.method == Method::PATCH;
            let kind = if patch { "application/merge-patch+json" } else { "application/json" };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        // Health is asked of the root; elsewhere the namespace stands in the field, never in the path.
        if let Some(namespace) = namespace.filter(|_| self.operation != Operation::Health) {
            let value = HeaderValue::from_str(namespace.trim_matches('/'))
                .map_err(|_| Cause::Refused("the namespace is no header value".to_owned()))?;
            headers.insert("x-vault-namespace", value);
        }
        if let Some(token) = token {
            headers.insert("x-vault-token", sensitive(token)?);
        }
        Ok(request)
    }
}

fn sensitive(token: &SecretString) -> Result<HeaderValue, Cause> {
    let mut value = HeaderValue::from_str(token.expose_secret())
        .map_err(|_| Cause::LoginRefused("the token has characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

const LIST: &str = "list=true";
