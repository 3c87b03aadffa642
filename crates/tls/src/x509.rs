//! Small readings of X.509 that loading and verifying share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// All `CERTIFICATE` sections of a PEM file, in order.
///
/// # Errors
/// A section that does not end, as in a half-written file, or is not base64.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

/// One list of two, borrowed.
pub(crate) fn joined<'a>(
    first: &'a [CertificateDer<'_>],
    second: &'a [CertificateDer<'_>],
) -> Vec<CertificateDer<'a>> {
    first.iter().chain(second).map(|der| CertificateDer::from(der.as_ref())).collect()
}

/// Reads certificates; the error is the position, from 1, of the one that cannot be read.
pub(crate) fn parse<'a>(ders: &'a [CertificateDer<'_>]) -> Result<Vec<X509Certificate<'a>>, usize> {
    ders.iter()
        .zip(1..)
        .map(|(der, position)| match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(certificate),
            Ok(_) | Err(_) => Err(position),
        })
        .collect()
}

/// An ASN.1 time as system time; times before 1970 are 1970.
pub(crate) fn system_time(time: ASN1Time) -> SystemTime {
    system(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// Whole seconds since 1970; times before are 0.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The other way round of [`seconds`].
pub(crate) fn system(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// webpki's time.
pub(crate) fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The other way round of [`unix`].
pub(crate) fn from_unix(time: UnixTime) -> SystemTime {
    system(time.as_secs())
}
