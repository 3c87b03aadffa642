//! Chains, built from certificates in any order.

use rustls_pki_types::CertificateDer;
use x509_parser::error::X509Error;
use x509_parser::prelude::X509Certificate;

use crate::x509::parse;

/// Why there is no chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChainError {
    /// One of them cannot be read.
    #[error("a certificate cannot be read")]
    Unreadable,
    /// The leaf is nobody's.
    #[error("none of the authorities signed the certificate")]
    NoIssuer,
}

/// The leaf, then its issuers among `authorities` up to but without a self-signed one, each signed by the next. An intermediate whose
/// issuer is not there ends the chain. Checks signatures and no more: neither times nor what a certificate may be used for.
///
/// # Errors
/// A leaf that none of them signed; a certificate that is none.
pub fn chain<'a>(
    leaf: &'a CertificateDer<'a>,
    authorities: &'a [CertificateDer<'a>],
) -> Result<Vec<&'a CertificateDer<'a>>, ChainError> {
    let unreadable = |_| ChainError::Unreadable;
    let leaves = parse(std::slice::from_ref(leaf)).map_err(unreadable)?;
    let issuers = parse(authorities).map_err(unreadable)?;
    let mut unused: Vec<_> = authorities.iter().zip(&issuers).collect();
    let (mut chain, mut last) = (vec![leaf], leaves.first().ok_or(ChainError::Unreadable)?);
    while let Some(position) = unused.iter().position(|(_, issuer)| is_signed_by(last, issuer)) {
        let (der, issuer) = unused.swap_remove(position);
        if is_signed_by(issuer, issuer) {
            return Ok(chain);
        }
        chain.push(der);
        last = issuer;
    }
    if chain.len() == 1 { Err(ChainError::NoIssuer) } else { Ok(chain) }
}

/// A signature of a kind that this build cannot check counts: whoever uses the chain verifies it.
fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == issuer.subject().as_raw()
        && matches!(
            certificate.verify_signature(Some(issuer.public_key())),
            Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm)
        )
}

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
        let expected = [&leaf, &lower, &upper].map(|one| &one.der);
        for authorities in [[&root, &other, &upper, &lower], [&lower, &upper, &other, &root]] {
            let authorities = authorities.map(|one| one.der.clone());
            assert_eq!(chain(&leaf.der, &authorities).unwrap(), expected);
        }
    }

    #[test]
    fn an_authority_with_the_right_name_and_another_key_is_not_the_issuer() {
        let (real, fake) = (root("root"), root("root"));
        let leaf = below(&real, "leaf");
        assert_eq!(chain(&leaf.der, std::slice::from_ref(&fake.der)), Err(ChainError::NoIssuer));
        assert_eq!(chain(&leaf.der, &[fake.der, real.der]).unwrap(), [&leaf.der]);
    }

    #[test]
    fn a_chain_whose_root_was_not_told_ends_below_it() {
        let root = root("root");
        let lower = below(&root, "lower");
        let leaf = below(&lower, "leaf");
        let expected = [&leaf, &lower].map(|one| &one.der);
        assert_eq!(chain(&leaf.der, &[lower.der.clone(), lower.der.clone()]).unwrap(), expected);
    }
}
