//! What the server says about when to renew (RFC 9773).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, CertificateIdentifier, Error};

use super::kept::Kept;

/// What the server says about when to renew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// Some time between these, in seconds since 1970; to be asked again after `again`.
    Window { start: u64, end: u64, again: Duration },
    /// It does not know of such windows, or not for this certificate.
    Unsupported,
    /// It gave no answer that could be read.
    Silent,
}

/// Asks for the window of what is kept.
pub(super) async fn ask(account: &Account, kept: &Kept) -> Answer {
    let Some((authority, serial)) = tls::acme::renewal_id(kept.certificate.as_bytes()) else {
        return Answer::Unsupported;
    };
    let id = CertificateIdentifier {
        authority_key_identifier: BASE64_URL_SAFE_NO_PAD.encode(authority).into(),
        serial: BASE64_URL_SAFE_NO_PAD.encode(serial).into(),
    };
    match account.renewal_info(&id).await {
        Ok((info, again)) => {
            let window = info.suggested_window;
            let seconds = |at: i64| u64::try_from(at).unwrap_or_default();
            Answer::Window {
                start: seconds(window.start.unix_timestamp()),
                end: seconds(window.end.unix_timestamp()),
                again,
            }
        }
        Err(Error::Unsupported(_)) => Answer::Unsupported,
        Err(error) => {
            tracing::debug!(%error, "no renewal information");
            Answer::Silent
        }
    }
}
