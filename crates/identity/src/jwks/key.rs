//! One key of a set (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).

use jsonwebtoken::DecodingKey;

use super::KeyThumbprint;
use crate::json::{Json, Object};
use crate::jwt::{Algorithm, decode_part, is_key_id};
use crate::sha256;

/// RSA keys in bits: fewer are weak, more cost too much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The longest RSA exponent in bytes that the providers take.
const MAX_EXPONENT_BYTES: usize = 4;

/// A public key for signatures.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    kid: Option<String>,
    material: Material,
    /// The one algorithm that the issuer restricts the key to.
    algorithm: Option<Algorithm>,
    decoding: DecodingKey,
    thumbprint: KeyThumbprint,
}

impl Key {
    /// Reads a key, or says why it is not used.
    pub(super) fn read(entry: &Object<'_>) -> Result<Self, &'static str> {
        let kid = match entry.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().filter(|kid| is_key_id(kid)).ok_or("kid cannot be used")?),
        };
        check_purpose(entry)?;
        let material = match (text(entry, "kty"), text(entry, "crv")) {
            (Some("RSA"), _) => rsa(entry)?,
            (Some("EC"), Some("P-256")) => Material::P256(point(entry, 32)?),
            (Some("EC"), Some("P-384")) => Material::P384(point(entry, 48)?),
            (Some("OKP"), Some("Ed25519")) => Material::Ed25519(bytes(entry, "x", 32)?),
            (Some("EC" | "OKP"), _) => return Err("curve is not supported"),
            (Some("oct"), _) => return Err("symmetric keys are never used"),
            _ => return Err("kty is not supported"),
        };
        let algorithm = match entry.get("alg") {
            None => None,
            Some(name) => Some(
                name.as_str()
                    .and_then(|name| name.parse().ok())
                    .filter(|algorithm| material.fits(*algorithm))
                    .ok_or("alg is no signature algorithm of this key")?,
            ),
        };
        Ok(Self {
            kid: kid.map(str::to_owned),
            algorithm,
            thumbprint: thumbprint(kid, algorithm, &material),
            decoding: material.decoding(),
            material,
        })
    }

    /// Whether tokens of this algorithm may be verified with the key.
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.material.fits(algorithm) && self.algorithm.is_none_or(|only| only == algorithm)
    }

    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(crate) const fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    pub(crate) const fn thumbprint(&self) -> KeyThumbprint {
        self.thumbprint
    }
}

/// The public numbers of a key.
#[derive(Clone, Debug)]
enum Material {
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

impl Material {
    const fn fits(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::ES256 => matches!(self, Self::P256(_)),
            Algorithm::ES384 => matches!(self, Self::P384(_)),
            Algorithm::EdDSA => matches!(self, Self::Ed25519(_)),
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => matches!(self, Self::Rsa { .. }),
        }
    }

    fn decoding(&self) -> DecodingKey {
        match self {
            Self::P256(point) | Self::P384(point) => DecodingKey::from_ec_der(point),
            Self::Ed25519(point) => DecodingKey::from_ed_der(point),
            Self::Rsa { modulus, exponent } => DecodingKey::from_rsa_raw_components(modulus, exponent),
        }
    }
}

/// `use`, `key_ops` and private members: only a public key that may verify passes.
fn check_purpose(entry: &Object<'_>) -> Result<(), &'static str> {
    if entry.contains_key("d") {
        return Err("private key is published");
    }
    if entry.get("use").is_some_and(|purpose| purpose.as_str() != Some("sig")) {
        return Err("use is not sig");
    }
    let operations = entry.get("key_ops").map(|operations| operations.as_strings().unwrap_or_default());
    if operations.is_some_and(|operations| !operations.contains(&"verify")) {
        return Err("key_ops lacks verify");
    }
    Ok(())
}

fn rsa(entry: &Object<'_>) -> Result<Material, &'static str> {
    let modulus = number(entry, "n")?;
    let exponent = number(entry, "e")?;
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("RSA key is smaller than 2048 or larger than 8192 bits");
    }
    let is_odd = exponent.last().is_some_and(|last| last % 2 == 1);
    if !is_odd || exponent == [1] || exponent.len() > MAX_EXPONENT_BYTES {
        return Err("RSA exponent is refused");
    }
    Ok(Material::Rsa { modulus, exponent })
}

fn point(entry: &Object<'_>, size: usize) -> Result<Vec<u8>, &'static str> {
    const UNCOMPRESSED: u8 = 4;
    Ok([vec![UNCOMPRESSED], bytes(entry, "x", size)?, bytes(entry, "y", size)?].concat())
}

fn text<'a>(entry: &'a Object<'_>, name: &str) -> Option<&'a str> {
    entry.get(name).and_then(Json::as_str)
}

fn bytes(entry: &Object<'_>, name: &str, size: usize) -> Result<Vec<u8>, &'static str> {
    text(entry, name)
        .and_then(decode_part)
        .filter(|bytes| bytes.len() == size)
        .ok_or("coordinate cannot be read")
}

/// A positive number without the zero bytes that some issuers write in front.
fn number(entry: &Object<'_>, name: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = text(entry, name).and_then(decode_part).ok_or("RSA number cannot be read")?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

/// The digest of everything that decides what the key verifies, each part with its length in front.
fn thumbprint(kid: Option<&str>, algorithm: Option<Algorithm>, material: &Material) -> KeyThumbprint {
    let (kind, first, second) = match material {
        Material::P256(point) => ("P-256", point.as_slice(), [].as_slice()),
        Material::P384(point) => ("P-384", point.as_slice(), [].as_slice()),
        Material::Ed25519(point) => ("Ed25519", point.as_slice(), [].as_slice()),
        Material::Rsa { modulus, exponent } => ("RSA", modulus.as_slice(), exponent.as_slice()),
    };
    let parts = [
        kid.unwrap_or_default().as_bytes(),
        algorithm.map_or("", Algorithm::as_str).as_bytes(),
        kind.as_bytes(),
        first,
        second,
    ];
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&part.len().to_be_bytes());
        text.extend_from_slice(part);
    }
    KeyThumbprint(sha256(&text))
}
