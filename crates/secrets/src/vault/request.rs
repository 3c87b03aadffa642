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

#[cfg(test)]
mod tests {
    use rustify_derive::Endpoint;

    use super::*;

    #[derive(Endpoint)]
    #[endpoint(path = "/{self.path}", method = "LIST")]
    struct List {
        #[endpoint(skip)]
        path: String,
    }

    #[derive(Endpoint)]
    #[endpoint(path = "sys/health")]
    struct Health {}

    fn sent(operation: Operation, path: &str) -> http::Request<Bytes> {
        let request = Request::new(operation, &List { path: path.to_owned() }).unwrap();
        let token = SecretString::from("hvs.canary");
        request.to_node(&"https://vault:8200".parse().unwrap(), Some("/team/a/"), Some(&token)).unwrap()
    }

    #[test]
    fn a_list_is_a_get_and_every_part_of_a_path_stays_one() {
        let request = sent(Operation::Kv, "kv/metadata/a b?c#d%2e");
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri(), "https://vault:8200/v1/kv/metadata/a%20b%3Fc%23d%252e?list=true");
    }

    #[test]
    fn the_token_is_in_its_field_only_and_not_in_debug() {
        let request = sent(Operation::Kv, "kv/metadata/app");
        assert_eq!(request.headers()["x-vault-token"], "hvs.canary");
        assert_eq!(request.headers()["x-vault-request"], "true");
        assert!(!format!("{request:?}").contains("canary"));
    }

    #[test]
    fn the_namespace_is_sent_without_slashes_and_never_with_health() {
        assert_eq!(sent(Operation::Kv, "kv").headers()["x-vault-namespace"], "team/a");
        let health = Request::new(Operation::Health, &Health {}).unwrap();
        let health = health.to_node(&"https://vault:8200".parse().unwrap(), Some("team/a"), None).unwrap();
        assert!(!health.headers().contains_key("x-vault-namespace"));
    }

    #[test]
    fn a_token_that_no_field_can_hold_is_refused_without_being_quoted() {
        let request = Request::new(Operation::Health, &Health {}).unwrap();
        let token = SecretString::from("hvs.canary\nx-evil: 1");
        let refused =
            request.to_node(&"https://vault:8200".parse().unwrap(), None, Some(&token)).unwrap_err();
        assert!(matches!(refused, Cause::LoginRefused(said) if !said.contains("canary")));
    }

    #[test]
    fn what_makes_something_is_not_sent_twice() {
        let request = |operation| Request::new(operation, &Health {}).unwrap().is_repeatable();
        assert!(request(Operation::Kv) && request(Operation::Lease) && request(Operation::Token));
        assert!(!request(Operation::Database));
    }
}
