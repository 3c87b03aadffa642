//! Certificates over ACME: from the configuration's words to a source.

use std::sync::Arc;

use rotation::SourceError;
use rotation::acme::AcmeSpec;
use secrets::Stores;

use super::prepare::Lack;
use super::server_trust::upstream_trust;
use super::wall_clock;
use crate::config::model::{AcmeCertificate, AcmeChallenge, Name};

/// A source of certificates over ACME, made with the key of the external account; nothing is ordered yet.
pub(super) async fn source(
    name: Name,
    acme: AcmeCertificate,
    stores: Arc<Stores>,
) -> Result<rotation::acme::AcmeCertificate, Lack> {
    let trust = upstream_trust(&acme.trust).map_err(|error| Lack::Configuration(error.to_string()))?;
    let external_account = match acme.external_account {
        None => None,
        Some(account) => {
            let key = stores.resolve(&account.key.reference).await.map_err(SourceError::from)?;
            Some(rotation::acme::ExternalAccount { key_id: account.key_id, key })
        }
    };
    let spec = AcmeSpec {
        entry: name.to_string(),
        directory: acme.directory.to_string(),
        trust,
        contact: acme.contact,
        names: acme.dns_names,
        challenge: match acme.challenge {
            AcmeChallenge::TlsAlpn01 => rotation::acme::Challenge::TlsAlpn01,
            AcmeChallenge::Http01 => rotation::acme::Challenge::Http01,
        },
        state: acme.state.path,
        external_account,
    };
    rotation::acme::AcmeCertificate::new(spec, Arc::new(wall_clock))
        .map_err(|error| Lack::Configuration(error.to_string()))
}
