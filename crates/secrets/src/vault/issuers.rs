//! The revocation lists of a PKI mount: every issuer in it has one of its own, and after a rotation the former one's still counts.
//!
//! **Passes:** the list of the default issuer; where there are several issuers, the lists of those in the default issuer's chain, which
//! is what is trusted. Issuers are read without a token. **Refused:** what is no list.

use std::collections::BTreeSet;

use rustify_derive::Endpoint;
use serde::Deserialize;
use serde_json::Value;

use super::answer::{Answer, Operation};
use super::{Vault, chain, pki};
use crate::{Cause, StoreError};

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/issuers", response = "Value")]
struct ListIssuers {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(query)]
    list: bool,
}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/issuer/{self.issuer}/{self.part}", response = "Value")]
struct ReadIssuer {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(skip)]
    issuer: String,
    #[endpoint(skip)]
    part: &'static str,
}

impl Vault {
    pub(crate) async fn revocation_list(&self, mount: &str) -> Result<Option<String>, StoreError> {
        let issuers = self.issuers(mount).await?;
        if issuers.len() < 2 {
            return self.default_revocation_list(mount).await;
        }
        let refused = |cause| self.error(cause);
        let trusted = chain::certificates(&self.authorities(mount).await?).map_err(refused)?;
        // Issuers that share a key share a list.
        let mut lists = BTreeSet::new();
        for issuer in issuers {
            let part = |part| ReadIssuer { mount: mount.to_owned(), issuer: issuer.clone(), part };
            let answer = self.call_openly(Operation::Pki, &part("json")).await?;
            let own = chain::certificates(&certificate(&answer).map_err(refused)?).map_err(refused)?;
            if own.iter().any(|own| trusted.contains(own)) {
                let answer = self.call_openly(Operation::Pki, &part("crl")).await?;
                lists.extend(list(&answer).map_err(refused)?);
            }
        }
        Ok((!lists.is_empty()).then(|| lists.into_iter().collect()))
    }

    /// The ids of all issuers; none where the server does not tell.
    async fn issuers(&self, mount: &str) -> Result<Vec<String>, StoreError> {
        let all = ListIssuers { mount: mount.to_owned(), list: true };
        let answer = match self.call_openly(Operation::Pki, &all).await {
            Ok(answer) => answer,
            Err(failure) => {
                return match failure.cause() {
                    Cause::Denied(_) | Cause::Absent(_) | Cause::Refused(_) => Ok(Vec::new()),
                    _ => Err(failure.into()),
                };
            }
        };
        issuers(&answer).map_err(|cause| self.error(cause))
    }
}

fn issuers(answer: &Answer) -> Result<Vec<String>, Cause> {
    #[derive(Deserialize)]
    struct Data {
        keys: Vec<String>,
    }
    let Data { keys } = answer.data_as("it has no issuers")?;
    let is_id = |key: &String| {
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if keys.len() > MOST || !keys.iter().all(is_id) {
        return Err(Cause::Answer("it has too many issuers, or ids that are none"));
    }
    Ok(keys)
}

fn certificate(answer: &Answer) -> Result<String, Cause> {
    #[derive(Deserialize)]
    struct Data {
        certificate: String,
    }
    answer.data_as("it has no certificate").map(|Data { certificate }| certificate)
}

/// With a line end, so that lists can stand one after the other.
fn list(answer: &Answer) -> Result<Option<String>, Cause> {
    #[derive(Deserialize)]
    struct Data {
        crl: Option<String>,
    }
    let Data { crl } = answer.data_as("it has no revocation list")?;
    Ok(pki::checked_list(crl)?.map(|pem| format!("{}\n", pem.trim_end())))
}

/// Each costs two requests.
const MOST: usize = 32;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vault::answers::tests::answer;

    #[test]
    fn ids_that_would_lead_elsewhere_are_refused() {
        let ids = |keys| issuers(&answer(&json!({ "data": { "keys": keys } })));
        assert_eq!(ids(json!(["a-1", "b"])), Ok(vec!["a-1".to_owned(), "b".to_owned()]));
        for keys in [json!(["../../sys/seal"]), json!([""]), json!([7]), json!(vec!["a"; MOST + 1])] {
            assert!(ids(keys).is_err());
        }
        assert!(issuers(&answer(&json!({ "data": null }))).is_err());
    }

    #[test]
    fn lists_can_stand_one_after_the_other() {
        let read = |crl: Value| list(&answer(&json!({ "data": { "crl": crl } })));
        let pem = "-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----";
        assert_eq!(read(json!(pem)), Ok(Some(format!("{pem}\n"))));
        assert_eq!((read(json!("")), read(json!(null))), (Ok(None), Ok(None)));
        assert!(read(json!("-----BEGIN CERTIFICATE-----")).is_err());
    }
}
