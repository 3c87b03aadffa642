//! Certificates that a PKI mount signs, and its authorities.
//!
//! **Passes:** our own request through `sign/<role>`, so that the private key never leaves us (`issue` would send one). The chain is built
//! here from what the answer has, whatever its order: the leaf, then each one's issuer, without the root. **Refused:** an answer whose
//! leaf none of its authorities signed. Names, key and lifetime of the leaf are for the caller to check: a role may change them.

use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use vaultrs::api::pki::requests::{ReadCertificateRequest, SignCertificateRequest};

use super::Vault;
use super::answer::{Answer, Failure, Operation};
use super::chain;
use crate::{Cause, CertificateRequest, IssuedCertificate, StoreError};

impl Vault {
    pub(crate) async fn sign_certificate(
        &self,
        request: &CertificateRequest,
    ) -> Result<IssuedCertificate, StoreError> {
        let (mount, role) = (&request.mount, &request.role);
        let answer = match self.call(Operation::Pki, &signing(request)).await {
            Ok(answer) => answer,
            Err(Failure::Refused(refusal)) if refusal.says("unknown role") => {
                return Err(self.error(Cause::Absent(format!("role `{role}` at `{mount}`"))));
            }
            Err(failure) => return Err(failure.into()),
        };
        issued(&answer).map_err(|cause| self.error(cause))
    }

    pub(crate) async fn authorities(&self, mount: &str) -> Result<String, StoreError> {
        match self.call_openly(Operation::Pki, &certificate(mount, "ca_chain")).await {
            Ok(answer) => authorities(&answer).map_err(|cause| self.error(cause)),
            Err(Failure::Refused(refusal)) if refusal.says("no default issuer") => {
                Err(self.error(Cause::Absent(format!("authority at `{mount}` yet"))))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// The list of the default issuer.
    pub(super) async fn default_revocation_list(&self, mount: &str) -> Result<Option<String>, StoreError> {
        match self.call_openly(Operation::Pki, &certificate(mount, "crl")).await {
            Ok(answer) => revocation_list(&answer).map_err(|cause| self.error(cause)),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// The certificate with its chain and its authorities.
pub(super) fn issued(answer: &Answer) -> Result<IssuedCertificate, Cause> {
    #[derive(Deserialize)]
    struct Data {
        certificate: String,
        issuing_ca: Option<String>,
        ca_chain: Option<Vec<String>>,
        expiration: Option<u64>,
    }
    let data: Data = answer.data_as("it has no certificate")?;
    let mut authorities = Vec::new();
    for pem in data.issuing_ca.iter().chain(data.ca_chain.iter().flatten()) {
        authorities.extend(chain::certificates(pem)?);
    }
    let leaf = chain::certificates(&data.certificate)?;
    let [leaf] = leaf.as_slice() else {
        return Err(Cause::Answer("it has not exactly one certificate"));
    };
    Ok(IssuedCertificate {
        chain_pem: chain::build(leaf, &authorities)?,
        authorities_pem: chain::distinct(&authorities),
        expires: data.expiration.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))),
        warnings: warnings(answer),
    })
}

/// Each once. That the role takes the names from the request and not from beside it is no news: they are the same.
fn warnings(answer: &Answer) -> Vec<String> {
    let mut warnings = answer.warnings();
    warnings.retain(|warning| !warning.contains("\"use_csr_"));
    warnings.sort();
    warnings.dedup();
    warnings
}

/// The authorities of a mount; the field was called `certificate` before it was called `ca_chain`.
pub(super) fn authorities(answer: &Answer) -> Result<String, Cause> {
    #[derive(Deserialize)]
    struct Data {
        ca_chain: Option<String>,
        certificate: Option<String>,
    }
    let data: Data = answer.data_as("it has no authorities")?;
    let pem = data.ca_chain.filter(|pem| !pem.is_empty()).or(data.certificate).unwrap_or_default();
    match chain::certificates(&pem)? {
        none if none.is_empty() => Err(Cause::Answer("it has no authorities")),
        authorities => Ok(chain::distinct(&authorities)),
    }
}

/// The revocation list, PEM; none if the mount has none.
pub(super) fn revocation_list(answer: &Answer) -> Result<Option<String>, Cause> {
    #[derive(Deserialize)]
    struct Data {
        certificate: Option<String>,
    }
    if answer.data().is_null() {
        return Ok(None);
    }
    let data: Data = answer.data_as("it has no revocation list")?;
    checked_list(data.certificate)
}

/// A list, PEM; an empty text is none.
pub(super) fn checked_list(pem: Option<String>) -> Result<Option<String>, Cause> {
    match pem.filter(|pem| !pem.trim().is_empty()) {
        None => Ok(None),
        Some(pem) if pem.contains("-----BEGIN X509 CRL-----") => Ok(Some(pem)),
        Some(_) => Err(Cause::Answer("its revocation list is not PEM")),
    }
}

fn signing(request: &CertificateRequest) -> SignCertificateRequest {
    SignCertificateRequest {
        mount: request.mount.clone(),
        role: request.role.clone(),
        csr: Some(request.csr_pem.clone()),
        common_name: request.common_name.clone(),
        alt_names: list(&request.dns_names),
        ip_sans: list(&request.addresses),
        uri_sans: list(&request.uris),
        // The names are those that were asked for, no others.
        exclude_cn_from_sans: Some(true),
        format: Some("pem".to_owned()),
        ttl: Some(format!("{}s", request.ttl.as_secs().max(1))),
        ..SignCertificateRequest::default()
    }
}

/// Vault's way to write lists; an empty one is left out.
fn list(names: &[impl ToString]) -> Option<String> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn certificate(mount: &str, serial: &str) -> ReadCertificateRequest {
    ReadCertificateRequest { mount: mount.to_owned(), serial: serial.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vault::answers::tests::answer;

    #[test]
    fn a_mount_without_a_list_has_none_and_what_is_no_list_is_refused() {
        let list = |data| revocation_list(&answer(&json!({ "data": data })));
        assert_eq!(list(json!(null)), Ok(None));
        assert_eq!(list(json!({ "certificate": "" })), Ok(None));
        assert!(list(json!({ "certificate": "-----BEGIN CERTIFICATE-----" })).is_err());
        assert!(list(json!({ "certificate": 5 })).is_err());
    }

    #[test]
    fn a_capped_life_is_warned_of_once_and_the_source_of_the_names_never() {
        let told = [
            "TTL is longer than permitted",
            "set with \"use_csr_sans\" set to true",
            "set with \"use_csr_common_name\" set to true",
            "TTL is longer than permitted",
        ];
        assert_eq!(warnings(&answer(&json!({ "warnings": told }))), ["TTL is longer than permitted"]);
    }

    #[test]
    fn an_answer_without_a_certificate_is_refused() {
        for data in [json!(null), json!({ "certificate": "x" }), json!({ "certificate": "", "ca_chain": [] })]
        {
            assert!(issued(&answer(&json!({ "data": data }))).is_err());
        }
    }

    #[test]
    fn what_is_asked_for_never_has_an_empty_list_or_a_ttl_of_nothing() {
        let request = CertificateRequest {
            mount: "pki".into(),
            role: "web".into(),
            csr_pem: "csr".into(),
            common_name: None,
            dns_names: vec!["a.example.com".into(), "b.example.com".into()],
            addresses: vec![],
            uris: vec![],
            ttl: Duration::ZERO,
        };
        let signing = signing(&request);
        assert_eq!(signing.alt_names.as_deref(), Some("a.example.com,b.example.com"));
        assert_eq!((signing.ip_sans, signing.uri_sans, signing.ttl.as_deref()), (None, None, Some("1s")));
    }
}
