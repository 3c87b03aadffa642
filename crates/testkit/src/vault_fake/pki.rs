//! A certificate authority: roots, intermediates, roles, certificates and their revocation.

use std::collections::BTreeMap;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::call::{Call, Given, Outcome, seconds};
use super::state::{given, refuse};

#[derive(Default)]
pub(super) struct Pki {
    authority: Option<Authority>,
    /// Of an intermediate whose certificate is not there yet.
    pending: Option<KeyPair>,
    roles: BTreeMap<String, Value>,
    /// By serial number with colons.
    issued: BTreeMap<String, String>,
    revoked: Vec<(SerialNumber, u64)>,
    serials: u64,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// The certificates above, nearest first, root included.
    above: Vec<String>,
}

impl Pki {
    /// What needs no token.
    pub(super) fn is_open(&self, below: &str) -> bool {
        below == "issuers" || below.starts_with("cert/")
    }

    pub(super) fn answer(&mut self, call: &Call, below: &str, now: u64) -> Outcome {
        match (call.method.as_str(), below.split_once('/').unwrap_or((below, ""))) {
            ("GET", ("cert", which)) => self.certificate(which, now),
            // It has the default issuer only.
            (_, ("issuers", "")) => match &self.authority {
                Some(_) => given(json!({ "keys": ["the-only-one"] })),
                None => refuse(404, ""),
            },
            ("GET", ("roles", role)) => {
                self.roles.get(role).map_or_else(|| refuse(404, ""), |role| given(role.clone()))
            }
            (_, ("roles", role)) => {
                self.roles.insert(role.to_owned(), call.body.clone());
                given(call.body.clone())
            }
            (_, ("root", "generate/internal")) => self.root(call, now),
            (_, ("root", "sign-intermediate")) => self.sign_intermediate(call, now),
            (_, ("intermediate", "generate/internal")) => {
                let key = KeyPair::generate().unwrap();
                let request = authority_params(&call.text("common_name")).serialize_request(&key).unwrap();
                self.pending = Some(key);
                given(json!({ "csr": request.pem().unwrap() }))
            }
            (_, ("intermediate", "set-signed")) => self.set_signed(call),
            (_, ("sign", role)) => self.sign(call, role, now),
            (_, ("revoke", "")) => self.revoke(call, now),
            (_, ("config", _)) => Given::nothing(),
            _ => refuse(404, ""),
        }
    }

    fn certificate(&self, which: &str, now: u64) -> Outcome {
        if let Some(pem) = self.issued.get(which) {
            return given(json!({ "certificate": pem, "revocation_time": 0 }));
        }
        let Some(authority) = &self.authority else {
            return refuse(if which == "crl" { 500 } else { 400 }, "no default issuer currently configured");
        };
        match which {
            "ca" => given(json!({ "certificate": authority.pem, "revocation_time": 0 })),
            "ca_chain" => {
                let chain = authority.chain().join("\n");
                given(json!({ "ca_chain": chain, "certificate": chain, "revocation_time": 0 }))
            }
            "crl" => given(json!({ "certificate": self.list(authority, now), "revocation_time": 0 })),
            _ => refuse(404, ""),
        }
    }

    fn root(&mut self, call: &Call, now: u64) -> Outcome {
        let key = KeyPair::generate().unwrap();
        let params = lasting(authority_params(&call.text("common_name")), now, seconds(&call.body["ttl"]));
        let pem = trimmed(&params.self_signed(&key).unwrap());
        self.authority =
            Some(Authority { issuer: Issuer::new(params, key), pem: pem.clone(), above: vec![] });
        given(
            json!({ "certificate": pem, "issuing_ca": pem, "expiration": now + seconds(&call.body["ttl"]) }),
        )
    }

    fn sign_intermediate(&mut self, call: &Call, now: u64) -> Outcome {
        let Some(authority) = &self.authority else {
            return refuse(400, "no default issuer currently configured");
        };
        let Ok(mut request) = CertificateSigningRequestParams::from_pem(&call.text("csr")) else {
            return refuse(400, "certificate request could not be parsed");
        };
        let params = authority_params(&call.text("common_name"));
        request.params = lasting(params, now, seconds(&call.body["ttl"]));
        let pem = trimmed(&request.signed_by(&authority.issuer).unwrap());
        let chain: Vec<String> = [pem.clone()].into_iter().chain(authority.chain()).collect();
        given(json!({ "certificate": pem, "issuing_ca": authority.pem, "ca_chain": chain }))
    }

    fn set_signed(&mut self, call: &Call) -> Outcome {
        let Some(key) = self.pending.take() else { return refuse(400, "no key is waiting") };
        let text = call.text("certificate");
        let mut all = text.split_inclusive("-----END CERTIFICATE-----").map(|pem| pem.trim().to_owned());
        let pem = all.next().unwrap_or_default();
        let Ok(issuer) = Issuer::from_ca_cert_pem(&pem, key) else { return refuse(400, "no certificate") };
        let above = all.filter(|pem| !pem.is_empty()).collect();
        self.authority = Some(Authority { issuer, pem, above });
        given(json!({ "imported_issuers": ["fake"] }))
    }

    fn sign(&mut self, call: &Call, name: &str, now: u64) -> Outcome {
        let Some(role) = self.roles.get(name) else { return refuse(400, &format!("unknown role: {name}")) };
        let Some(authority) = &self.authority else {
            return refuse(400, "no default issuer currently configured");
        };
        let Ok(mut request) = CertificateSigningRequestParams::from_pem(&call.text("csr")) else {
            return refuse(400, "certificate request could not be parsed");
        };
        for name in &request.params.subject_alt_names {
            if let SanType::DnsName(name) = name
                && !is_allowed(role, name.as_str())
            {
                return refuse(
                    400,
                    &format!("subject alternate name {} not allowed by this role", name.as_str()),
                );
            }
        }
        let (asked, most) = (seconds(&call.body["ttl"]), seconds(&role["max_ttl"]));
        let ttl = if most > 0 && (asked == 0 || asked > most) { most } else { asked.max(1) };
        let warning = (asked > ttl).then(|| {
            format!("TTL \"{asked}s\" is longer than permitted maxTTL \"{ttl}s\", so maxTTL is being used")
        });
        self.serials += 1;
        let serial = SerialNumber::from_slice(&(0x4000_0000_0000_0000 + self.serials).to_be_bytes());
        request.params = lasting(request.params, now, ttl);
        request.params.serial_number = Some(serial.clone());
        let pem = trimmed(&request.signed_by(&authority.issuer).unwrap());
        let serial = colons(&serial);
        self.issued.insert(serial.clone(), pem.clone());
        let data = json!({ "certificate": pem, "issuing_ca": authority.pem, "ca_chain": authority.chain(),
            "serial_number": serial, "expiration": now + ttl });
        Ok(Given { data, warnings: warning.into_iter().collect(), ..Given::default() })
    }

    fn revoke(&mut self, call: &Call, now: u64) -> Outcome {
        let serial = call.text("serial_number");
        if !self.issued.contains_key(&serial) {
            return refuse(400, "certificate with this serial number not found");
        }
        let bytes: Vec<u8> = serial.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        self.revoked.push((SerialNumber::from_slice(&bytes), now));
        given(json!({ "revocation_time": now }))
    }

    fn list(&self, authority: &Authority, now: u64) -> String {
        let revoked = |(serial, at): &(SerialNumber, u64)| RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: moment(*at),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: moment(now),
            next_update: moment(now + 72 * 3600),
            crl_number: SerialNumber::from(1 + self.revoked.len() as u64),
            issuing_distribution_point: None,
            revoked_certs: self.revoked.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&authority.issuer).unwrap().pem().unwrap().trim().to_owned()
    }
}

impl Authority {
    fn chain(&self) -> Vec<String> {
        [self.pem.clone()].into_iter().chain(self.above.clone()).collect()
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// From half a minute ago on, as Vault does it.
fn lasting(mut params: CertificateParams, now: u64, ttl: u64) -> CertificateParams {
    params.not_before = moment(now - 30);
    params.not_after = moment(now + if ttl == 0 { 768 * 3600 } else { ttl });
    params.use_authority_key_identifier_extension = true;
    params
}

fn is_allowed(role: &Value, name: &str) -> bool {
    let domains = match &role["allowed_domains"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        other => other.as_str().unwrap_or_default().split(',').map(str::to_owned).collect::<Vec<_>>(),
    };
    let allows = |flag: &str| role[flag] == json!(true);
    role["allow_any_name"] == json!(true)
        || domains.iter().any(|domain| {
            allows("allow_bare_domains") && name == domain
                || allows("allow_subdomains") && name.ends_with(&format!(".{domain}"))
        })
}

fn moment(unix: u64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(unix)
}

/// As Vault writes PEM into JSON: without a line end.
fn trimmed(certificate: &Certificate) -> String {
    certificate.pem().replace("\r\n", "\n").trim().to_owned()
}

fn colons(serial: &SerialNumber) -> String {
    serial.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
