//! Keys that sign (for real) and encrypt (not at all: the ciphertext is the plaintext in another spelling).

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::call::{Call, Given, Outcome};
use super::state::{given, refuse};
use crate::sha256;
use crate::token::{Algorithm, TokenKey};

#[derive(Default)]
pub(super) struct Transit(BTreeMap<String, Key>);

struct Key {
    kind: String,
    /// The first is version 1; none for keys that encrypt.
    versions: Vec<Option<TokenKey>>,
    /// Input and signature, as they were asked for and given.
    signed: BTreeSet<(String, String)>,
}

impl Transit {
    pub(super) fn answer(&mut self, call: &Call, below: &str, date: &str) -> Outcome {
        let parts: Vec<&str> = below.split('/').collect();
        let (part, name, rest) = match parts.as_slice() {
            [part, name, rest @ ..] => (*part, *name, rest.first().copied().unwrap_or_default()),
            _ => return refuse(404, ""),
        };
        let is_read = call.method == "GET";
        if let ("keys", "", false) = (part, rest, is_read) {
            let kind = match call.text("type").as_str() {
                "" => "aes256-gcm96".to_owned(),
                kind => kind.to_owned(),
            };
            let key = self.0.entry(name.to_owned()).or_insert_with(|| Key::new(&kind));
            return given(key.told(name, date));
        }
        let Some(key) = self.0.get_mut(name) else {
            return if is_read { refuse(404, "") } else { refuse(400, "signing key not found") };
        };
        match (part, rest) {
            ("keys", "rotate") => {
                key.versions.push(pair(&key.kind));
                given(key.told(name, date))
            }
            ("keys", "") => given(key.told(name, date)),
            ("keys", _) => Given::nothing(),
            ("sign", _) => key.sign(call),
            ("verify", _) => {
                let asked = (call.text("input"), call.text("signature"));
                given(json!({ "valid": key.signed.contains(&asked) }))
            }
            _ => key.batch(call, part, name),
        }
    }
}

impl Key {
    fn new(kind: &str) -> Self {
        Self { kind: kind.to_owned(), versions: vec![pair(kind)], signed: BTreeSet::new() }
    }

    fn told(&self, name: &str, date: &str) -> Value {
        let told = |pair: &Option<TokenKey>| match pair {
            None => json!(1_795_315_096),
            Some(pair) if self.kind == "ed25519" => {
                json!({ "creation_time": date, "name": "ed25519", "public_key": STANDARD.encode(pair.public_bytes()) })
            }
            Some(pair) => {
                json!({ "creation_time": date, "name": self.kind, "public_key": pair.public_key_pem() })
            }
        };
        let keys = self.versions.iter().zip(1..).map(|(pair, version)| (version.to_string(), told(pair)));
        json!({ "name": name, "type": self.kind, "latest_version": self.versions.len(), "min_decryption_version": 1,
            "min_encryption_version": 0, "keys": Value::Object(keys.collect::<Map<String, Value>>()) })
    }

    fn sign(&mut self, call: &Call) -> Outcome {
        let Some(Some(pair)) = self.versions.last() else {
            return refuse(400, &format!("key type {} does not support signing", self.kind));
        };
        let (input, form) = (call.text("input"), call.text("marshaling_algorithm"));
        let Ok(bytes) = STANDARD.decode(&input) else {
            return refuse(400, "unable to decode input: illegal base64 data");
        };
        if form != "jws" || self.kind.starts_with("rsa") && call.text("signature_algorithm") != "pkcs1v15" {
            return refuse(400, "the fake signs as a JWS only, by PKCS #1 v1.5");
        }
        let version = self.versions.len();
        let signature = format!("vault:v{version}:{}", URL_SAFE_NO_PAD.encode(pair.signature(&bytes)));
        self.signed.insert((input, signature.clone()));
        given(json!({ "key_version": version, "signature": signature }))
    }

    fn batch(&self, call: &Call, operation: &str, name: &str) -> Outcome {
        let items = call.body["batch_input"].as_array().cloned().unwrap_or_default();
        let results: Vec<Result<Value, String>> =
            items.iter().map(|item| self.item(item, operation, name)).collect();
        let partly = operation != "hmac" && results.iter().any(Result::is_err);
        let told = results.into_iter().map(|result| {
            result.unwrap_or_else(|error| json!({ "error": error, "plaintext": "", "reference": "" }))
        });
        let data = json!({ "batch_results": told.collect::<Vec<_>>() });
        Ok(Given { data, partly, ..Given::default() })
    }

    fn item(&self, item: &Value, operation: &str, name: &str) -> Result<Value, String> {
        let version = self.versions.len();
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        let sealed = |plain: &str| {
            STANDARD.decode(plain).map_err(|_| "illegal base64 data at input byte 0".to_owned())?;
            let cipher = format!("vault:v{version}:{}", STANDARD.encode(format!("{name}:{plain}")));
            Ok(json!({ "ciphertext": cipher, "key_version": version, "reference": "" }))
        };
        let opened = || {
            let cipher = text("ciphertext");
            let cipher = cipher.strip_prefix("vault:v").ok_or("invalid ciphertext: no prefix")?;
            let (made_by, cipher) = cipher.split_once(':').ok_or("invalid ciphertext: no prefix")?;
            let made_by: usize =
                made_by.parse().map_err(|_| "invalid ciphertext: version is not a number")?;
            let bytes = STANDARD.decode(cipher).map_err(|_| "invalid ciphertext: could not decode base64")?;
            let plain = String::from_utf8(bytes).ok().filter(|_| made_by <= version);
            let plain = plain.and_then(|plain| plain.strip_prefix(&format!("{name}:")).map(str::to_owned));
            plain.ok_or_else(|| "cipher: message authentication failed".to_owned())
        };
        match operation {
            "encrypt" => sealed(&text("plaintext")),
            "decrypt" => opened().map(|plain| json!({ "plaintext": plain, "reference": "" })),
            "rewrap" => sealed(&opened()?),
            "hmac" => {
                let digest = sha256(format!("{name}{version}{}", text("input")).as_bytes());
                Ok(json!({ "hmac": format!("vault:v{version}:{}", STANDARD.encode(digest)) }))
            }
            _ => Err(format!("unknown operation {operation}")),
        }
    }
}

fn pair(kind: &str) -> Option<TokenKey> {
    let algorithm = match kind {
        "ecdsa-p256" => Algorithm::Es256,
        "ed25519" => Algorithm::EdDsa,
        "rsa-2048" => Algorithm::Rs256,
        _ => return None,
    };
    Some(TokenKey::generate(algorithm, "transit"))
}
