//! Transit: signatures, ciphertexts and HMACs by keys that stay in the cluster.
//!
//! Signatures are asked for in the form of a JWS (RFC 7515): ECDSA as `r || s`, base64url. Everything that transit makes has the prefix
//! `vault:v<version of the key>:`. Several items go in one request; one that fails does not fail the others, and their order is kept.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustify_derive::Endpoint;
use serde::Deserialize;
use serde_json::Value;
use vaultrs::api::transit::requests::{ReadKeyRequest, SignDataRequest, VerifySignedDataRequest};
use vaultrs::api::transit::{HashAlgorithm, MarshalingAlgorithm, SignatureAlgorithm};
use zeroize::Zeroizing;

use super::Vault;
use super::answer::{Answer, Failure, Operation, quotable};
use crate::{Cause, KeyVersion, Signature, SigningAlgorithm, StoreError};

/// What became of one item of several.
pub type Item<T> = Result<T, Cause>;

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/{self.operation}/{self.key}", method = "POST", response = "Value")]
struct Batch {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(skip)]
    operation: &'static str,
    #[endpoint(skip)]
    key: String,
    batch_input: Vec<BTreeMap<&'static str, String>>,
}

impl Vault {
    pub(crate) async fn sign(
        &self,
        mount: &str,
        key: &str,
        algorithm: SigningAlgorithm,
        input: &[u8],
    ) -> Result<Signature, StoreError> {
        let request = SignDataRequest {
            mount: mount.to_owned(),
            name: key.to_owned(),
            input: STANDARD.encode(input),
            hash_algorithm: hash(algorithm),
            signature_algorithm: padding(algorithm),
            marshaling_algorithm: Some(MarshalingAlgorithm::Jws),
            ..SignDataRequest::default()
        };
        let answer = self.transit(mount, key, self.call(Operation::Transit, &request).await)?;
        signature(&answer).map_err(|cause| self.error(cause))
    }

    pub(crate) async fn signing_keys(&self, mount: &str, key: &str) -> Result<Vec<KeyVersion>, StoreError> {
        let request = ReadKeyRequest { mount: mount.to_owned(), name: key.to_owned() };
        let answer = self.transit(mount, key, self.call(Operation::Transit, &request).await)?;
        key_versions(&answer).map_err(|cause| self.error(cause))
    }

    /// Whether a key (in the version that the signature names) signed this input.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub async fn verify(
        &self,
        mount: &str,
        key: &str,
        algorithm: SigningAlgorithm,
        input: &[u8],
        signature: &Signature,
    ) -> Result<bool, StoreError> {
        let Signature { bytes, version } = signature;
        let request = VerifySignedDataRequest {
            mount: mount.to_owned(),
            name: key.to_owned(),
            input: STANDARD.encode(input),
            signature: Some(format!("vault:v{version}:{}", URL_SAFE_NO_PAD.encode(bytes))),
            hash_algorithm: hash(algorithm),
            signature_algorithm: padding(algorithm),
            marshaling_algorithm: Some(MarshalingAlgorithm::Jws),
            ..VerifySignedDataRequest::default()
        };
        let answer = self.transit(mount, key, self.call(Operation::Transit, &request).await)?;
        validity(&answer).map_err(|cause| self.error(cause))
    }

    /// Encrypts each item with the newest version of a key.
    ///
    /// # Errors
    /// Why none was encrypted; an item's own error is in its place.
    pub async fn encrypt(
        &self,
        mount: &str,
        key: &str,
        plaintexts: &[&[u8]],
    ) -> Result<Vec<Item<String>>, StoreError> {
        let items = plaintexts.iter().map(|text| BTreeMap::from([("plaintext", STANDARD.encode(text))]));
        let answer = self.batch(mount, "encrypt", key, items.collect()).await?;
        items_of(&answer, "ciphertext", plaintexts.len()).map_err(|cause| self.error(cause))
    }

    /// Decrypts each item with the version of the key that it names.
    ///
    /// # Errors
    /// Why none was decrypted; an item's own error is in its place.
    pub async fn decrypt(
        &self,
        mount: &str,
        key: &str,
        ciphertexts: &[&str],
    ) -> Result<Vec<Item<Zeroizing<Vec<u8>>>>, StoreError> {
        let items = ciphertexts.iter().map(|text| BTreeMap::from([("ciphertext", (*text).to_owned())]));
        let answer = self.batch(mount, "decrypt", key, items.collect()).await?;
        plaintexts(&answer, ciphertexts.len()).map_err(|cause| self.error(cause))
    }

    /// Encrypts each item anew with the newest version of the key; the plaintext stays in the cluster.
    ///
    /// # Errors
    /// Why none was; an item's own error is in its place.
    pub async fn rewrap(
        &self,
        mount: &str,
        key: &str,
        ciphertexts: &[&str],
    ) -> Result<Vec<Item<String>>, StoreError> {
        let items = ciphertexts.iter().map(|text| BTreeMap::from([("ciphertext", (*text).to_owned())]));
        let answer = self.batch(mount, "rewrap", key, items.collect()).await?;
        items_of(&answer, "ciphertext", ciphertexts.len()).map_err(|cause| self.error(cause))
    }

    /// The HMAC-SHA-256 of each item, `vault:v<version>:<base64>`.
    ///
    /// # Errors
    /// Why there is none; an item's own error is in its place.
    pub async fn hmac(
        &self,
        mount: &str,
        key: &str,
        inputs: &[&[u8]],
    ) -> Result<Vec<Item<String>>, StoreError> {
        let items = inputs.iter().map(|input| BTreeMap::from([("input", STANDARD.encode(input))]));
        let answer = self.batch(mount, "hmac", key, items.collect()).await?;
        items_of(&answer, "hmac", inputs.len()).map_err(|cause| self.error(cause))
    }

    /// A batch some of whose items failed is a 400 with all results in it, by default of the server.
    async fn batch(
        &self,
        mount: &str,
        operation: &'static str,
        key: &str,
        batch_input: Vec<BTreeMap<&'static str, String>>,
    ) -> Result<Answer, StoreError> {
        let request = Batch { mount: mount.to_owned(), operation, key: key.to_owned(), batch_input };
        match self.call(Operation::Transit, &request).await {
            Err(Failure::Refused(refusal)) if refusal.errors.is_empty() && refusal.status == 400 => {
                Ok(Answer { login: refusal.login, body: refusal.body })
            }
            called => self.transit(mount, key, called),
        }
    }

    fn transit(&self, mount: &str, key: &str, called: Result<Answer, Failure>) -> Result<Answer, StoreError> {
        called.map_err(|failure| match failure {
            Failure::Refused(refusal) if refusal.status == 404 || refusal.says("key not found") => {
                self.error(Cause::Absent(format!("key `{key}` at `{mount}`")))
            }
            failure => failure.into(),
        })
    }
}

/// The signature and the version of the key that made it.
pub(super) fn signature(answer: &Answer) -> Result<Signature, Cause> {
    let unusable = Cause::Answer("it has no signature");
    let text = answer.data().get("signature").and_then(Value::as_str);
    let (version, encoded) = text.and_then(prefixed).ok_or(unusable.clone())?;
    let bytes = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).map_err(|_| unusable)?;
    Ok(Signature { bytes, version })
}

/// The public halves, oldest first.
pub(super) fn key_versions(answer: &Answer) -> Result<Vec<KeyVersion>, Cause> {
    let keys = answer.data().get("keys").and_then(Value::as_object).ok_or(Cause::Answer("it has no keys"))?;
    let mut versions = Vec::new();
    for (version, key) in keys {
        let version = version.parse().map_err(|_| Cause::Answer("a version of the key is no number"))?;
        let Some(public) = key.get("public_key").and_then(Value::as_str).filter(|key| !key.is_empty()) else {
            return Err(Cause::Refused("the key has no public half: it cannot sign".to_owned()));
        };
        versions.push(KeyVersion { version, public_key_pem: public_key(public)? });
    }
    versions.sort_by_key(|key| key.version);
    if versions.is_empty() { Err(Cause::Answer("it has no keys")) } else { Ok(versions) }
}

/// Whether a signature holds.
pub(super) fn validity(answer: &Answer) -> Result<bool, Cause> {
    answer
        .data()
        .get("valid")
        .and_then(Value::as_bool)
        .ok_or(Cause::Answer("it does not say whether it is valid"))
}

/// The results of a batch, one for each item that was asked for.
pub(super) fn items_of(answer: &Answer, field: &str, asked: usize) -> Result<Vec<Item<String>>, Cause> {
    let results = answer.data().get("batch_results").and_then(Value::as_array);
    let results = results.ok_or(Cause::Answer("it has no results"))?;
    if results.len() != asked {
        return Err(Cause::Answer("it has not as many results as were asked for"));
    }
    Ok(results.iter().map(|result| item(result, field)).collect())
}

/// The results of decrypting.
pub(super) fn plaintexts(answer: &Answer, asked: usize) -> Result<Vec<Item<Zeroizing<Vec<u8>>>>, Cause> {
    let decoded = |item: Item<String>| {
        let text = Zeroizing::new(item?);
        let bytes = STANDARD.decode(text.as_bytes());
        bytes.map(Zeroizing::new).map_err(|_| Cause::Answer("a result is not base64"))
    };
    Ok(items_of(answer, "plaintext", asked)?.into_iter().map(decoded).collect())
}

fn item(result: &Value, field: &str) -> Item<String> {
    #[derive(Deserialize)]
    struct Failed {
        error: String,
    }
    if let Ok(failed) = Failed::deserialize(result)
        && !failed.error.is_empty()
    {
        return Err(Cause::Refused(quotable(&failed.error)));
    }
    result.get(field).and_then(Value::as_str).map(str::to_owned).ok_or(Cause::Answer("a result is missing"))
}

/// Splits `vault:v<version>:<rest>`.
fn prefixed(text: &str) -> Option<(u64, &str)> {
    let (version, rest) = text.strip_prefix("vault:v")?.split_once(':')?;
    Some((version.parse().ok().filter(|version| *version > 0)?, rest))
}

/// PEM as it is; what is base64 of 32 bytes is an Ed25519 key, whose SubjectPublicKeyInfo is always the same up to them (RFC 8410
/// section 4).
fn public_key(text: &str) -> Result<String, Cause> {
    if text.starts_with("-----BEGIN PUBLIC KEY-----") {
        return Ok(text.to_owned());
    }
    match STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => {
            let encoded = STANDARD.encode([ED25519.as_slice(), &bytes].concat());
            Ok(format!("-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n"))
        }
        Ok(_) | Err(_) => Err(Cause::Answer("a public key is of no known form")),
    }
}

/// Ed25519 has its own; elsewhere it must be said.
fn hash(algorithm: SigningAlgorithm) -> Option<HashAlgorithm> {
    match algorithm {
        SigningAlgorithm::Es256 | SigningAlgorithm::Rs256 => Some(HashAlgorithm::Sha2_256),
        SigningAlgorithm::EdDsa => None,
    }
}

/// RSA would be PSS by default.
fn padding(algorithm: SigningAlgorithm) -> Option<SignatureAlgorithm> {
    (algorithm == SigningAlgorithm::Rs256).then_some(SignatureAlgorithm::Pkcs1v15)
}

const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vault::answers::tests::answer;

    fn signed(text: &str) -> Result<Signature, Cause> {
        signature(&answer(&json!({ "data": { "signature": text } })))
    }

    #[test]
    fn a_signature_names_the_version_of_its_key() {
        assert_eq!(signed("vault:v12:AQL_").unwrap(), Signature { bytes: vec![1, 2, 255], version: 12 });
        for bad in ["AQL_", "vault:v:AQL_", "vault:v0:AQL_", "vault:v1:+/", "vault:vx:AQL_", "vault:v1"] {
            assert!(signed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn key_versions_come_in_the_order_of_their_numbers_and_ed25519_as_pem() {
        let (raw, pem) =
            (STANDARD.encode([7; 32]), "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n");
        let keys = json!({ "10": { "public_key": raw }, "9": { "public_key": pem } });
        let versions = key_versions(&answer(&json!({ "data": { "keys": keys } }))).unwrap();
        assert_eq!(versions.iter().map(|key| key.version).collect::<Vec<_>>(), [9, 10]);
        assert_eq!(versions[0].public_key_pem, pem);
        assert!(
            versions[1].public_key_pem.contains("MCowBQYDK2VwAyEABwcH"),
            "{}",
            versions[1].public_key_pem
        );
    }

    #[test]
    fn a_key_for_encryption_cannot_sign() {
        let versions = key_versions(&answer(&json!({ "data": { "keys": { "1": 1_795_315_096 } } })));
        assert!(matches!(versions, Err(Cause::Refused(_))), "{versions:?}");
    }

    #[test]
    fn an_item_that_failed_does_not_fail_the_others() {
        let results = json!([{ "ciphertext": "vault:v1:x" }, { "error": "illegal base64 data", "reference": "" },
            { "plaintext": "" }]);
        let body = answer(&json!({ "data": { "batch_results": results } }));
        let items = items_of(&body, "ciphertext", 3).unwrap();
        assert_eq!(items[0], Ok("vault:v1:x".to_owned()));
        assert_eq!(items[1], Err(Cause::Refused("illegal base64 data".to_owned())));
        assert!(items[2].is_err());
        assert!(items_of(&body, "ciphertext", 2).is_err(), "an answer to another question");
    }
}
