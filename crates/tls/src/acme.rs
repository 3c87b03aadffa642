//! Proofs for an ACME server that we control a name, each for as long as an order needs it.
//!
//! **Shown:** for TLS-ALPN-01 (RFC 8737) a self-signed certificate, on every TLS listener of the process, to a ClientHello
//! whose only protocol is `acme-tls/1` and whose server name is being proven; the connection ends with the handshake, nothing
//! is ever said on it. For HTTP-01 (RFC 8555 section 8.3) the key authorization of a token, to whoever answers on plain
//! HTTP. **Refused:** `acme-tls/1` for any other name, with the alert of a server that does not know the protocol. A
//! ClientHello that offers `acme-tls/1` among others is an ordinary one.
//!
//! The proofs are the process's, not a listener's: the authority chooses where it comes in. No other handshake and no other
//! request reads them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::StartHandshake;
use x509_parser::extensions::ParsedExtension;
use zeroize::Zeroize;

use crate::Version;
use crate::failure::HandshakeError;
use crate::provider::{provider, signing_key};
use crate::x509::{certificates, parse};

/// A proof that is being shown; withdrawn when dropped.
#[derive(Debug)]
#[must_use = "the proof is withdrawn when this is dropped"]
pub struct Proof(Kind);

/// Why a proof is not shown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// Another order proves the same at this moment.
    #[error("another order is proving `{0}` at this moment")]
    Taken(String),
    /// The certificate could not be made.
    #[error("the certificate that proves `{name}` cannot be made: {cause}")]
    Certificate {
        /// The name that was to be proven.
        name: String,
        /// What the library says.
        cause: String,
    },
}

/// Shows the certificate that proves control over the DNS name `name` (RFC 8737 section 3); `digest` is the SHA-256 of
/// the key authorization.
///
/// # Errors
/// Another order is proving the name, or it makes no certificate.
pub fn show_certificate(name: &str, digest: &[u8; 32]) -> Result<Proof, ProofError> {
    let name: Box<str> = name.to_ascii_lowercase().into();
    let config = challenge_config(&name, digest)
        .map_err(|cause| ProofError::Certificate { name: name.to_string(), cause })?;
    put(&CERTIFICATES, name.clone(), Arc::new(config)).map_err(|()| ProofError::Taken(name.to_string()))?;
    Ok(Proof(Kind::Certificate(name)))
}

/// Answers for the token of an HTTP-01 challenge on the host `name` with this key authorization.
///
/// # Errors
/// The same token is being proven already.
pub fn show_token(name: &str, token: &str, key_authorization: &str) -> Result<Proof, ProofError> {
    let shown = (Box::from(name.to_ascii_lowercase()), Arc::from(key_authorization));
    put(&TOKENS, token.into(), shown).map_err(|()| ProofError::Taken(name.to_owned()))?;
    Ok(Proof(Kind::Token(token.into())))
}

/// The key authorization for a token that is being proven for `host` (lower case, no port).
#[must_use]
pub fn key_authorization(host: &str, token: &str) -> Option<Arc<str>> {
    let tokens = TOKENS.read().unwrap_or_else(PoisonError::into_inner);
    tokens.get(token).filter(|(name, _)| **name == *host).map(|(_, shown)| Arc::clone(shown))
}

/// The key id of the issuer and the serial number, both as in the DER, of the first certificate of a PEM chain: what ACME
/// renewal information is asked by (RFC 9773 section 4.1).
#[must_use]
pub fn renewal_id(chain_pem: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let chain = certificates(chain_pem).ok()?;
    let parsed = parse(chain.get(..1)?).ok()?;
    let leaf = parsed.first()?;
    let authority = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.as_ref(),
        _ => None,
    })?;
    Some((authority.0.to_vec(), leaf.tbs_certificate.raw_serial().to_vec()))
}

/// Whether a ClientHello comes from an ACME server that validates a name: `acme-tls/1` alone (RFC 8737 section 3).
pub(crate) fn is_validation(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.next() == Some(PROTOCOL) && protocols.next().is_none())
}

/// Shows the proof for `name`, if there is one, and ends the connection.
pub(crate) async fn validate<IO>(mut start: StartHandshake<IO>, name: Option<&str>) -> HandshakeError
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let shown = name.and_then(|name| {
        CERTIFICATES.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    });
    let Some(config) = shown else {
        crate::server::send_alert(&mut start.io, NO_APPLICATION_PROTOCOL).await;
        return HandshakeError::Protocol("no ACME proof for this name is under way".to_owned());
    };
    match start.into_stream(config).await {
        Ok(mut stream) => {
            // The authority has what it wanted; it may be gone already.
            let _ = stream.shutdown().await;
            HandshakeError::AcmeValidation
        }
        Err(error) => error.into(),
    }
}

#[derive(Debug)]
enum Kind {
    Certificate(Box<str>),
    Token(Box<str>),
}

impl Drop for Proof {
    fn drop(&mut self) {
        match &self.0 {
            Kind::Certificate(name) => {
                CERTIFICATES.write().unwrap_or_else(PoisonError::into_inner).remove(name);
            }
            Kind::Token(token) => {
                TOKENS.write().unwrap_or_else(PoisonError::into_inner).remove(token);
            }
        }
    }
}

type Shown<V> = LazyLock<RwLock<HashMap<Box<str>, V>>>;

/// By name.
static CERTIFICATES: Shown<Arc<ServerConfig>> = LazyLock::new(RwLock::default);
/// By token: the name, and what is answered.
static TOKENS: Shown<(Box<str>, Arc<str>)> = LazyLock::new(RwLock::default);

/// One key, one proof: the second is refused, so that dropping it cannot withdraw the first.
fn put<K: Eq + Hash, V>(shown: &RwLock<HashMap<K, V>>, key: K, value: V) -> Result<(), ()> {
    match shown.write().unwrap_or_else(PoisonError::into_inner).entry(key) {
        Entry::Occupied(_) => Err(()),
        Entry::Vacant(place) => {
            place.insert(value);
            Ok(())
        }
    }
}

/// One name and the critical extension `acmeIdentifier`, under a key of its own.
fn challenge_config(name: &str, digest: &[u8; 32]) -> Result<ServerConfig, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut params = CertificateParams::new([name.to_owned()]).map_err(|error| text(&error))?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(|error| text(&error))?;
    let certificate = params.self_signed(&key).map_err(|error| text(&error))?;
    let mut der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = signing_key(&der);
    der.zeroize();
    let certified =
        CertifiedKey::new(vec![certificate.der().clone()], signing.map_err(|error| text(&error))?);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(Version::Tls12.and_above())
        .map_err(|error| text(&error))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// RFC 8737 section 6.2.
const PROTOCOL: &[u8] = b"acme-tls/1";
const NO_APPLICATION_PROTOCOL: u8 = 120;
