//! CRLs: read and proven when they are loaded, looked up when a chain is judged.
//!
//! A CRL is taken only if an authority of the same trust entry signed it and may sign CRLs; garbage, delta and indirect
//! CRLs and those of unknown issuers are errors, so that the caller keeps the old state. Afterwards a lookup costs no
//! signature, however large the list.
//!
//! An authority *with* CRLs must have one whose scope covers the certificate (RFC 5280 section 6.3.3): else the status is
//! unknown, which is refused. webpki would believe a CRL of one distribution point for certificates that name no point.
//! An authority *without* any CRL is not checked: in a bundle of several issuers each decides for itself.

use std::time::SystemTime;

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::extensions::{DistributionPointName, IssuingDistributionPoint, ParsedExtension};
use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate};

use crate::peer::PeerError;
use crate::trust::{Authority, StaleCrl, TrustError};
use crate::x509::system_time;

/// One CRL of one authority.
#[derive(Debug)]
pub(crate) struct Crl {
    list: CertRevocationList<'static>,
    scope: Scope,
    this_update: SystemTime,
    pub(crate) next_update: SystemTime,
}

/// Where in a path a certificate stands; CRLs may be for one role only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// The leaf.
    User,
    /// An intermediate.
    Authority,
}

/// What a CRL speaks about, by its issuing distribution point (RFC 5280 section 5.2.5).
#[derive(Debug, Default, Eq, PartialEq)]
struct Scope {
    only_users: bool,
    only_authorities: bool,
    /// URIs of the one distribution point that it is for; none: all.
    points: Option<Vec<String>>,
}

/// Reads the CRLs of one file and hands each to the authority that signed it.
pub(crate) fn load(pem: &[u8], authorities: &mut [Authority]) -> Result<(), TrustError> {
    let ders: Vec<CertificateRevocationListDer<'static>> = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TrustError::CrlPem(error.to_string()))?;
    if ders.is_empty() {
        return Err(TrustError::NoCrl);
    }
    for der in ders {
        let list = OwnedCertRevocationList::from_der(&der).map_err(|error| TrustError::Crl(fault(&error)))?;
        let (_, parsed) =
            CertificateRevocationList::from_der(&der).map_err(|_| TrustError::Crl(UNREADABLE))?;
        let crl = Crl {
            list: list.into(),
            scope: Scope::of(&parsed)?,
            this_update: system_time(parsed.last_update()),
            next_update: parsed
                .next_update()
                .map(system_time)
                .ok_or(TrustError::Crl("it has no nextUpdate"))?,
        };
        signer(&parsed, authorities)?.add(crl);
    }
    Ok(())
}

/// The earliest end of what `crls` say about a certificate that `authority` issued, or why it is refused.
pub(crate) fn check(
    certificate: &X509Certificate<'_>,
    role: Role,
    authority: &Authority,
    when_stale: StaleCrl,
    now: SystemTime,
) -> Result<Option<SystemTime>, PeerError> {
    if authority.crls.is_empty() {
        return Ok(None);
    }
    let mut ends: Option<SystemTime> = None;
    for crl in authority.crls.iter().filter(|crl| crl.scope.covers(certificate, role)) {
        let entry =
            crl.list.find_serial(certificate.raw_serial()).map_err(|_| PeerError::RevocationUnknown)?;
        if entry.is_some() {
            return Err(PeerError::Revoked);
        }
        if when_stale == StaleCrl::Reject && now >= crl.next_update {
            return Err(PeerError::StaleCrl);
        }
        ends = Some(ends.map_or(crl.next_update, |end| end.min(crl.next_update)));
    }
    // `Accept` keeps an old list in force: then its end ends nothing.
    let ends = ends.ok_or(PeerError::RevocationUnknown)?;
    Ok((when_stale == StaleCrl::Reject).then_some(ends))
}

/// The authority whose key signed the CRL.
fn signer<'a>(
    crl: &CertificateRevocationList<'_>,
    authorities: &'a mut [Authority],
) -> Result<&'a mut Authority, TrustError> {
    let issuer = crl.issuer();
    let mut named = authorities.iter_mut().filter(|one| one.subject == issuer.as_raw()).peekable();
    if named.peek().is_none() {
        return Err(TrustError::CrlIssuer(issuer.to_string()));
    }
    let authority = named
        .find(|one| one.signed(|key| crl.verify_signature(key).is_ok()))
        .ok_or_else(|| TrustError::CrlSignature(issuer.to_string()))?;
    if authority.may_sign_crls { Ok(authority) } else { Err(TrustError::CrlUsage(issuer.to_string())) }
}

impl Crl {
    /// Whether both say the same kind of thing and `other` said it later.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        self.scope == other.scope && self.this_update < other.this_update
    }
}

impl Authority {
    /// Takes a CRL; of two with the same scope the newer one stays.
    fn add(&mut self, crl: Crl) {
        match self.crls.iter_mut().find(|old| old.scope == crl.scope) {
            Some(old) if old.this_update <= crl.this_update => *old = crl,
            Some(_) => {}
            None => self.crls.push(crl),
        }
    }
}

impl Scope {
    fn of(crl: &CertificateRevocationList<'_>) -> Result<Self, TrustError> {
        let point = crl.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::IssuingDistributionPoint(point) => Some(point),
            _ => None,
        });
        let Some(IssuingDistributionPoint {
            distribution_point,
            only_contains_user_certs,
            only_contains_ca_certs,
            ..
        }) = point
        else {
            return Ok(Self::default());
        };
        let points = match distribution_point {
            None => None,
            Some(DistributionPointName::FullName(names)) => Some(uris(names).map(str::to_owned).collect()),
            Some(DistributionPointName::NameRelativeToCRLIssuer(_)) => {
                return Err(TrustError::Crl("its distribution point is not named in full"));
            }
        };
        Ok(Self { only_users: *only_contains_user_certs, only_authorities: *only_contains_ca_certs, points })
    }

    fn covers(&self, certificate: &X509Certificate<'_>, role: Role) -> bool {
        if self.only_users && role != Role::User || self.only_authorities && role != Role::Authority {
            return false;
        }
        let Some(points) = &self.points else { return true };
        certificate.iter_extensions().any(|extension| match extension.parsed_extension() {
            ParsedExtension::CRLDistributionPoints(own) => own.iter().any(|point| {
                // Sharded by reason or signed by somebody else: not this CRL's to answer.
                point.reasons.is_none()
                    && point.crl_issuer.is_none()
                    && matches!(&point.distribution_point, Some(DistributionPointName::FullName(names))
                        if uris(names).any(|uri| points.iter().any(|one| one == uri)))
            }),
            _ => false,
        })
    }
}

fn uris<'a>(names: &'a [GeneralName<'a>]) -> impl Iterator<Item = &'a str> {
    names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    })
}

fn fault(error: &webpki::Error) -> &'static str {
    use webpki::Error as E;
    match error {
        E::UnsupportedDeltaCrl => "delta CRLs are not supported",
        E::UnsupportedIndirectCrl => "indirect CRLs are not supported",
        E::UnsupportedRevocationReasonsPartitioning => "CRLs for some reasons only are not supported",
        E::UnsupportedCriticalExtension => "it has an unknown critical extension",
        E::UnsupportedCrlVersion => "its version is not 2",
        // The enum is open; the rest is syntax.
        _ => UNREADABLE,
    }
}

const UNREADABLE: &str = "it cannot be read";
