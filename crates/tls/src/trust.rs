//! A trust bundle: the authorities that may vouch for peers, their CRLs, and the judgement of a chain by both.
//!
//! Passes: a chain that webpki builds to a root of the bundle (signatures, validity, name constraints, path lengths, EKU),
//! whose intermediates may sign certificates, whose members no CRL revokes, and whose leaf `identity` can read in
//! the one name form of the entry. Everything else is refused; nothing is "anonymous".
//!
//! Of the certificates in the CA file, one that another of them signed is an intermediate: it helps to build paths and
//! may own CRLs, and stays under its root's CRL. All others are roots. An expired root vouches for nobody.
//!
//! Weaker than one might think: webpki refuses every URI name constraint, so that a SPIFFE authority with such
//! constraints cannot be used; an authority without a CRL of its own is not checked for revocation (`revocation`).

use std::cell::Cell;
use std::sync::Arc;
use std::time::SystemTime;

use identity::certificate::{
    CertificateError, NameForm, PeerCertificate, ServerIdentity, vet_client, vet_server,
};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::extensions::KeyUsage as KeyUsageExtension;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use crate::credential::Credential;
use crate::peer::PeerError;
use crate::provider::provider;
use crate::revocation::{self, Crl, Role};
use crate::x509::{certificates, joined, parse, system_time, unix};

/// What a trust entry asks for beside its files.
#[derive(Clone, Debug)]
pub struct TrustOptions {
    /// Which name of a certificate says who the peer is.
    pub names: NameForm,
    /// What a CRL past its `nextUpdate` means.
    pub when_stale: StaleCrl,
}

/// What a CRL past its `nextUpdate` means.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StaleCrl {
    /// Certificates of its issuer are refused.
    #[default]
    Reject,
    /// It stays in force; the operator sees its age in a gauge.
    Accept,
}

/// Authorities and CRLs of one trust entry, checked.
#[derive(Debug)]
pub struct Trust {
    name: Arc<str>,
    options: TrustOptions,
    /// The first `anchors.len()` are the roots, in the same order; intermediates follow.
    authorities: Vec<Authority>,
    anchors: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
}

/// One certificate of the CA file.
#[derive(Debug)]
pub(crate) struct Authority {
    /// The subject's DER.
    pub(crate) subject: Vec<u8>,
    pub(crate) may_sign_crls: bool,
    pub(crate) crls: Vec<Crl>,
    /// The DER of the public key with its algorithm.
    key: Vec<u8>,
    not_after: SystemTime,
}

/// Why trust material is not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TrustError {
    /// The CA file is not PEM to its end.
    #[error("the CA file is not whole PEM ({0}): expected `CERTIFICATE` sections")]
    CaPem(String),
    /// The CA file has no root that is valid.
    #[error("the CA file has no valid root: expected at least one CA certificate that is not expired")]
    NoRoot,
    /// A certificate of the CA file cannot be read.
    #[error("certificate {position} of the CA file cannot be read")]
    Certificate {
        /// Position in the file, from 1.
        position: usize,
    },
    /// A certificate of the CA file is none of an authority.
    #[error("certificate {position} of the CA file (`{subject}`) is not a CA that may sign certificates")]
    NotAuthority {
        /// Position in the file, from 1.
        position: usize,
        /// Its subject.
        subject: String,
    },
    /// A CRL file is not PEM to its end.
    #[error("the CRL file is not whole PEM ({0}): expected `X509 CRL` sections")]
    CrlPem(String),
    /// A CRL file has no CRL.
    #[error("the CRL file has no `X509 CRL` section")]
    NoCrl,
    /// A CRL cannot be read or is of a kind that is not supported.
    #[error("the CRL cannot be used: {0}")]
    Crl(&'static str),
    /// A CRL's issuer is not in the CA file.
    #[error(
        "the CRL is issued by `{0}`, which is not in the CA file: expected the certificate of its issuer there"
    )]
    CrlIssuer(String),
    /// A CRL's signature is not its issuer's.
    #[error("the CRL's signature is not that of `{0}`")]
    CrlSignature(String),
    /// A CRL's issuer may not sign CRLs.
    #[error("the CRL's issuer `{0}` may not sign CRLs: expected key usage cRLSign")]
    CrlUsage(String),
}

/// What a judged chain may be taken for, and for how long.
pub(crate) struct Judged {
    pub(crate) certificate: PeerCertificate,
    /// The earliest end: of a certificate, or of a CRL that is not used when stale.
    pub(crate) until: SystemTime,
}

impl Trust {
    /// Reads a bundle: roots and intermediates from `ca`, CRLs from `crls`, all PEM, as of `now`. `name` is the trust
    /// entry's name.
    ///
    /// # Errors
    /// Whatever is not whole, no authority's, or not signed by one of them.
    pub fn from_pem(
        name: impl Into<Arc<str>>,
        ca: &[u8],
        crls: &[Vec<u8>],
        options: TrustOptions,
        now: SystemTime,
    ) -> Result<Self, TrustError> {
        let ders = certificates(ca).map_err(|error| TrustError::CaPem(error.to_string()))?;
        let parsed = parse(&ders).map_err(|position| TrustError::Certificate { position })?;
        check_authorities(&parsed)?;
        let (roots, others): (Vec<_>, Vec<_>) =
            ders.iter().zip(&parsed).partition(|(_, certificate)| is_root(certificate, &parsed));
        let mut authorities: Vec<_> =
            roots.iter().chain(&others).map(|(_, certificate)| Authority::new(certificate)).collect();
        if !authorities.iter().take(roots.len()).any(|root| now <= root.not_after) {
            return Err(TrustError::NoRoot);
        }
        let anchors = roots
            .iter()
            .enumerate()
            .map(|(index, (der, _))| anchor(der, index + 1))
            .collect::<Result<_, _>>()?;
        for file in crls {
            revocation::load(file, &mut authorities)?;
        }
        Ok(Self {
            name: name.into(),
            options,
            authorities,
            anchors,
            intermediates: others.into_iter().map(|(der, _)| der.clone()).collect(),
        })
    }

    /// The trust entry's name.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The earliest `nextUpdate` of its CRLs; nothing without CRLs.
    #[must_use]
    pub fn crl_next_update(&self) -> Option<SystemTime> {
        self.authorities.iter().flat_map(|one| &one.crls).map(|crl| crl.next_update).min()
    }

    /// The earliest end of a root or intermediate, for the expiry gauge.
    #[must_use]
    pub fn not_after(&self) -> Option<SystemTime> {
        self.authorities.iter().map(|one| one.not_after).min()
    }

    /// How many authorities the bundle has, and how many of them have a CRL.
    #[must_use]
    pub fn authorities(&self) -> (usize, usize) {
        (self.authorities.len(), self.authorities.iter().filter(|one| !one.crls.is_empty()).count())
    }

    /// Whether these authorities vouch for a credential of our own, as a server's or a client's; until when.
    ///
    /// # Errors
    /// The first thing that is wrong with its chain.
    pub fn vouches_for(&self, credential: &Credential, now: SystemTime) -> Result<SystemTime, PeerError> {
        let chain = &credential.certified_key().cert;
        let judge = |usage| self.verify_path(chain, usage, now, |_| Ok(())).map(|((), until)| until);
        judge(KeyUsage::server_auth()).or_else(|error| judge(KeyUsage::client_auth()).map_err(|_| error))
    }

    /// Whether one of its CRLs is older than what `other` has of the same issuer and scope.
    #[must_use]
    pub fn has_older_crl_than(&self, other: &Self) -> bool {
        let same = |one: &Authority| {
            other.authorities.iter().find(|two| one.subject == two.subject && one.key == two.key)
        };
        self.authorities
            .iter()
            .filter_map(|one| same(one).map(|two| (one, two)))
            .any(|(one, two)| one.crls.iter().any(|new| two.crls.iter().any(|old| new.is_older_than(old))))
    }

    /// Judges a client's chain (leaf first) at `now`; usable outside of a handshake.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify_client(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<PeerCertificate, PeerError> {
        self.judge_client(chain, now).map(|judged| judged.certificate)
    }

    pub(crate) fn judge_client(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<Judged, PeerError> {
        let (certificate, until) = self.verify_path(chain, KeyUsage::client_auth(), now, |path| {
            vet_client(path.iter().map(AsRef::as_ref), &self.options.names, &self.name, now)
        })?;
        Ok(Judged { until: until.min(certificate.not_after), certificate })
    }

    /// Judges an upstream's chain (leaf first) at `now`, without its DNS name.
    pub(crate) fn verify_server(
        &self,
        chain: &[CertificateDer<'_>],
        expect: &ServerIdentity,
        now: SystemTime,
    ) -> Result<(), PeerError> {
        self.verify_path(chain, KeyUsage::server_auth(), now, |path| {
            path.first().map_or(Err(CertificateError::Missing), |leaf| vet_server(leaf, expect, now))
        })
        .map(|((), _)| ())
    }

    /// The roots' subjects, as a server hints them to clients.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &[u8]> {
        self.authorities.iter().take(self.anchors.len()).map(|root| root.subject.as_slice())
    }

    /// The verdict of `vet` on the path that webpki finds (leaf first, without the root), and when the path ends.
    fn verify_path<T>(
        &self,
        chain: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: SystemTime,
        vet: impl FnOnce(&[CertificateDer<'_>]) -> Result<T, CertificateError>,
    ) -> Result<(T, SystemTime), PeerError> {
        let (leaf, sent) = chain.split_first().ok_or(PeerError::NoCertificate)?;
        let leaf = EndEntityCert::try_from(leaf)?;
        let intermediates = joined(sent, &self.intermediates);
        // What the callback finds is more exact than what webpki can carry out of it.
        let (refusal, until) = (Cell::new(None), Cell::new(now));
        let check = |path: &VerifiedPath<'_>| match self.check_path(path, now) {
            Ok(end) => {
                until.set(end);
                Ok(())
            }
            Err(error) => {
                refusal.set(Some(error));
                Err(webpki::Error::UnknownIssuer)
            }
        };
        let path = leaf
            .verify_for_usage(
                provider().signature_verification_algorithms.all,
                &self.anchors,
                &intermediates,
                unix(now),
                usage,
                None,
                Some(&check),
            )
            .map_err(|error| refusal.take().unwrap_or_else(|| error.into()))?;
        Ok((vet(&certificates_of(&path))?, until.get()))
    }

    /// What webpki leaves out, from the leaf up: who may sign, which CRLs speak, how long all of it lasts.
    fn check_path(&self, path: &VerifiedPath<'_>, now: SystemTime) -> Result<SystemTime, PeerError> {
        let root = self
            .anchors
            .iter()
            .position(|anchor| std::ptr::eq(anchor, path.anchor()))
            .and_then(|index| self.authorities.get(index))
            .ok_or(PeerError::Untrusted)?;
        if now > root.not_after {
            return Err(PeerError::Expired);
        }
        let ders = certificates_of(path);
        let chain = parse(&ders).map_err(|_| PeerError::Rules("it cannot be read"))?;
        let mut until = root.not_after;
        for (index, certificate) in chain.iter().enumerate() {
            until = until.min(system_time(certificate.validity().not_after));
            let role = if index == 0 { Role::User } else { Role::Authority };
            // RFC 5280 section 4.2.1.3 wants the extension in every authority's certificate; webpki does not look.
            if role == Role::Authority
                && !certificate_usage(certificate).is_some_and(|usage| usage.key_cert_sign())
            {
                return Err(PeerError::Rules("an issuer lacks key usage keyCertSign"));
            }
            let (issuer, key) = match chain.get(index + 1) {
                Some(issuer) => (issuer.subject().as_raw(), issuer.public_key().raw),
                None => (root.subject.as_slice(), root.key.as_slice()),
            };
            let known = self.authorities.iter().find(|one| one.subject == issuer && one.key == key);
            if let Some(authority) = known
                && let Some(end) =
                    revocation::check(certificate, role, authority, self.options.when_stale, now)?
            {
                until = until.min(end);
            }
        }
        Ok(until)
    }
}

impl Authority {
    fn new(certificate: &X509Certificate<'_>) -> Self {
        Self {
            subject: certificate.subject().as_raw().to_vec(),
            // RFC 5280 section 6.3.3 (f): only where the extension is present.
            may_sign_crls: certificate_usage(certificate).is_none_or(|usage| usage.crl_sign()),
            crls: Vec::new(),
            key: certificate.public_key().raw.to_vec(),
            not_after: system_time(certificate.validity().not_after),
        }
    }

    /// Whether `verifies` holds for this authority's public key.
    pub(crate) fn signed(&self, verifies: impl FnOnce(&SubjectPublicKeyInfo<'_>) -> bool) -> bool {
        SubjectPublicKeyInfo::from_der(&self.key).is_ok_and(|(_, key)| verifies(&key))
    }
}

/// The first good verdict of several trust entries. Of the bad ones, the reason of an entry that knows the issuer.
pub(crate) fn first_that_fits<I: IntoIterator, T>(
    trusts: I,
    judge: impl Fn(I::Item) -> Result<T, PeerError>,
) -> Result<T, PeerError> {
    let mut refusal = PeerError::Untrusted;
    for trust in trusts {
        match judge(trust) {
            Ok(verdict) => return Ok(verdict),
            Err(PeerError::Untrusted) => {}
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// Leaf first, without the root.
fn certificates_of<'p>(path: &'p VerifiedPath<'p>) -> Vec<CertificateDer<'p>> {
    std::iter::once(path.end_entity().der())
        .chain(path.intermediate_certificates().map(|certificate| certificate.der()))
        .collect()
}

/// The first certificate that is no authority's.
fn check_authorities(certificates: &[X509Certificate<'_>]) -> Result<(), TrustError> {
    let is_authority = |certificate: &X509Certificate<'_>| {
        certificate.is_ca() && certificate_usage(certificate).is_none_or(|usage| usage.key_cert_sign())
    };
    match certificates.iter().zip(1..).find(|(certificate, _)| !is_authority(certificate)) {
        None => Ok(()),
        Some((certificate, position)) => {
            Err(TrustError::NotAuthority { position, subject: certificate.subject().to_string() })
        }
    }
}

/// Signed by itself, or by none of the others.
fn is_root(certificate: &X509Certificate<'_>, all: &[X509Certificate<'_>]) -> bool {
    let issued_by = |other: &X509Certificate<'_>| {
        other.subject().as_raw() == certificate.issuer().as_raw()
            && certificate.verify_signature(Some(other.public_key())).is_ok()
    };
    issued_by(certificate) || !all.iter().any(issued_by)
}

fn anchor(der: &CertificateDer<'static>, position: usize) -> Result<TrustAnchor<'static>, TrustError> {
    webpki::anchor_from_trusted_cert(der)
        .map(|anchor| anchor.to_owned())
        .map_err(|_| TrustError::Certificate { position })
}

fn certificate_usage<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a KeyUsageExtension> {
    certificate.key_usage().ok().flatten().map(|usage| usage.value)
}
