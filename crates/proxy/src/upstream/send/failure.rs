//! Why a request has no answer, what that says of endpoint and connection, and whether it may be sent again.

use http::Request;
use hyper::client::conn::TrySendError;

use crate::body::{Progress, RequestBody, Upload};
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::upstream::balance::Again;
use crate::upstream::http1::ExchangeError;
use crate::upstream::http2::Verdict;
use crate::upstream::spare::Spare;

/// Why there is no answer.
pub(super) enum Failure {
    /// The connection or the stream ended without an answer.
    Died(Verdict),
    /// The lease ended before the answer.
    Ended,
    /// No answer in time.
    Late,
    /// No answer in the time of a try.
    Slow,
    /// It switches protocols otherwise than was asked.
    Switched,
    /// What it answers is no answer.
    Malformed,
    /// The connection ended before a byte of this request was sent.
    Unsent(Box<Request<RequestBody>>),
    /// The same, of a request that is still with its sender.
    Untouched,
}

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Unsent => Self::Untouched,
            ExchangeError::Malformed(cause) => {
                tracing::debug!(%cause, "no answer");
                Self::Malformed
            }
            error => {
                tracing::debug!(cause = %error, "no answer");
                Self::Died(Verdict::Broken)
            }
        }
    }
}

impl From<TrySendError<Request<RequestBody>>> for Failure {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request)),
            None => {
                tracing::debug!(cause = %error.error(), "no answer");
                Self::Died(Verdict::of(error.error()))
            }
        }
    }
}

/// What is left of a request that was sent, to be sent again.
pub(super) enum Kept {
    /// All of it, but what was read of its body; and whether it may arrive twice.
    Itself { may_resend: bool },
    /// Everything but its body.
    Copy(Spare),
    /// Nothing.
    Nothing,
}

impl Failure {
    /// In a word, and as what the client gets.
    pub(super) fn refusal(
        &self,
        upstream: &Upstream,
        progress: Option<&Progress>,
    ) -> (&'static str, Refusal) {
        match self {
            Self::Ended | Self::Late | Self::Slow => {
                ("timeout", Refusal::UpstreamTimeout(upstream.name.to_string()))
            }
            Self::Died(_) | Self::Switched | Self::Malformed | Self::Unsent(_) | Self::Untouched => {
                match progress.and_then(Progress::failure) {
                    Some(refusal) => ("client", refusal),
                    None => ("protocol", Refusal::UpstreamProtocol(upstream.name.to_string())),
                }
            }
        }
    }

    /// True if it speaks against the endpoint. A reused connection that died does not: they do when they wait.
    pub(super) fn is_the_endpoints(&self, is_reused: bool) -> bool {
        match self {
            Self::Late | Self::Slow | Self::Switched | Self::Malformed | Self::Died(Verdict::Refused) => true,
            Self::Died(_) | Self::Unsent(_) | Self::Untouched => !is_reused,
            Self::Ended => false,
        }
    }

    /// True if a shared connection should take no further streams. One that does not answer may be half open.
    pub(super) const fn is_the_connections(&self) -> bool {
        match self {
            Self::Late
            | Self::Unsent(_)
            | Self::Untouched
            | Self::Died(Verdict::Broken | Verdict::Unprocessed) => true,
            Self::Ended
            | Self::Slow
            | Self::Switched
            | Self::Malformed
            | Self::Died(Verdict::Refused | Verdict::Reset) => false,
        }
    }

    /// Why it may be sent again, with `request` as it is to be sent then: what was not sent, or what the upstream took no notice of,
    /// or, if it is safe and has no body, what may have arrived.
    pub(super) fn again(
        self,
        kept: Kept,
        request: &mut Request<RequestBody>,
        upload: Option<&Upload>,
    ) -> Option<Again> {
        let why = match self {
            Self::Untouched => return Some(Again::NotSent),
            Self::Unsent(unsent) => {
                *request = *unsent;
                return Some(Again::NotSent);
            }
            Self::Died(Verdict::Unprocessed) => Again::Unprocessed,
            Self::Died(Verdict::Refused) => Again::Refused,
            Self::Slow => Again::Slow,
            Self::Died(Verdict::Broken | Verdict::Reset) => Again::Died,
            Self::Ended | Self::Late | Self::Switched | Self::Malformed => return None,
        };
        let may_have_arrived = matches!(why, Again::Slow | Again::Died);
        match kept {
            Kept::Nothing => None,
            Kept::Itself { may_resend } => (may_have_arrived && may_resend).then_some(why),
            Kept::Copy(spare) if may_have_arrived && (upload.is_some() || !spare.is_safe()) => None,
            Kept::Copy(spare) => {
                *request = spare.into_request();
                if let Some(upload) = upload {
                    *request.body_mut() = upload.again()?;
                }
                Some(why)
            }
        }
    }
}
