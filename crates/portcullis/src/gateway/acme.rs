//! Certificates over ACME: from the configuration's words to a source.

use std::sync::Arc;

use rotation::acme::AcmeSpec;
use secrets::Stores;
use tls::{SlotWriter, UpstreamTrust};

use super::wall_clock;
use crate::config::material::server_trust;
use crate::config::model::{AcmeCertificate, AcmeChallenge, Name, ServerTrust};

/// A source of certificates over ACME, made with the key of the external account; nothing is ordered yet.
pub(super) async fn source(
    name: Name,
    acme: AcmeCertificate,
    stores: Arc<Stores>,
) -> Result<rotation::acme::AcmeCertificate, (bool, String)> {
    let trust = match &acme.trust {
        ServerTrust::System => UpstreamTrust::System,
        ServerTrust::File(reference) => {
            let trust = server_trust(reference, wall_clock()).map_err(|error| (true, error.to_string()))?;
            let mut writer = SlotWriter::empty();
            writer.publish(trust);
            UpstreamTrust::Trusts(vec![writer.reader()])
        }
    };
    let external_account = match acme.external_account {
        None => None,
        Some(account) => {
            let key = stores.resolve(&account.key.reference).await;
            let key = key.map_err(|error| (error.cause.is_configuration(), error.to_string()))?;
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
        .map_err(|error| (true, error.to_string()))
}
