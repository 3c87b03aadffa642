//! The two vets: of a client's chain and of a server's leaf.

use std::time::SystemTime;

use super::{CertificateError, NameForm, PeerCertificate, ServerIdentity};

/// The longest chain that is looked at, leaf included; webpki follows six intermediates.
pub(super) const MAX_CHAIN: usize = 10;

/// Vets a client's chain (DER, leaf first) at `now` and names the caller by `form`. `trust` is the name of the trust
/// entry, the authority of DNS and subject names.
///
/// # Errors
/// The first thing that is wrong.
pub fn vet_client<'a>(
    chain: impl IntoIterator<Item = &'a [u8]>,
    form: &NameForm,
    trust: &str,
    now: SystemTime,
) -> Result<PeerCertificate, CertificateError> {
    let _ = (chain.into_iter().next(), form, trust, now);
    Err(CertificateError::Malformed)
}

/// Vets an upstream's leaf (DER) at `now`. A DNS name was compared by webpki already; a SPIFFE id is compared here.
///
/// # Errors
/// The first thing that is wrong.
pub fn vet_server(leaf: &[u8], expect: &ServerIdentity, now: SystemTime) -> Result<(), CertificateError> {
    let _ = (leaf, expect, now);
    Err(CertificateError::Malformed)
}
