//! What `portcullis cert inspect` shows.

use std::net::IpAddr;

use serde::Serialize;
use x509_parser::extensions::{ExtendedKeyUsage, KeyUsage};
use x509_parser::prelude::{ASN1Time, GeneralName};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::distinguished_name::{printable, to_text};
use super::vet::{Certificate, bits, serial};
use super::{CertificateError, hexadecimal};
use crate::sha256;

/// The facts of one certificate, readable, nothing judged.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CertificateSummary {
    /// The subject as RFC 4514 writes it.
    pub subject: String,
    /// The issuer as RFC 4514 writes it.
    pub issuer: String,
    /// The serial number in upper-case hexadecimal.
    pub serial: String,
    /// When it starts to be valid (RFC 3339, UTC).
    pub not_before: String,
    /// When it ends (RFC 3339, UTC).
    pub not_after: String,
    /// The subject alternative names, each as `DNS:…`, `URI:…`, `IP:…`, `email:…` or `other`.
    pub names: Vec<String>,
    /// The kind of the public key.
    pub key: KeyAlgorithm,
    /// The size of the public key in bits; 0 if unknown.
    pub key_bits: usize,
    /// KeyUsage by its RFC 5280 names; `None` if the extension is absent.
    pub key_usage: Option<Vec<&'static str>>,
    /// ExtendedKeyUsage by its RFC 5280 names, others as object identifiers; `None` if absent.
    pub extended_key_usage: Option<Vec<String>>,
    /// Whether basicConstraints says CA.
    pub is_ca: bool,
    /// SHA-256 of the DER in lower-case hexadecimal.
    pub fingerprint_sha256: String,
    /// The SPIFFE id, if the certificate has exactly one URI name and that is a workload's.
    pub spiffe: Option<String>,
}

/// The kind of a public key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyAlgorithm {
    /// RSA.
    Rsa,
    /// An elliptic curve.
    Ec,
    /// Ed25519.
    Ed25519,
    /// Any other.
    Other,
}

/// Reads one certificate (DER).
///
/// # Errors
/// If it is none, has an extension twice, or one that cannot be read.
pub fn inspect(der: &[u8]) -> Result<CertificateSummary, CertificateError> {
    let certificate = Certificate::read(der)?;
    let validity = certificate.0.validity();
    let (key, key_bits) = key(certificate.0.public_key());
    Ok(CertificateSummary {
        subject: to_text(certificate.0.subject()),
        issuer: to_text(certificate.0.issuer()),
        serial: serial(&certificate.0),
        not_before: date(validity.not_before),
        not_after: date(validity.not_after),
        names: certificate.general_names()?.iter().map(name).collect(),
        key,
        key_bits,
        key_usage: certificate.key_usage()?.map(key_usage),
        extended_key_usage: certificate.extended_key_usage()?.map(extended_key_usage),
        is_ca: certificate.is_authority()?,
        fingerprint_sha256: hexadecimal(&sha256(der)),
        spiffe: certificate.names().and_then(|names| names.spiffe()).ok().map(|id| id.to_string()),
    })
}

fn key(info: &SubjectPublicKeyInfo<'_>) -> (KeyAlgorithm, usize) {
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => (KeyAlgorithm::Rsa, bits(key.modulus)),
        Ok(PublicKey::EC(point)) => (KeyAlgorithm::Ec, point.key_size()),
        _ if info.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519 => {
            (KeyAlgorithm::Ed25519, 256)
        }
        _ => (KeyAlgorithm::Other, 0),
    }
}

fn date(time: ASN1Time) -> String {
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS:{}", printable(name)),
        GeneralName::URI(uri) => format!("URI:{}", printable(uri)),
        GeneralName::RFC822Name(address) => format!("email:{}", printable(address)),
        GeneralName::DirectoryName(name) => format!("DirName:{}", to_text(name)),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4.or(v6).map_or_else(|_| "other".into(), |address| format!("IP:{address}"))
        }
        _ => "other".into(),
    }
}

fn key_usage(usage: &KeyUsage) -> Vec<&'static str> {
    let usages = [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ];
    usages.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)).collect()
}

fn extended_key_usage(usage: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let purposes = [
        (usage.any, "anyExtendedKeyUsage"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let known = purposes.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name.to_owned());
    known.chain(usage.other.iter().map(|oid| oid.to_id_string())).collect()
}
