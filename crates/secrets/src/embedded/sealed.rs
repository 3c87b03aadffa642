//! The format of the store's file.
//!
//! A line `portcullis-store/1 {…}` says in JSON how the rest is sealed; the rest is a nonce and what XChaCha20-Poly1305 made
//! of the content, with that line as associated data. The content is JSON, values in base64. **Refused:** another version,
//! another key, anything that does not authenticate. What is opened is wiped from memory when it is dropped.

use std::collections::BTreeMap;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orion::errors::UnknownCryptoError;
use orion::hazardous::aead::xchacha20poly1305::{self, Nonce};
use orion::kdf::{self, Password, Salt};
use orion::{aead, auth};
use secrecy::{ExposeSecret, SecretString};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::Opener;
use super::authority::Authority;

/// What is in the store.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    pub(super) values: BTreeMap<String, Value>,
    pub(super) authority: Option<Authority>,
}

/// A text that is wiped; base64 in JSON, so that no escape has it copied to and fro.
#[derive(Clone)]
pub(super) struct Value(pub(super) SecretString);

/// Why the file cannot be opened or sealed; the texts go on from the file's name, but those of keys.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum SealError {
    #[error("is no store of secrets")]
    Foreign,
    #[error("has format {0}; this program knows format {FORMAT}")]
    Version(u32),
    #[error("has a first line that cannot be used")]
    Header,
    #[error("is sealed with a passphrase, not with a key")]
    WantsPassphrase,
    #[error("is sealed with a key, not with a passphrase")]
    WantsKey,
    #[error("is sealed with another key or passphrase")]
    OtherKey,
    #[error("is damaged or cut off: the key is right and does not open it")]
    Damaged,
    #[error("the store's key is not 32 bytes in base64")]
    KeyForm,
    #[error("the store's passphrase cannot be used")]
    Passphrase,
    #[error("the store cannot be sealed")]
    Sealing,
}

/// The first line, but the version.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// Tells another key from a damaged file.
    key_id: String,
    /// How a passphrase becomes the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argon2i: Option<Argon2i>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Argon2i {
    iterations: u32,
    kibibytes: u32,
    /// Base64.
    salt: String,
}

/// What seals and opens a file with a certain first line.
pub(super) struct Key {
    /// With its line end.
    line: Vec<u8>,
    key: aead::SecretKey,
}

impl Key {
    /// For a new file.
    pub(super) fn new(opener: &Opener) -> Result<Self, SealError> {
        let (key, argon2i) = match opener {
            Opener::Key(text) => (decoded(text)?, None),
            Opener::Passphrase(text) => {
                let salt = STANDARD.encode(Salt::default());
                let stretch = Argon2i { iterations: ITERATIONS, kibibytes: KIBIBYTES, salt };
                (stretched(text, &stretch)?, Some(stretch))
            }
        };
        let header = Header { key_id: key_id(&key)?, argon2i };
        let header = serde_json::to_string(&header).map_err(|_| SealError::Sealing)?;
        Ok(Self { line: format!("{MAGIC}{FORMAT} {header}\n").into_bytes(), key })
    }

    /// For a file with this first line.
    pub(super) fn of(line: &[u8], opener: &Opener) -> Result<Self, SealError> {
        let text = str::from_utf8(line).map_err(|_| SealError::Foreign)?;
        let (version, header) =
            text.strip_prefix(MAGIC).and_then(|rest| rest.split_once(' ')).ok_or(SealError::Foreign)?;
        let version: u32 = version.parse().map_err(|_| SealError::Foreign)?;
        if version != FORMAT {
            return Err(SealError::Version(version));
        }
        let header: Header = serde_json::from_str(header).map_err(|_| SealError::Header)?;
        let key = match (opener, &header.argon2i) {
            (Opener::Key(text), None) => decoded(text)?,
            (Opener::Passphrase(text), Some(stretch)) => stretched(text, stretch)?,
            (Opener::Key(_), Some(_)) => return Err(SealError::WantsPassphrase),
            (Opener::Passphrase(_), None) => return Err(SealError::WantsKey),
        };
        if key_id(&key)? != header.key_id {
            return Err(SealError::OtherKey);
        }
        Ok(Self { line: line.to_owned(), key })
    }

    pub(super) fn fits(&self, line: &[u8]) -> bool {
        self.line == line
    }

    /// The whole file.
    pub(super) fn seal(&self, content: &Content) -> Result<Vec<u8>, SealError> {
        let mut length = Length(0);
        serde_json::to_writer(&mut length, content).map_err(|_| SealError::Sealing)?;
        // A buffer that grows leaves copies behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(length.0));
        serde_json::to_writer(&mut *plain, content).map_err(|_| SealError::Sealing)?;
        let nonce = Nonce::generate();
        let mut sealed = vec![0; plain.len() + TAG];
        let key = raw(&self.key).map_err(|_| SealError::Sealing)?;
        xchacha20poly1305::seal(&key, &nonce, &plain, Some(&self.line), &mut sealed)
            .map_err(|_| SealError::Sealing)?;
        Ok([&self.line, nonce.as_ref(), &sealed].concat())
    }

    /// The content of what follows the first line.
    pub(super) fn open(&self, body: &[u8]) -> Result<Content, SealError> {
        let (nonce, sealed) = body.split_at_checked(NONCE).ok_or(SealError::Damaged)?;
        let length = sealed.len().checked_sub(TAG).ok_or(SealError::Damaged)?;
        let mut plain = Zeroizing::new(vec![0; length]);
        let opened = raw(&self.key).and_then(|key| {
            let nonce = Nonce::from_slice(nonce)?;
            xchacha20poly1305::open(&key, &nonce, sealed, Some(&self.line), &mut plain)
        });
        opened.map_err(|_| SealError::Damaged)?;
        serde_json::from_slice(&plain).map_err(|_| SealError::Damaged)
    }
}

/// The first line with its end, and the rest.
pub(super) fn split(file: &[u8]) -> Result<(&[u8], &[u8]), SealError> {
    if !file.starts_with(MAGIC.as_bytes()) {
        return Err(SealError::Foreign);
    }
    let end = file.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n').ok_or(SealError::Header)?;
    file.split_at_checked(end + 1).ok_or(SealError::Header)
}

/// Whether this may open a store at all.
pub(super) fn check(opener: &Opener) -> Result<(), SealError> {
    match opener {
        Opener::Key(text) => decoded(text).map(|_| ()),
        Opener::Passphrase(text) if text.expose_secret().is_empty() => Err(SealError::Passphrase),
        Opener::Passphrase(_) => Ok(()),
    }
}

/// A new random key as text.
pub(super) fn new_key() -> SecretString {
    STANDARD.encode(aead::SecretKey::default().unprotected_as_bytes()).into()
}

fn decoded(text: &SecretString) -> Result<aead::SecretKey, SealError> {
    let bytes = STANDARD.decode(text.expose_secret().trim()).map_err(|_| SealError::KeyForm)?;
    let bytes = Zeroizing::new(bytes);
    if bytes.len() != KEY {
        return Err(SealError::KeyForm);
    }
    aead::SecretKey::from_slice(&bytes).map_err(|_| SealError::KeyForm)
}

fn stretched(passphrase: &SecretString, stretch: &Argon2i) -> Result<aead::SecretKey, SealError> {
    // Whoever may write the file must not choose how much memory its reader takes.
    if stretch.iterations > MOST_ITERATIONS || stretch.kibibytes > MOST_KIBIBYTES {
        return Err(SealError::Header);
    }
    let salt = STANDARD.decode(&stretch.salt).map_err(|_| SealError::Header)?;
    let salt = Salt::from_slice(&salt).map_err(|_| SealError::Header)?;
    let password = Password::from_slice(passphrase.expose_secret().as_bytes());
    let password = password.map_err(|_| SealError::Passphrase)?;
    kdf::derive_key(&password, &salt, stretch.iterations, stretch.kibibytes, KEY as u32)
        .map_err(|_| SealError::Header)
}

/// Says nothing about the key but whether another is the same.
fn key_id(key: &aead::SecretKey) -> Result<String, SealError> {
    let tag = auth::authenticate(key, b"portcullis-store key id").map_err(|_| SealError::Sealing)?;
    Ok(STANDARD.encode(tag.unprotected_as_bytes().get(..9).unwrap_or_default()))
}

fn raw(key: &aead::SecretKey) -> Result<xchacha20poly1305::SecretKey, UnknownCryptoError> {
    xchacha20poly1305::SecretKey::from_slice(key.unprotected_as_bytes())
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(STANDARD.encode(self.0.expose_secret()));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = STANDARD.decode(<&str>::deserialize(deserializer)?).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| D::Error::custom("not base64"))?;
        let text = str::from_utf8(&bytes).map_err(|_| D::Error::custom("not text"))?;
        Ok(Self(text.into()))
    }
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const MAGIC: &str = "portcullis-store/";
const FORMAT: u32 = 1;
const LONGEST_LINE: usize = 1024;
const KEY: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;
/// libsodium's moderate number of passes for Argon2i, over a memory that also a small container has.
const ITERATIONS: u32 = 6;
const KIBIBYTES: u32 = 64 << 10;
const MOST_ITERATIONS: u32 = 64;
const MOST_KIBIBYTES: u32 = 1 << 20;
