//! Certificates as answers have them, PEM, and chains of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tls::{CertificateDer, ChainError};

use crate::Cause;

/// The certificates of a PEM text, in its order.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let read =
        tls::certificates(pem.as_bytes()).map_err(|_| Cause::Answer("its certificates are not PEM"))?;
    if read.len() > MOST { Err(TOO_MANY) } else { Ok(read) }
}

/// The leaf, then its issuers up to but without a self-signed one, each signed by the next; PEM.
pub(super) fn build(leaf: &CertificateDer<'_>, authorities: &[CertificateDer<'_>]) -> Result<String, Cause> {
    if authorities.len() > MOST {
        return Err(TOO_MANY);
    }
    let chain = tls::chain(leaf, authorities).map_err(|error| match error {
        ChainError::Unreadable => Cause::Answer("it has a certificate that is none"),
        ChainError::NoIssuer => Cause::Answer("none of its authorities signed the certificate"),
    })?;
    Ok(chain.into_iter().map(pem).collect())
}

/// Each certificate once, PEM.
pub(super) fn distinct(certificates: &[CertificateDer<'_>]) -> String {
    let first =
        |(position, der): &(usize, _)| !certificates.iter().take(*position).any(|other| other == *der);
    certificates.iter().enumerate().filter(first).map(|(_, der)| pem(der)).collect()
}

/// PEM with lines of 64 characters (RFC 7468 section 2).
fn pem(der: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(der);
    let lines: String = text
        .as_bytes()
        .chunks(64)
        .flat_map(|line| line.iter().map(|byte| char::from(*byte)).chain(['\n']))
        .collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

/// More issuers than any real chain has.
const MOST: usize = 32;
const TOO_MANY: Cause = Cause::Answer("it has too many certificates");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_told_once_and_in_lines_of_64_characters() {
        let (one, other) = (CertificateDer::from(vec![1; 100]), CertificateDer::from(vec![2; 3]));
        let told = distinct(&[one.clone(), other.clone(), one.clone()]);
        assert_eq!(certificates(&told).unwrap(), [one, other]);
        assert!(told.lines().all(|line| line.len() <= 64) && told.contains("\nAgIC\n"), "{told}");
    }

    #[test]
    fn more_certificates_than_any_chain_has_are_refused() {
        let one = CertificateDer::from(vec![1; 3]);
        assert_eq!(build(&one, &vec![one.clone(); MOST + 1]), Err(TOO_MANY));
        assert_eq!(certificates(&pem(&one).repeat(MOST + 1)), Err(TOO_MANY));
    }
}
