//! SHA-256 by the build's own crypto provider, so that tests bring no second implementation.

use rustls::crypto::hash::{Context, Hash, HashAlgorithm};

/// The SHA-256 of `bytes` in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let mut running = Sha256::default();
    running.update(bytes);
    running.finish()
}

/// A SHA-256 over bytes that arrive in pieces.
pub(crate) struct Sha256(Box<dyn Context>);

impl Sha256 {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self(hash().start())
    }
}

fn hash() -> &'static dyn Hash {
    crate::provider()
        .cipher_suites
        .iter()
        .filter_map(rustls::SupportedCipherSuite::tls13)
        .map(|suite| suite.common.hash_provider)
        .find(|hash| hash.algorithm() == HashAlgorithm::SHA256)
        .expect("every provider has TLS_AES_128_GCM_SHA256")
}
