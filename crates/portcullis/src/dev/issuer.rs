//! The development token issuer: its public keys as a JWKS, and ready tokens for two people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::json;
use zeroize::Zeroizing;

use super::directory::{Directory, Readers};
use super::{DevError, sample};

/// Somebody with a token.
struct Person {
    name: &'static str,
    roles: &'static [&'static str],
}

/// Both may read orders by their scope; carol may change them by her role.
const PEOPLE: [Person; 2] =
    [Person { name: "alice", roles: &[] }, Person { name: "carol", roles: &["orders-admin"] }];

/// Makes the issuer's key unless it is there, its JWKS, and the tokens anew.
pub(super) fn prepare(directory: &Directory, now: SystemTime) -> Result<(), DevError> {
    let failed = |name: &str| {
        let path = directory.path(name);
        move |reason| DevError::Token { path, reason }
    };
    let pem = match directory.read(KEY)?.map(Zeroizing::new) {
        Some(pem) => pem,
        None => {
            let made = |reason| DevError::Certificate { path: directory.path(KEY), reason };
            let pem = Zeroizing::new(KeyPair::generate().map_err(made)?.serialize_pem());
            directory.write(KEY, &pem, Readers::Owner)?;
            pem
        }
    };
    let key = EncodingKey::from_ec_pem(pem.as_bytes()).map_err(failed(KEY))?;
    let jwk = public(&key).map_err(failed(JWKS))?;
    let header = Header { kid: jwk.common.key_id.clone(), ..Header::new(Algorithm::ES256) };
    let jwks = serde_json::to_string_pretty(&JwkSet { keys: vec![jwk] });
    let jwks = jwks.map_err(|error| failed(JWKS)(error.into()))?;
    directory.write(JWKS, &jwks, Readers::All)?;
    for person in &PEOPLE {
        let file = format!("{}.token", person.name);
        let token = token(person, &header, &key, now).map(Zeroizing::new).map_err(failed(&file))?;
        directory.write(&file, &token, Readers::Owner)?;
    }
    Ok(())
}

fn public(key: &EncodingKey) -> jsonwebtoken::errors::Result<Jwk> {
    let mut jwk = Jwk::from_encoding_key(key, Algorithm::ES256)?;
    jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256)?);
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    Ok(jwk)
}

fn token(
    person: &Person,
    header: &Header,
    key: &EncodingKey,
    now: SystemTime,
) -> jsonwebtoken::errors::Result<String> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = json!({
        "iss": sample::ISSUER,
        "aud": "gateway",
        "sub": person.name,
        "iat": now.as_secs(),
        "exp": (now + LIFETIME).as_secs(),
        "scope": "orders:read",
        "roles": person.roles,
        "department": "sales",
    });
    jsonwebtoken::encode(header, &claims, key)
}

const KEY: &str = "issuer.key";
const JWKS: &str = "jwks.json";
/// As long as a leaf: what was pasted this week works until the next start.
const LIFETIME: Duration = Duration::from_secs(30 * 86_400);
