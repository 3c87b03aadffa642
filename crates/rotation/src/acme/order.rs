//! One order, from the names to a chain: authorizations → proofs → request → certificate (RFC 8555 section 7.4).

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use tls::acme::{Proof, show_certificate, show_token};
use zeroize::Zeroizing;

use super::error::words;
use super::{AcmeError, Challenge};

/// A chain with its key, PEM.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: Zeroizing<String>,
}

/// Orders a certificate for `names` and a key that is made here. What is shown meanwhile is withdrawn at the end.
pub(super) async fn run(
    account: &Account,
    names: &[String],
    challenge: Challenge,
) -> Result<Issued, AcmeError> {
    let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let proofs = prove(&mut order, names, challenge).await?;
    let ready = order.poll_ready(&PATIENCE).await;
    drop(proofs);
    match ready {
        Ok(OrderStatus::Ready) => {}
        Ok(_) | Err(Error::Api(_)) => return Err(why_invalid(&mut order, ready).await),
        Err(error) => return Err(error.into()),
    }
    let (request, key) = request(names)?;
    order.finalize_csr(&request).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(Issued { chain, key })
}

/// Shows a proof for every name that the account has not proven lately, and has the server look.
async fn prove(order: &mut Order, names: &[String], challenge: Challenge) -> Result<Vec<Proof>, AcmeError> {
    let mut proofs = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut authorization = next?;
        let Identifier::Dns(name) = authorization.identifier().identifier.clone() else {
            return Err(AcmeError::Answer("a proof is asked for something that is no DNS name".to_owned()));
        };
        if !names.contains(&name) {
            return Err(AcmeError::Answer("a proof is asked for a name that was not ordered".to_owned()));
        }
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            _ => {
                return Err(AcmeError::Answer(format!(
                    "the authorization of `{name}` cannot be used any more"
                )));
            }
        }
        let Some(mut handle) = authorization.challenge(challenge.kind()) else {
            return Err(AcmeError::NoChallenge { name, wanted: challenge.as_str() });
        };
        let expected = handle.key_authorization();
        proofs.push(match challenge {
            Challenge::Http01 => show_token(&name, &handle.token, expected.as_str())?,
            Challenge::TlsAlpn01 => {
                let digest = expected.digest();
                let digest = <[u8; 32]>::try_from(digest.as_ref());
                let digest = digest.map_err(|_| AcmeError::Key("a digest of the wrong length".to_owned()))?;
                show_certificate(&name, &digest)?
            }
        });
        handle.set_ready().await?;
    }
    Ok(proofs)
}

/// The order says little; what the server saw stands at the challenges.
async fn why_invalid(order: &mut Order, said: Result<OrderStatus, Error>) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            let (kind, detail) = words(problem);
            return AcmeError::Validation { name: state.identifier().to_string(), kind, detail };
        }
    }
    match said {
        Ok(_) => AcmeError::Answer("the order became invalid without a word why".to_owned()),
        Err(error) => error.into(),
    }
}

/// A certificate request for the names, DER, and the new P-256 key that it is for.
fn request(names: &[String]) -> Result<(Vec<u8>, Zeroizing<String>), AcmeError> {
    let failed = |error: rcgen::Error| AcmeError::Key(error.to_string());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((request.der().to_vec(), Zeroizing::new(key.serialize_pem())))
}

impl Challenge {
    const fn kind(self) -> ChallengeType {
        match self {
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Http01 => ChallengeType::Http01,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }
}

/// For validation, and again for issuance.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.3)
    .timeout(Duration::from_secs(180));
