//! Certificates and CRLs, made when a test asks for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority.
pub(crate) struct Authority {
    params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) certificate: Certificate,
    /// PEM of the intermediates that a leaf of this authority sends along.
    sent: Vec<Certificate>,
}

/// A leaf with its key.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) ders: Vec<CertificateDer<'static>>,
    pub(crate) key_der: PrivateKeyDer<'static>,
    pub(crate) serial: u64,
}

/// What a leaf says.
pub(crate) struct Leaf {
    names: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    years: (i32, i32),
    point: Option<&'static str>,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, &[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign], (2020, 2099))
    }

    pub(crate) fn root_with(name: &str, usages: &[KeyUsagePurpose], years: (i32, i32)) -> Self {
        let (params, key) = (authority_params(name, usages, years), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap();
        Self { params, key, certificate, sent: Vec::new() }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let params =
            authority_params(name, &[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign], (2020, 2099));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        let sent = std::iter::once(certificate.clone()).chain(self.sent.iter().cloned()).collect();
        Self { params, key, certificate, sent }
    }

    /// The same name and key, but a certificate with other usages.
    pub(crate) fn with_usages(&self, usages: &[KeyUsagePurpose]) -> Self {
        let mut params = self.params.clone();
        params.key_usages = usages.to_vec();
        let key = KeyPair::from_pem(&self.key.serialize_pem()).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { params, key, certificate, sent: Vec::new() }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn serial(&self) -> u64 {
        number(self.params.serial_number.as_ref().unwrap())
    }

    pub(crate) fn issue(&self, leaf: &Leaf) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("leaf");
        params.subject_alt_names.clone_from(&leaf.names);
        params.extended_key_usages.clone_from(&leaf.usages);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = date_time_ymd(leaf.years.0, 1, 1);
        params.not_after = date_time_ymd(leaf.years.1, 1, 1);
        params.crl_distribution_points =
            leaf.point.iter().map(|uri| CrlDistributionPoint { uris: vec![(*uri).to_owned()] }).collect();
        let serial = next_serial();
        params.serial_number = Some(serial.into());
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        let all: Vec<_> = std::iter::once(&certificate).chain(&self.sent).collect();
        Issued {
            chain: all.iter().map(|one| one.pem()).collect(),
            key: key.serialize_pem(),
            ders: all.iter().map(|one| one.der().clone()).collect(),
            key_der: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            serial,
        }
    }

    /// A CRL that is fresh until 2098.
    pub(crate) fn crl(&self, revoked: &[u64]) -> Vec<u8> {
        self.crl_with(revoked, 2098, None)
    }

    pub(crate) fn crl_with(&self, revoked: &[u64], next_update: i32, point: Option<&str>) -> Vec<u8> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(next_update, 1, 1),
            crl_number: SerialNumber::from(next_serial()),
            issuing_distribution_point: point.map(|uri| CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint { uris: vec![uri.to_owned()] },
                scope: None,
            }),
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2021, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).unwrap().pem().unwrap().into_bytes()
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

impl Leaf {
    pub(crate) fn client(id: &str) -> Self {
        Self {
            names: vec![SanType::URI(Ia5String::try_from(id).unwrap())],
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
            years: (2020, 2097),
            point: None,
        }
    }

    pub(crate) fn server(names: &[&str]) -> Self {
        let dns = |name: &&str| SanType::DnsName(Ia5String::try_from(*name).unwrap());
        Self { names: names.iter().map(dns).collect(), ..Self::client("spiffe://lab.test/server") }
    }

    pub(crate) fn valid(mut self, from: i32, to: i32) -> Self {
        self.years = (from, to);
        self
    }

    pub(crate) fn usage(mut self, usage: ExtendedKeyUsagePurpose) -> Self {
        self.usages = vec![usage];
        self
    }

    pub(crate) fn distribution_point(mut self, uri: &'static str) -> Self {
        self.point = Some(uri);
        self
    }
}

/// The first second of a year, roughly.
pub(crate) fn year(year: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_556_952)
}

fn authority_params(name: &str, usages: &[KeyUsagePurpose], years: (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = usages.to_vec();
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params.serial_number = Some(next_serial().into());
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn next_serial() -> u64 {
    // With the top bit set: DER puts a zero byte before it, which lookups must not lose.
    static LAST: AtomicU64 = AtomicU64::new(0xF000_0000_0000_0000);
    LAST.fetch_add(1, Ordering::Relaxed)
}

fn number(serial: &SerialNumber) -> u64 {
    serial.to_bytes().iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
