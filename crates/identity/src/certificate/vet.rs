//! The two vets: of a client's chain and of a server's leaf.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::extensions::{ExtendedKeyUsage, KeyUsage, ParsedExtension};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::{CertificateError, NameForm, PeerCertificate, ServerIdentity, distinguished_name};
use crate::{Principal, PrincipalId, PrincipalKind, SpiffeId, sha256};

/// The longest chain that is looked at, leaf included; webpki follows six intermediates.
pub(super) const MAX_CHAIN: usize = 10;
const MIN_RSA_BITS: usize = 2048;
/// The longest subject that can be a principal's name.
const MAX_SUBJECT_BYTES: usize = 2048;

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
    let mut chain = chain.into_iter();
    let der = chain.next().ok_or(CertificateError::Missing)?;
    let leaf = Certificate::read(der)?;
    leaf.check_leaf(now, |usage| usage.client_auth)?;
    let mut not_after = leaf.not_after();
    for (position, issuer) in chain.enumerate() {
        if position + 1 >= MAX_CHAIN {
            return Err(CertificateError::ChainTooLong);
        }
        let issuer = Certificate::read(issuer)?;
        issuer.check_issuer(now)?;
        not_after = not_after.min(issuer.not_after());
    }
    let names = leaf.names()?;
    let subject = distinguished_name::to_text(leaf.0.subject());
    Ok(PeerCertificate {
        principal: Arc::new(Principal::named(principal(form, trust, &names, &subject)?)),
        serial: serial(&leaf.0),
        not_before: time(leaf.0.validity().not_before),
        not_after,
        fingerprint_sha256: sha256(der),
        subject,
        issuer: distinguished_name::to_text(leaf.0.issuer()),
        uri: match names.uris.as_slice() {
            [uri] if uri.bytes().all(|byte| byte.is_ascii_graphic()) => Some((*uri).to_owned()),
            _ => None,
        },
        dns: names
            .dns
            .iter()
            .filter(|name| is_host_name(name.strip_prefix("*.").unwrap_or(name)))
            .map(|name| name.to_ascii_lowercase())
            .collect(),
    })
}

/// Vets an upstream's leaf (DER) at `now`. A DNS name was compared by webpki already; a SPIFFE id is compared here.
///
/// # Errors
/// The first thing that is wrong.
pub fn vet_server(leaf: &[u8], expect: &ServerIdentity, now: SystemTime) -> Result<(), CertificateError> {
    let leaf = Certificate::read(leaf)?;
    leaf.check_leaf(now, |usage| usage.server_auth)?;
    match expect {
        ServerIdentity::Dns(_) => Ok(()),
        ServerIdentity::Spiffe(expected) => match leaf.names()?.spiffe()? {
            id if id == *expected => Ok(()),
            _ => Err(CertificateError::WrongServer),
        },
    }
}

fn principal(
    form: &NameForm,
    trust: &str,
    names: &Names<'_>,
    subject: &str,
) -> Result<PrincipalId, CertificateError> {
    match form {
        NameForm::Spiffe { trust_domain } => {
            let id = names.spiffe()?;
            if id.trust_domain() != trust_domain {
                return Err(CertificateError::TrustDomain);
            }
            Ok(PrincipalId::new(PrincipalKind::Spiffe, id.trust_domain(), id.path()))
        }
        NameForm::Dns => {
            let name = exactly_one(&names.dns)?;
            if !is_host_name(name) {
                return Err(CertificateError::DnsName);
            }
            Ok(PrincipalId::new(PrincipalKind::Dns, trust, name.to_ascii_lowercase()))
        }
        NameForm::Subject if subject.is_empty() => Err(CertificateError::NameMissing),
        NameForm::Subject if subject.len() > MAX_SUBJECT_BYTES => Err(CertificateError::SubjectTooLong),
        NameForm::Subject => Ok(PrincipalId::new(PrincipalKind::Subject, trust, subject)),
    }
}

/// A certificate in which every extension stands once.
pub(super) struct Certificate<'a>(pub(super) X509Certificate<'a>);

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a [u8]) -> Result<Self, CertificateError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_unreadable| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let mut seen = HashSet::new();
        if !certificate.extensions().iter().all(|extension| seen.insert(extension.oid.as_bytes())) {
            return Err(CertificateError::DuplicateExtension);
        }
        Ok(Self(certificate))
    }

    /// Checks what the owner of the key may do; `purpose` picks the extended usage that is needed.
    fn check_leaf(
        &self,
        now: SystemTime,
        purpose: impl Fn(&ExtendedKeyUsage<'_>) -> bool,
    ) -> Result<(), CertificateError> {
        self.check_validity(now)?;
        if self.is_authority()? {
            return Err(CertificateError::LeafIsAuthority);
        }
        if let Some(usage) = self.key_usage()? {
            // X.509-SVID section 5.2 has these refused even without the CA flag.
            if usage.key_cert_sign() || usage.crl_sign() {
                return Err(CertificateError::LeafIsAuthority);
            }
            if !usage.digital_signature() {
                return Err(CertificateError::KeyUsage);
            }
        }
        if self.extended_key_usage()?.is_some_and(|usage| !purpose(usage)) {
            return Err(CertificateError::ExtendedKeyUsage);
        }
        match self.0.public_key().parsed() {
            Ok(PublicKey::RSA(key)) if bits(key.modulus) < MIN_RSA_BITS => Err(CertificateError::WeakKey),
            Ok(_) => Ok(()),
            Err(_unreadable) => Err(CertificateError::Malformed),
        }
    }

    /// Checks that this may have issued certificates. RFC 5280 section 4.2.1.3 has every issuer carry KeyUsage; roots made
    /// before that, sent along by some clients, are let off.
    fn check_issuer(&self, now: SystemTime) -> Result<(), CertificateError> {
        self.check_validity(now)?;
        if !self.is_authority()? {
            return Err(CertificateError::IssuerNotAuthority);
        }
        let is_root = self.0.subject().as_raw() == self.0.issuer().as_raw();
        match self.key_usage()? {
            Some(usage) if usage.key_cert_sign() => Ok(()),
            None if is_root => Ok(()),
            _ => Err(CertificateError::IssuerKeyUsage),
        }
    }

    fn check_validity(&self, now: SystemTime) -> Result<(), CertificateError> {
        if now < time(self.0.validity().not_before) {
            return Err(CertificateError::NotYetValid);
        }
        if now > self.not_after() {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }

    fn not_after(&self) -> SystemTime {
        time(self.0.validity().not_after)
    }

    pub(super) fn is_authority(&self) -> Result<bool, CertificateError> {
        // x509-parser's own accessor takes an unreadable extension for an absent one.
        let unreadable = |extension: &x509_parser::prelude::X509Extension<'_>| {
            extension.oid == x509_parser::oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS
                && !matches!(extension.parsed_extension(), ParsedExtension::BasicConstraints(_))
        };
        if self.0.extensions().iter().any(unreadable) {
            return Err(CertificateError::MalformedExtension);
        }
        Ok(self.0.is_ca())
    }

    pub(super) fn key_usage(&self) -> Result<Option<&KeyUsage>, CertificateError> {
        let extension = self.0.key_usage().map_err(|_unreadable| CertificateError::MalformedExtension)?;
        Ok(extension.map(|extension| extension.value))
    }

    pub(super) fn extended_key_usage(&self) -> Result<Option<&ExtendedKeyUsage<'_>>, CertificateError> {
        let extension =
            self.0.extended_key_usage().map_err(|_unreadable| CertificateError::MalformedExtension)?;
        Ok(extension.map(|extension| extension.value))
    }

    /// The subject alternative names, in one pass.
    pub(super) fn general_names(&self) -> Result<&[GeneralName<'a>], CertificateError> {
        let extension =
            self.0.subject_alternative_name().map_err(|_unreadable| CertificateError::MalformedExtension)?;
        Ok(extension.map_or(&[], |extension| extension.value.general_names.as_slice()))
    }

    pub(super) fn names(&self) -> Result<Names<'_>, CertificateError> {
        let mut names = Names { uris: Vec::new(), dns: Vec::new() };
        for name in self.general_names()? {
            match *name {
                GeneralName::URI(uri) => names.uris.push(uri),
                GeneralName::DNSName(name) => names.dns.push(name),
                GeneralName::Invalid(..) => return Err(CertificateError::MalformedExtension),
                _ => {}
            }
        }
        Ok(names)
    }
}

/// The subject alternative names that can be identities.
pub(super) struct Names<'a> {
    uris: Vec<&'a str>,
    dns: Vec<&'a str>,
}

impl Names<'_> {
    /// The SPIFFE id that the certificate is for (X.509-SVID section 2).
    pub(super) fn spiffe(&self) -> Result<SpiffeId, CertificateError> {
        Ok(SpiffeId::parse_workload(exactly_one(&self.uris)?)?)
    }
}

fn exactly_one<'a>(names: &[&'a str]) -> Result<&'a str, CertificateError> {
    match names {
        [] => Err(CertificateError::NameMissing),
        [name] => Ok(name),
        _ => Err(CertificateError::NameAmbiguous),
    }
}

/// Whether this is a host name of letters, digits and hyphens (RFC 1123 section 2.1); no wildcard, no address.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(is_label) && !name.rsplit('.').next().is_some_and(is_number)
}

/// A serial number as openssl prints it: upper-case hexadecimal without the sign's zero byte.
pub(super) fn serial(certificate: &X509Certificate<'_>) -> String {
    let digits: String = certificate.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect();
    match digits.strip_prefix("00") {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => digits,
    }
}

/// The size of a positive DER integer.
pub(super) fn bits(number: &[u8]) -> usize {
    let mut number = number.iter().skip_while(|byte| **byte == 0);
    number.next().map_or(0, |first| 8 - first.leading_zeros() as usize) + number.count() * 8
}

fn time(time: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
    // INVARIANT: ASN.1 times have years of four digits, which `SystemTime` can hold.
    if time.timestamp() < 0 { UNIX_EPOCH - seconds } else { UNIX_EPOCH + seconds }
}
