//! The one crypto provider of the build: aws-lc-rs (X25519MLKEM768 preferred) or ring, chosen by feature.
//!
//! rustls has AEAD suites only: all of TLS 1.3, and ECDHE with AES-GCM or ChaCha20-Poly1305 in TLS 1.2. A client that
//! offers only RC4, CBC, export or NULL suites, or only TLS 1.0 or 1.1, is answered with an alert.

use std::sync::{Arc, OnceLock};

use rustls::Error;
use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as chosen;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use rustls::crypto::ring as chosen;

/// The provider that every configuration of this crate uses; made once.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(chosen::default_provider())))
}

/// Makes [`provider`] the default of the process, for libraries that ask rustls for one; the first call wins.
pub fn install_default() {
    // A second call finds the provider of the first one: that is what was asked for.
    let _ = CryptoProvider::install_default((*provider()).clone());
}

/// The name of the provider, for `version` and logs.
#[must_use]
pub const fn provider_name() -> &'static str {
    if cfg!(feature = "aws-lc-rs") { "aws-lc-rs" } else { "ring" }
}

/// The methods that the verifiers of both sides have in common: handshake signatures are the provider's to check.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &rustls_pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &$crate::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &rustls_pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &$crate::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            $crate::provider().signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(crate) use handshake_signatures;

/// A fresh ticketer: its keys are random, live in memory only and rotate by themselves.
pub(crate) fn ticketer() -> Result<Arc<dyn ProducesTickets>, Error> {
    chosen::Ticketer::new()
}

/// A signing key from DER. Borrows, so that the caller can wipe the bytes.
pub(crate) fn signing_key(der: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, Error> {
    chosen::sign::any_supported_type(der)
}
