//! Certificate chains, built from certificates in any order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tls::CertificateDer;
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Cause;

/// The certificates of a PEM text, in its order.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let read =
        tls::certificates(pem.as_bytes()).map_err(|_| Cause::Answer("its certificates are not PEM"))?;
    if read.len() > MOST { Err(Cause::Answer("it has too many certificates")) } else { Ok(read) }
}

/// The leaf, then its issuers up to but without a self-signed one, each signed by the next; PEM. An intermediate whose issuer is not
/// there ends the chain.
pub(super) fn build(leaf: &CertificateDer<'_>, authorities: &[CertificateDer<'_>]) -> Result<String, Cause> {
    if authorities.len() > MOST {
        return Err(Cause::Answer("it has too many certificates"));
    }
    let mut unused: Vec<_> =
        authorities.iter().map(|der| Ok((der, read(der)?))).collect::<Result<_, Cause>>()?;
    let mut chain = pem(leaf);
    let mut last = read(leaf)?;
    while let Some(position) = unused.iter().position(|(_, issuer)| is_signed_by(&last, issuer)) {
        let (der, issuer) = unused.swap_remove(position);
        if is_signed_by(&issuer, &issuer) {
            return Ok(chain);
        }
        chain.push_str(&pem(der));
        last = issuer;
    }
    if unused.len() == authorities.len() {
        return Err(Cause::Answer("none of its authorities signed the certificate"));
    }
    Ok(chain)
}

/// Each certificate once, PEM.
pub(super) fn distinct(certificates: &[CertificateDer<'_>]) -> String {
    let first =
        |(position, der): &(usize, _)| !certificates.iter().take(*position).any(|other| other == *der);
    certificates.iter().enumerate().filter(first).map(|(_, der)| pem(der)).collect()
}

/// A signature of a kind that this build cannot check counts: the caller verifies the chain before it is used.
fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == issuer.subject().as_raw()
        && matches!(
            certificate.verify_signature(Some(issuer.public_key())),
            Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm)
        )
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Cause> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(Cause::Answer("it has a certificate that is none")),
    }
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        der: CertificateDer<'static>,
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn root(name: &str) -> Authority {
        let (params, key) = (params(name), KeyPair::generate().unwrap());
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority { issuer: Issuer::new(params, key), der }
    }

    fn below(authority: &Authority, name: &str) -> Authority {
        let (params, key) = (params(name), KeyPair::generate().unwrap());
        let der = params.signed_by(&key, &authority.issuer).unwrap().der().clone();
        Authority { issuer: Issuer::new(params, key), der }
    }

    #[test]
    fn the_order_of_the_authorities_does_not_matter_and_the_root_is_left_out() {
        let root = root("root");
        let (upper, other) = (below(&root, "upper"), super::tests::root("other"));
        let lower = below(&upper, "lower");
        let leaf = below(&lower, "leaf");
        let expected: String = [&leaf, &lower, &upper].map(|one| pem(&one.der)).concat();
        for authorities in [[&root, &other, &upper, &lower], [&lower, &upper, &other, &root]] {
            let authorities = authorities.map(|one| one.der.clone());
            assert_eq!(build(&leaf.der, &authorities).unwrap(), expected);
        }
    }

    #[test]
    fn an_authority_with_the_right_name_and_another_key_is_not_the_issuer() {
        let (real, fake) = (root("root"), root("root"));
        let leaf = below(&real, "leaf");
        assert!(build(&leaf.der, std::slice::from_ref(&fake.der)).is_err());
        assert_eq!(build(&leaf.der, &[fake.der, real.der]).unwrap(), pem(&leaf.der));
    }

    #[test]
    fn a_chain_whose_root_was_not_told_ends_below_it() {
        let root = root("root");
        let lower = below(&root, "lower");
        let leaf = below(&lower, "leaf");
        let expected = [&leaf, &lower].map(|one| pem(&one.der)).concat();
        assert_eq!(build(&leaf.der, &[lower.der.clone(), lower.der]).unwrap(), expected);
    }

    #[test]
    fn authorities_are_told_once() {
        let root = root("root");
        let twice = [root.der.clone(), root.der.clone()];
        assert_eq!(certificates(&distinct(&twice)).unwrap(), [root.der]);
    }
}
