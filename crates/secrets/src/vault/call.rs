//! One request to the cluster, whichever node answers it.

use rustify::endpoint::Endpoint;
use secrecy::SecretString;
use tokio::time::{Instant, timeout};

use super::Vault;
use super::answer::{Answer, Failure, Operation, Refusal};
use super::cluster::Reply;
use super::request::Request;
use super::session::Forbidden;
use crate::{Cause, StoreError};

impl Vault {
    /// Asks with the login's token, waiting for the login if need be. A 403 is sorted: it is [`Cause::Denied`] when the token
    /// lives; when it is dead, the request is made again with the next one.
    ///
    /// # Errors
    /// Refusals that the endpoint may want to sort, or the cause.
    pub(super) async fn call<E: Endpoint>(
        &self,
        operation: Operation,
        endpoint: &E,
    ) -> Result<Answer, Failure> {
        let failed = |cause| Failure::Store(self.error(cause));
        let request = Request::new(operation, endpoint).map_err(failed)?;
        self.breaker.check(Instant::now()).map_err(|cause| failed(self.counted(operation, cause)))?;
        let token = self.session.token(self.settings.timeout).await;
        let token = token.map_err(|cause| failed(self.counted(operation, cause)))?;
        let first = self.ask(&request, Some(&token.secret), token.number).await;
        if !first.as_ref().is_err_and(Failure::is_forbidden) {
            return first;
        }
        match self.forbidden(&token).await.map_err(failed)? {
            Forbidden::Denied => Err(failed(denied(&request))),
            Forbidden::Again(token) => {
                let second = self.ask(&request, Some(&token.secret), token.number).await;
                second.map_err(
                    |failure| if failure.is_forbidden() { failed(denied(&request)) } else { failure },
                )
            }
        }
    }

    /// Asks without a token (wrapping lookup).
    ///
    /// # Errors
    /// As [`Vault::call`]; 403 is [`Cause::Denied`], not sorted further.
    pub(super) async fn call_openly<E: Endpoint>(
        &self,
        operation: Operation,
        endpoint: &E,
    ) -> Result<Answer, Failure> {
        self.call_as(operation, endpoint, None).await
    }

    /// Asks with a given token (unwrap).
    ///
    /// # Errors
    /// As [`Vault::call_openly`].
    pub(super) async fn call_with<E: Endpoint>(
        &self,
        operation: Operation,
        endpoint: &E,
        token: &SecretString,
    ) -> Result<Answer, Failure> {
        self.call_as(operation, endpoint, Some(token)).await
    }

    /// Asks, and counts what came of it. Here a 403 is a [`Refusal`] like others.
    pub(super) async fn ask(
        &self,
        request: &Request,
        token: Option<&SecretString>,
        login: u64,
    ) -> Result<Answer, Failure> {
        match self.send(request, token).await {
            Ok(Reply { status, body }) if status.is_success() => {
                self.counts.count(request.operation, "ok");
                Ok(Answer { login, body })
            }
            Ok(Reply { status, body }) => {
                let mut refusal =
                    Refusal::new(&self.settings.name, &request.path, status.as_u16(), body, login);
                if let Some(token) = token {
                    refusal.hide(token);
                }
                self.counts.count(request.operation, refusal.cause().word());
                Err(Failure::Refused(Box::new(refusal)))
            }
            Err(cause) => Err(self.error(self.counted(request.operation, cause)).into()),
        }
    }

    async fn call_as<E: Endpoint>(
        &self,
        operation: Operation,
        endpoint: &E,
        token: Option<&SecretString>,
    ) -> Result<Answer, Failure> {
        let request = Request::new(operation, endpoint).map_err(|cause| self.error(cause))?;
        let answer = self.ask(&request, token, 0).await;
        answer.map_err(
            |failure| if failure.is_forbidden() { self.error(denied(&request)).into() } else { failure },
        )
    }

    /// Waits for a turn, asks, and tells the breaker.
    async fn send(&self, request: &Request, token: Option<&SecretString>) -> Result<Reply, Cause> {
        let turn =
            timeout(self.settings.timeout, self.breaker.turn()).await.map_err(|_| Cause::Timeout)??;
        let result = self.cluster.send(request, token).await;
        self.breaker.report(result.as_ref().err(), Instant::now(), fastrand::f64());
        drop(turn);
        result
    }

    fn counted(&self, operation: Operation, cause: Cause) -> Cause {
        self.counts.count(operation, cause.word());
        cause
    }

    pub(super) fn error(&self, cause: Cause) -> StoreError {
        StoreError { store: self.settings.name.clone(), cause }
    }
}

fn denied(request: &Request) -> Cause {
    Cause::Denied(format!("`{}`", request.path))
}
