//! The development authority, and the certificates that it issues by their profiles.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use zeroize::Zeroizing;

use super::DevError;
use super::directory::{Directory, Readers};
use super::profiles::{AUTHORITY, BILLING, Host, LOCALHOST, Profile, Purpose, Signs};

/// Makes `ca.pem` with its key unless both are there, and the leaves anew.
pub(super) fn prepare(directory: &Directory, now: SystemTime) -> Result<(), DevError> {
    let failed = |name: &str| {
        let path = directory.path(name);
        move |reason| DevError::Certificate { path, reason }
    };
    let kept = directory.read(CA)?.zip(directory.read(CA_KEY)?.map(Zeroizing::new));
    let (ca, key) = match kept {
        Some(kept) => kept,
        None => {
            let (ca, key) = self_signed(&AUTHORITY, now).map_err(failed(CA))?;
            directory.write(CA_KEY, &key, Readers::Owner)?;
            directory.write(CA, &ca, Readers::All)?;
            (ca, key)
        }
    };
    let key = KeyPair::from_pem(&key).map_err(failed(CA_KEY))?;
    let issuer = Issuer::from_ca_cert_pem(&ca, key).map_err(failed(CA))?;
    for (name, profile) in [("localhost", &LOCALHOST), ("billing", &BILLING)] {
        let file = format!("{name}.pem");
        let (certificate, key) = issue(profile, &issuer, now).map_err(failed(&file))?;
        directory.write(&format!("{name}.key"), &key, Readers::Owner)?;
        directory.write(&file, &certificate, Readers::All)?;
    }
    Ok(())
}

type Issued = (String, Zeroizing<String>);

fn self_signed(profile: &Profile, now: SystemTime) -> Result<Issued, rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = parameters(profile, now)?.self_signed(&key)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

fn issue(profile: &Profile, issuer: &Issuer<'_, KeyPair>, now: SystemTime) -> Result<Issued, rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = parameters(profile, now)?.signed_by(&key, issuer)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

fn parameters(profile: &Profile, now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, profile.common_name);
    for host in profile.hosts {
        parameters.subject_alt_names.push(match host {
            Host::Name(name) => SanType::DnsName((*name).try_into()?),
            Host::Address(address) => SanType::IpAddress(*address),
        });
    }
    if let Some(id) = profile.spiffe_id {
        parameters.subject_alt_names.push(SanType::URI(id.try_into()?));
    }
    parameters.key_usages = profile.signs.iter().map(key_usage).collect();
    parameters.extended_key_usages = profile.purpose.iter().map(purpose).collect();
    parameters.use_authority_key_identifier_extension = true;
    if let Some(hosts) = profile.constrained_to {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.name_constraints = Some(NameConstraints {
            permitted_subtrees: hosts.iter().map(subtree).collect(),
            excluded_subtrees: Vec::new(),
        });
    }
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = date_time_ymd(1970, 1, 1) + since_1970;
    parameters.not_before = now - CLOCK_SKEW;
    parameters.not_after = now + Duration::from_secs(profile.days * 86_400);
    Ok(parameters)
}

fn subtree(host: &Host) -> GeneralSubtree {
    match host {
        Host::Name(name) => GeneralSubtree::DnsName((*name).to_owned()),
        Host::Address(IpAddr::V4(v4)) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(v4.octets(), 32))
        }
        Host::Address(IpAddr::V6(v6)) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(v6.octets(), 128))
        }
    }
}

fn key_usage(signs: &Signs) -> KeyUsagePurpose {
    match signs {
        Signs::Certificates => KeyUsagePurpose::KeyCertSign,
        Signs::Revocations => KeyUsagePurpose::CrlSign,
        Signs::Handshakes => KeyUsagePurpose::DigitalSignature,
    }
}

fn purpose(purpose: &Purpose) -> ExtendedKeyUsagePurpose {
    match purpose {
        Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }
}

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
/// Other machines' clocks may be behind this one's: a phone that tries the gateway out, a virtual machine.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
