//! Response wrapping: an answer inside of a token that gives it once.
//!
//! A token that somebody else has used is an error of its own ([`UnwrapError::Used`]): what was inside may be in wrong hands.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use vaultrs::api::sys::requests::{UnwrapRequest, WrappingLookupRequest};

use super::Vault;
use super::answer::{Answer, Failure, Operation, Refusal, quotable};
use crate::{Cause, StoreError};

/// What is known about a wrapping token that was not used yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wrapping {
    /// Which request's answer is inside; to be compared whole.
    pub(super) creation_path: String,
    /// From its creation on.
    pub(super) ttl: Duration,
}

/// Why nothing came out of a wrapping token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum UnwrapError {
    /// Used before, expired, or never made.
    #[error("the wrapping token is used or expired: what was inside of it may be in wrong hands")]
    Used,
    /// The store gave nothing.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Vault {
    /// Looks at a wrapping token without using it.
    pub(super) async fn lookup_wrapping(&self, token: &SecretString) -> Result<Wrapping, UnwrapError> {
        let request = WrappingLookupRequest { token: token.expose_secret().to_owned() };
        let answer = self.call_openly(Operation::Login, &request).await.map_err(sorted)?;
        wrapping(&answer).map_err(|cause| self.error(cause).into())
    }

    /// Takes the answer out of a wrapping token, which is used then.
    pub(super) async fn unwrap(&self, token: &SecretString) -> Result<Answer, UnwrapError> {
        let request = UnwrapRequest { token: None };
        self.call_with(Operation::Login, &request, token).await.map_err(sorted)
    }
}

/// What a lookup says.
pub(super) fn wrapping(answer: &Answer) -> Result<Wrapping, Cause> {
    #[derive(Deserialize)]
    struct Data {
        creation_path: String,
        creation_ttl: u64,
    }
    let data: Data = answer.data_as("it does not say what is wrapped")?;
    Ok(Wrapping { creation_path: quotable(&data.creation_path), ttl: Duration::from_secs(data.creation_ttl) })
}

/// Whether a wrapping token gives nothing (any more).
pub(super) fn is_used(refusal: &Refusal) -> bool {
    refusal.status == 400 && refusal.says("wrapping token is not valid or does not exist")
}

fn sorted(failure: Failure) -> UnwrapError {
    match failure {
        Failure::Refused(refusal) if is_used(&refusal) => UnwrapError::Used,
        failure => UnwrapError::Store(failure.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vault::answers::tests::refusal;

    #[test]
    fn a_used_token_is_told_apart_from_other_refusals() {
        let says = |status, text: &str| is_used(&refusal(status, &json!({ "errors": [text] })));
        assert!(says(400, "wrapping token is not valid or does not exist"));
        assert!(!says(400, "missing token") && !says(404, "wrapping token is not valid or does not exist"));
    }
}
