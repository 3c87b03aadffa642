//! Why an ACME server gave no certificate.

use std::time::Duration;

use instant_acme::{Error, Problem};
use secrets::{Cause, StoreError};
use tls::acme::ProofError;

use super::transport::TransportError;
use crate::error::SourceError;

/// Why an ACME server gave no certificate. The text quotes the server's problem type and detail, never a key.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// No name is asked for.
    #[error("no name is asked for")]
    NoNames,
    /// A wildcard needs a challenge over DNS.
    #[error("`{0}` cannot be proven: a wildcard needs a challenge over DNS, which is not spoken here")]
    Wildcard(String),
    /// The directory is no `https` URL.
    #[error("the directory `{0}` is no `https` URL")]
    Directory(String),
    /// The key of the external account binding is not base64url.
    #[error("the key of the external account is not base64url")]
    BindingKey,
    /// Nothing that is kept can serve; it is ordered at the next try.
    #[error("no certificate is kept that can serve: it is ordered when the listeners are open")]
    NothingKept,
    /// The server refused with a problem document (RFC 8555 section 6.7).
    #[error("the server refuses: {detail} (`{kind}`)")]
    Problem {
        /// The problem type without the prefix that all of ACME's have.
        kind: String,
        /// The server's words.
        detail: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The server could not see the proof for a name.
    #[error("`{name}` is not proven: {detail} (`{kind}`)")]
    Validation {
        /// The name.
        name: String,
        /// The problem type.
        kind: String,
        /// The server's words.
        detail: String,
    },
    /// The server does not offer the challenge.
    #[error("the server offers no challenge `{wanted}` for `{name}`")]
    NoChallenge {
        /// The name.
        name: String,
        /// The configured challenge.
        wanted: &'static str,
    },
    /// The server's answers do not fit together.
    #[error("the server's answer cannot be used: {0}")]
    Answer(String),
    /// Not even a problem document.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The server did not come to an end in time.
    #[error("the order takes too long")]
    Slow,
    /// The proof cannot be shown.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// No key or request could be made.
    #[error("no key pair could be made: {0}")]
    Key(String),
    /// The state directory.
    #[error("{0}")]
    State(String),
}

impl AcmeError {
    /// With what the server said about when to come again.
    pub(super) fn after(self, retry_after: Option<Duration>) -> Self {
        match self {
            Self::Problem { kind, detail, .. } => Self::Problem { kind, detail, retry_after },
            other => other,
        }
    }

    /// Whether the server does not know the account.
    pub(super) fn is_unknown_account(&self) -> bool {
        matches!(self, Self::Problem { kind, .. } if kind == "accountDoesNotExist")
    }

    /// Whether somebody must act: the account, a name, DNS, a firewall, the configuration.
    fn is_configuration(&self) -> bool {
        match self {
            Self::NoNames
            | Self::Wildcard(_)
            | Self::Directory(_)
            | Self::BindingKey
            | Self::NoChallenge { .. }
            | Self::State(_) => true,
            Self::Problem { kind, .. } | Self::Validation { kind, .. } => !TEMPORARY.contains(&kind.as_str()),
            Self::NothingKept
            | Self::Answer(_)
            | Self::Transport(_)
            | Self::Slow
            | Self::Proof(_)
            | Self::Key(_) => false,
        }
    }

    /// When it is tried again at the earliest, where the plan's own backoff is not what it needs.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NothingKept => Some(Duration::ZERO),
            Self::Problem { kind, retry_after: None, .. } if kind == RATE_LIMITED => Some(RATE_LIMIT),
            Self::Problem { retry_after, .. } => *retry_after,
            Self::Transport(error) => error.retry_after(),
            _ => None,
        }
    }
}

impl From<Error> for AcmeError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => problem.into(),
            Error::Crypto | Error::KeyRejected => Self::Key("the account's key is refused".to_owned()),
            Error::Timeout(_) => Self::Slow,
            Error::Json(_) => Self::Answer("it is not what ACME says there".to_owned()),
            Error::Other(other) => match other.downcast::<TransportError>() {
                Ok(transport) => Self::Transport(*transport),
                Err(other) => Self::Answer(shortened(&other.to_string())),
            },
            // Ours to send, theirs to miss; the enum is open.
            other => Self::Answer(shortened(&other.to_string())),
        }
    }
}

impl From<Problem> for AcmeError {
    fn from(problem: Problem) -> Self {
        let (kind, detail) = words(&problem);
        Self::Problem { kind, detail, retry_after: None }
    }
}

impl From<AcmeError> for SourceError {
    fn from(error: AcmeError) -> Self {
        match error {
            AcmeError::Key(cause) => Self::Key(cause),
            AcmeError::State(cause) => {
                Self::Store(StoreError { store: "file".to_owned(), cause: Cause::Local(cause) })
            }
            error => Self::Acme {
                is_configuration: error.is_configuration(),
                retry_after: error.retry_after(),
                reason: error.to_string(),
            },
        }
    }
}

/// Type and detail of a problem, with those of its subproblems.
pub(super) fn words(problem: &Problem) -> (String, String) {
    let kind = problem.r#type.as_deref().unwrap_or("about:blank");
    let mut detail = problem.detail.clone().unwrap_or_else(|| "no detail".to_owned());
    for sub in &problem.subproblems {
        detail.push_str("; ");
        detail.push_str(&sub.to_string());
    }
    (shortened(kind.strip_prefix(PREFIX).unwrap_or(kind)), shortened(&detail))
}

/// A stranger's text for a log line: no control characters, not too much.
fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect()
}

const PREFIX: &str = "urn:ietf:params:acme:error:";
const RATE_LIMITED: &str = "rateLimited";
/// Problem types that pass by themselves.
const TEMPORARY: [&str; 4] = [RATE_LIMITED, "serverInternal", "badNonce", "orderNotReady"];
/// A server that limits and does not say for how long.
const RATE_LIMIT: Duration = Duration::from_secs(600);
const MOST: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn source_error(text: &str) -> SourceError {
        let problem: Problem = serde_json::from_str(text).unwrap();
        AcmeError::from(Error::Api(problem)).into()
    }

    #[test]
    fn a_rate_limit_is_waited_for_and_nobody_must_act() {
        let limited = source_error(
            r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates","status":429}"#,
        );
        assert_eq!(limited.retry_after(), Some(RATE_LIMIT));
        assert!(!limited.is_configuration());
        assert_eq!(limited.to_string(), "ACME: the server refuses: too many certificates (`rateLimited`)");
    }

    #[test]
    fn a_refused_name_is_for_somebody_to_act_on_and_told_with_its_subproblem() {
        let refused = source_error(
            r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no","status":400,
                "subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"CAA\nforbids",
                "identifier":{"type":"dns","value":"a.test"}}]}"#,
        );
        assert!(refused.is_configuration());
        assert_eq!(refused.retry_after(), None);
        assert_eq!(
            refused.to_string(),
            "ACME: the server refuses: no; for \"a.test\": CAA forbids (urn:ietf:params:acme:error:caa) \
             (`rejectedIdentifier`)"
        );
    }

    #[test]
    fn a_long_detail_is_cut() {
        let text = serde_json::json!({ "detail": "x".repeat(10_000) }).to_string();
        assert!(source_error(&text).to_string().len() < 600);
    }

    #[test]
    fn what_the_server_said_about_when_to_come_again_counts() {
        let problem = Problem { r#type: None, detail: None, status: None, subproblems: Vec::new() };
        let error = AcmeError::from(problem).after(Some(Duration::from_secs(7)));
        assert_eq!(SourceError::from(error).retry_after(), Some(Duration::from_secs(7)));
    }
}
