//! A certificate authority for tests: roots, intermediates, leaves of every name form, revocation lists.

use std::ops::Range;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use time::OffsetDateTime;

use crate::server::pair;
use crate::{sha256, unix_now};

/// A root or an intermediate that issues leaves, intermediates and revocation lists.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// The certificates between a leaf of this authority and its root, the nearest first, without the root.
    above: String,
}

/// What a leaf shall say. Built from one of the name forms, then narrowed.
#[derive(Clone)]
pub struct Leaf {
    params: CertificateParams,
}

/// A certificate with its key, as PEM text.
pub struct Issued {
    /// The leaf and the intermediates above it.
    pub chain: String,
    /// The private key (PKCS #8).
    pub key: String,
    serial: SerialNumber,
}

impl Authority {
    /// A new self-signed root with this common name.
    #[must_use]
    pub fn root(name: &str) -> Self {
        let params = authority_params(name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, above: String::new() }
    }

    /// A new authority below this one.
    #[must_use]
    pub fn intermediate(&self, name: &str) -> Self {
        let params = authority_params(name);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        let above = format!("{pem}{}", self.above);
        Self { issuer: Issuer::new(params, key), pem, above }
    }

    /// Issues a leaf with a fresh key and a fresh serial.
    #[must_use]
    pub fn issue(&self, leaf: Leaf) -> Issued {
        let key = KeyPair::generate().unwrap();
        let serial = fresh_serial(&key);
        let mut params = leaf.params;
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { chain: format!("{}{}", certificate.pem(), self.above), key: key.serialize_pem(), serial }
    }

    /// This authority's own certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A revocation list that names `revoked`, good for a day.
    #[must_use]
    pub fn crl(&self, revoked: &[&Issued]) -> String {
        self.crl_for(revoked, -60..DAY)
    }

    /// A revocation list whose this-update and next-update lie at these seconds from now.
    #[must_use]
    pub fn crl_for(&self, revoked: &[&Issued], valid: Range<i64>) -> String {
        let params = CertificateRevocationListParams {
            this_update: from_now(valid.start),
            next_update: from_now(valid.end),
            crl_number: SerialNumber::from(unix_now()),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|issued| RevokedCertParams {
                    serial_number: issued.serial.clone(),
                    revocation_time: from_now(valid.start),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Leaf {
    /// A server's certificate for these DNS names and addresses.
    #[must_use]
    pub fn server(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Self::with(params, "server")
    }

    /// A workload's certificate: one SPIFFE id, for both directions.
    #[must_use]
    pub fn spiffe(id: &str) -> Self {
        let mut leaf = Self::client("workload");
        leaf.params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        leaf.params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        leaf
    }

    /// A client's certificate known by a DNS name.
    #[must_use]
    pub fn dns(name: &str) -> Self {
        let mut leaf = Self::client("client");
        leaf.params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        leaf
    }

    /// A client's certificate that has only this common name.
    #[must_use]
    pub fn client(common_name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Self::with(params, common_name)
    }

    /// The same with a URI name beside its others.
    #[must_use]
    pub fn uri(mut self, uri: &str) -> Self {
        self.params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        self
    }

    /// Valid between these seconds from now.
    #[must_use]
    pub fn valid(mut self, seconds: Range<i64>) -> Self {
        self.params.not_before = from_now(seconds.start);
        self.params.not_after = from_now(seconds.end);
        self
    }

    fn with(mut params: CertificateParams, common_name: &str) -> Self {
        params.distinguished_name = named(common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Self { params }.valid(-60..DAY)
    }
}

impl Issued {
    /// A certificate that somebody else issued, with its serial number in hexadecimal (colons or none).
    #[must_use]
    pub fn elsewhere(chain: &str, key: &str, serial: &str) -> Self {
        let digits: Vec<u8> =
            serial.chars().filter_map(|digit| Some(u8::try_from(digit.to_digit(16)?).unwrap())).collect();
        let serial =
            SerialNumber::from(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>());
        Self { chain: chain.to_owned(), key: key.to_owned(), serial }
    }

    /// The SHA-256 of the leaf, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        sha256(&pair(self).0[0])
    }

    /// The leaf's serial number, as revocation lists and logs spell it: lower-case hexadecimal.
    #[must_use]
    pub fn serial(&self) -> String {
        self.serial.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = from_now(-2 * DAY);
    params.not_after = from_now(3650 * DAY);
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Sixteen bytes of the public key: as unique as the key, positive and without a leading zero.
fn fresh_serial(key: &KeyPair) -> SerialNumber {
    let raw = key.public_key_raw();
    let mut serial = raw[raw.len() - 16..].to_vec();
    serial[0] = (serial[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&serial)
}

fn from_now(seconds: i64) -> OffsetDateTime {
    let at = unix_now().checked_add_signed(seconds).unwrap();
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(at)
}

const DAY: i64 = 24 * 3600;
