//! The store's own certificate authority: one root that signs leaves for this gateway's listeners and upstreams.
//!
//! **Passes:** a public key whose owner signed the request, under the names of the [`CertificateRequest`]; names and
//! extensions in the PKCS #10 itself count for nothing. **Refused:** a request that does not verify, no name at all, no
//! lifetime. Leaves are for servers and clients, live for 90 days at most, and never longer than the authority.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orion::util::secure_rand_bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::sealed::Value;
use crate::Cause;
use crate::reading::{CertificateRequest, IssuedCertificate};

/// The authority as it is kept.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Authority {
    /// PEM.
    pub(super) certificate: String,
    /// PKCS #8, PEM.
    key: Value,
    /// Seconds since 1970.
    ends: u64,
}

impl Authority {
    /// A new authority with a key of its own (P-256).
    pub(super) fn new(now: SystemTime) -> Result<Self, Cause> {
        let now = seconds(now)?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = parameters(now, now + LIFE)?;
        params.distinguished_name.push(DnType::CommonName, "Portcullis embedded authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self { certificate, key: Value(key.serialize_pem().into()), ends: now + LIFE })
    }

    /// Signs a certificate for the request's key and names.
    pub(super) fn sign(
        &self,
        request: &CertificateRequest,
        now: SystemTime,
    ) -> Result<IssuedCertificate, Cause> {
        let now = seconds(now)?;
        let csr = CertificateSigningRequestParams::from_pem(&request.csr_pem).map_err(refused)?;
        let wanted = request.ttl.as_secs();
        let ends = self.ends.min(now.saturating_add(wanted.min(LONGEST)));
        if wanted == 0 || ends <= now {
            let reason = if wanted == 0 { "no lifetime is asked for" } else { "the authority has ended" };
            return Err(Cause::Refused(reason.to_owned()));
        }
        let mut params = parameters(now, ends)?;
        params.subject_alt_names = names(request)?;
        if let Some(name) = &request.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::from_pem(self.key.0.expose_secret()).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, key).map_err(failed)?;
        let leaf = params.signed_by(&csr.public_key, &issuer).map_err(refused)?;
        let lifetime = ends - now;
        let cut = (lifetime < wanted).then(|| format!("the lifetime is cut to {lifetime} seconds"));
        Ok(IssuedCertificate {
            chain_pem: leaf.pem(),
            authorities_pem: self.certificate.clone(),
            expires: Some(UNIX_EPOCH + Duration::from_secs(ends)),
            warnings: cut.into_iter().collect(),
        })
    }
}

/// What every certificate has: a random serial number, its time, no subject yet.
fn parameters(now: u64, ends: u64) -> Result<CertificateParams, Cause> {
    let mut serial = [0; 16];
    secure_rand_bytes(&mut serial).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.not_before = moment(now.saturating_sub(BACKDATED))?;
    params.not_after = moment(ends)?;
    Ok(params)
}

fn names(request: &CertificateRequest) -> Result<Vec<SanType>, Cause> {
    let text = |text: &String| text.as_str().try_into().map_err(refused);
    let mut names = Vec::new();
    for name in &request.dns_names {
        names.push(SanType::DnsName(text(name)?));
    }
    for uri in &request.uris {
        names.push(SanType::URI(text(uri)?));
    }
    names.extend(request.addresses.iter().copied().map(SanType::IpAddress));
    if names.is_empty() {
        return Err(Cause::Refused("no name is asked for".to_owned()));
    }
    Ok(names)
}

fn seconds(time: SystemTime) -> Result<u64, Cause> {
    time.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).map_err(failed)
}

fn moment(seconds: u64) -> Result<OffsetDateTime, Cause> {
    OffsetDateTime::from_unix_timestamp(seconds.try_into().map_err(failed)?).map_err(failed)
}

fn refused(error: impl fmt::Display) -> Cause {
    Cause::Refused(format!("the embedded authority cannot sign this: {error}"))
}

fn failed(error: impl fmt::Display) -> Cause {
    Cause::Local(format!("the embedded authority fails: {error}"))
}

/// Ten years, in seconds: this machine's root ends with the machine rather.
const LIFE: u64 = 3650 * 86_400;
/// No leaf lives for longer, in seconds.
const LONGEST: u64 = 90 * 86_400;
/// Seconds that another machine's clock may be behind.
const BACKDATED: u64 = 60;
