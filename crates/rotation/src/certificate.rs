//! Certificates that a store signs for a key that is made here.
//!
//! Each renewal makes a new key, which never leaves this process. **Taken:** a whole chain that fits the key, is valid now, names
//! everything that was asked for, ends no sooner than what serves (unless that has ended), and that the authorities which the store
//! names vouch for. **Refused:** everything else. A life shorter than half of what was asked for is taken and warned of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::certificate::NameForm;
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SanType,
};
use secrets::{CertificateRequest, IssuedCertificate, Store};
use tls::{Credential, StaleCrl, Trust, TrustOptions};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::error::{Rejection, SourceError};
use crate::source::{Life, Obtained, Source};

/// A certificate that a store signs.
#[derive(Clone, Debug)]
pub struct PkiCertificate {
    /// Who signs.
    pub store: Store,
    /// The PKI mount; empty for the embedded authority.
    pub mount: String,
    /// The role; empty for the embedded authority.
    pub role: String,
    /// The subject's common name.
    pub common_name: Option<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
    /// How long it should live.
    pub ttl: Duration,
    /// The kind of key.
    pub key: KeyKind,
}

/// A kind of private key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

impl Source for PkiCertificate {
    type Material = Arc<Credential>;

    async fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<Obtained<Arc<Credential>>, SourceError> {
        let started = Instant::now();
        let (key, request) = self.request().map_err(|error| SourceError::Key(error.to_string()))?;
        let issued = self.store.sign_certificate(&request).await?;
        // The answer may have taken long, and a certificate may begin the moment it is signed.
        let now = now + started.elapsed();
        let (credential, ends) = self.check(&issued, &key, held, now)?;
        self.warn(&issued, ends, now);
        let life = Life { obtained: now, begins: now, ends: Some(ends), again_in: None };
        Ok(Obtained::New(Arc::new(credential), life))
    }
}

impl PkiCertificate {
    /// A new private key in PEM, and what the store is asked to sign for it.
    fn request(&self) -> Result<(Zeroizing<String>, CertificateRequest), rcgen::Error> {
        let key = KeyPair::generate_for(match self.key {
            KeyKind::P256 => &PKCS_ECDSA_P256_SHA256,
            KeyKind::P384 => &PKCS_ECDSA_P384_SHA384,
            KeyKind::Ed25519 => &PKCS_ED25519,
        })?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = &self.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        for name in &self.dns_names {
            params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name.as_str())?));
        }
        params.subject_alt_names.extend(self.addresses.iter().copied().map(SanType::IpAddress));
        for uri in &self.uris {
            params.subject_alt_names.push(SanType::URI(Ia5String::try_from(uri.as_str())?));
        }
        let csr_pem = params.serialize_request(&key)?.pem()?;
        let request = CertificateRequest {
            mount: self.mount.clone(),
            role: self.role.clone(),
            csr_pem,
            common_name: self.common_name.clone(),
            dns_names: self.dns_names.clone(),
            addresses: self.addresses.clone(),
            uris: self.uris.clone(),
            ttl: self.ttl,
        };
        Ok((Zeroizing::new(key.serialize_pem()), request))
    }

    /// The pair, and when it or an authority above it ends.
    fn check(
        &self,
        issued: &IssuedCertificate,
        key: &str,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<(Credential, SystemTime), Rejection> {
        let credential = Credential::from_pem(issued.chain_pem.as_bytes(), key.as_bytes(), now)?;
        self.check_names(&credential)?;
        let ends = authorities(issued, now)?.vouches_for(&credential, now)?.min(credential.not_after());
        if held
            .and_then(|held| held.ends)
            .is_some_and(|serves_until| now < serves_until && ends < serves_until)
        {
            return Err(Rejection::EndsEarlier);
        }
        Ok((credential, ends))
    }

    fn check_names(&self, credential: &Credential) -> Result<(), Rejection> {
        let missing_name = self
            .dns_names
            .iter()
            .find(|name| !credential.dns_names().any(|own| own.eq_ignore_ascii_case(name)))
            .cloned();
        let missing_address =
            || self.addresses.iter().find(|one| !credential.addresses().contains(one)).map(IpAddr::to_string);
        let missing_uri =
            || self.uris.iter().find(|uri| !credential.uris().any(|own| own == uri.as_str())).cloned();
        match missing_name.or_else(missing_address).or_else(missing_uri) {
            Some(name) => Err(Rejection::Name(name)),
            None => self.check_nothing_else(credential),
        }
    }

    /// A listener chooses among its certificates by their DNS names: one more would take connections from another entry.
    fn check_nothing_else(&self, credential: &Credential) -> Result<(), Rejection> {
        let asked = || self.dns_names.iter().chain(&self.common_name);
        match credential.dns_names().find(|own| !asked().any(|name| name.eq_ignore_ascii_case(own))) {
            Some(name) => Err(Rejection::UnaskedName(name.to_owned())),
            None => Ok(()),
        }
    }

    fn warn(&self, issued: &IssuedCertificate, ends: SystemTime, now: SystemTime) {
        let lives = ends.duration_since(now).unwrap_or_default();
        if lives < self.ttl / 2 {
            tracing::warn!(
                mount = self.mount,
                role = self.role,
                asked = self.ttl.as_secs(),
                given = lives.as_secs(),
                "the certificate lives less than half as long as was asked for (seconds)"
            );
        }
        for warning in &issued.warnings {
            tracing::warn!(mount = self.mount, role = self.role, warning, "the store warns of a certificate");
        }
    }
}

/// The authorities that the store named beside a certificate. What they issue to others is not judged here: name form and lists
/// play no part.
fn authorities(issued: &IssuedCertificate, now: SystemTime) -> Result<Trust, Rejection> {
    let pem = issued.authorities_pem.as_bytes();
    if tls::certificates(pem).is_ok_and(|authorities| authorities.is_empty()) {
        return Err(Rejection::NoAuthority);
    }
    let options = TrustOptions { names: NameForm::Dns, when_stale: StaleCrl::Accept };
    Ok(Trust::from_pem("issued", pem, &[], options, now)?)
}

#[cfg(test)]
mod tests;
