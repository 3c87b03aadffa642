//! Certificates: where they come from, and what those that are issued say.

use std::collections::BTreeMap;
use std::time::Duration;

use super::store::mount_or;
use super::{Check, flat, items};
use crate::config::finding::{Finding, quoted};
use crate::config::model::{
    AcmeCertificate, AcmeChallenge, At, CertificateFiles, CertificateSource, ExternalAccount, KeyKind,
    Listener, ListenerKind, Name, PkiCertificate,
};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::certificate as raw;
use crate::config::reader::Field;
use crate::config::values::certificate::{CertificateName, LONGEST_COMMON_NAME};
use crate::config::values::field::IssuerTrust;
use crate::config::values::quantity::Timespan;
use crate::config::values::secret::CertificatePart;

impl Check<'_> {
    pub(super) fn certificate(
        &mut self,
        _: Spanned<&Name>,
        raw: raw::Certificate,
    ) -> Option<CertificateSource> {
        match raw {
            raw::Certificate::Files(files) => self.certificate_files(files.value?.0),
            raw::Certificate::VaultPki(pki) => self.vault_certificate(pki.value?).map(CertificateSource::Pki),
            raw::Certificate::Embedded(pki) => {
                self.embedded_certificate(pki.value?, pki.span).map(CertificateSource::Pki)
            }
            raw::Certificate::Acme(acme) => self.acme_certificate(acme.value?).map(CertificateSource::Acme),
        }
    }

    fn certificate_files(&mut self, raw: raw::CertificateFiles) -> Option<CertificateSource> {
        let (certificate, key) = (raw.certificate, raw.key);
        match (certificate.value?, key.value?) {
            (CertificatePart::Path(chain), CertificatePart::Path(path)) => {
                let certificate = self.file(&chain, certificate.span);
                Some(CertificateSource::Files(CertificateFiles {
                    certificate,
                    key: self.file(&path, key.span),
                }))
            }
            (CertificatePart::Reference(chain), CertificatePart::Reference(reference)) => {
                let certificate = self.resolvable(chain, certificate.span);
                let key = self.resolvable(reference, key.span);
                Some(CertificateSource::Held { certificate: certificate?, key: key? })
            }
            (CertificatePart::Path(_), CertificatePart::Reference(_))
            | (CertificatePart::Reference(_), CertificatePart::Path(_)) => {
                let finding =
                    Finding::error(key.span, "a file and a value of a store do not change together");
                let finding = finding.expecting("two paths, or two references");
                self.error(finding.related(certificate.span, "the certificate stands at"));
                None
            }
        }
    }

    fn vault_certificate(&mut self, raw: raw::VaultCertificate) -> Option<PkiCertificate> {
        let at = At(raw.role.span);
        let store = raw.store.value.and_then(|name| self.vault_name(name, raw.store.span));
        let names = self.certificate_names_in(raw.names);
        let ttl = self.bounded(raw.ttl, DEFAULT_TTL, TTL);
        let mount = mount_or(raw.mount, "pki");
        let common_name = flat(raw.common_name).map(|name| name.0);
        Some(names.certificate(store?, mount, raw.role.value?.0, common_name, ttl, flat(raw.key), at))
    }

    fn embedded_certificate(&mut self, raw: raw::EmbeddedCertificate, span: Span) -> Option<PkiCertificate> {
        let store = self.embedded_name(span);
        let names = self.certificate_names_in(raw.names);
        let ttl = self.bounded(raw.ttl, DEFAULT_TTL, TTL);
        let (mount, role) = (String::new(), String::new());
        Some(names.certificate(store?, mount, role, None, ttl, flat(raw.key), At(span)))
    }

    fn certificate_names_in(&mut self, field: Field<Vec<Field<CertificateName>>>) -> CertificateNames {
        let mut names = CertificateNames::default();
        let mut spiffe: Option<Span> = None;
        for Spanned { value, span } in self.names(field, "name") {
            let again = match value {
                CertificateName::Dns(name) => add(&mut names.dns, name),
                CertificateName::Address(address) => add(&mut names.addresses, address),
                CertificateName::Uri(uri) => {
                    if uri.starts_with("spiffe:") {
                        spiffe = spiffe.or(Some(span));
                    }
                    add(&mut names.uris, uri)
                }
            };
            if again {
                self.error(Finding::error(span, "the same name a second time"));
            } else if let Some(first) = spiffe
                && names.uris.len() > 1
            {
                let finding = Finding::error(span, "a certificate with a SPIFFE id has no other URI");
                self.error(finding.related(first, "the id stands at"));
                spiffe = None;
            }
        }
        names
    }

    fn acme_certificate(&mut self, raw: raw::AcmeCertificate) -> Option<AcmeCertificate> {
        let mut dns_names = Vec::new();
        for Spanned { value, span } in self.names(raw.names, "DNS name") {
            if value.wildcard {
                let finding =
                    Finding::error(span, format!("{} is proven in DNS only", quoted(&value.to_string())));
                self.error(finding.expecting("names without wildcards"));
            } else if add(&mut dns_names, value.to_string()) {
                self.error(Finding::error(span, "the same name a second time"));
            }
        }
        let external_account = raw.external_account.map(|account| {
            let account = account.value?.0;
            let key = self.secret(account.key);
            Some(ExternalAccount { key_id: account.key_id.value?, key: key? })
        });
        let contact = items(flat(raw.contact)).into_iter().map(|contact| contact.value.0).collect();
        let trust: Option<Field<IssuerTrust>> = raw.trust;
        Some(AcmeCertificate {
            directory: raw.directory.value?.0,
            trust: self.server_trust(trust),
            contact,
            dns_names,
            challenge: flat(raw.challenge).unwrap_or(AcmeChallenge::TlsAlpn01),
            state: self.reference(raw.state)?,
            external_account: external_account.flatten(),
        })
    }

    /// A challenge needs a listener that answers it.
    pub(super) fn challenges(
        &mut self,
        certificates: &BTreeMap<Name, CertificateSource>,
        listeners: &BTreeMap<Name, Listener>,
    ) {
        for (name, source) in certificates {
            let CertificateSource::Acme(acme) = source else { continue };
            let span = self.certificates.span(name).unwrap_or_default();
            let answered = listeners.values().any(|listener| match (&listener.kind, acme.challenge) {
                (ListenerKind::Tls(tls), AcmeChallenge::TlsAlpn01) => {
                    tls.hosts.values().chain([&tls.policy]).any(|policy| policy.certificates.contains(name))
                }
                (ListenerKind::Plain | ListenerKind::Redirect, AcmeChallenge::Http01) => {
                    listener.validate.is_none()
                }
                _ => false,
            });
            let (message, expected) = match acme.challenge {
                AcmeChallenge::TlsAlpn01 => {
                    ("no listener answers `tls-alpn-01` for it", "a TLS listener that uses the certificate")
                }
                AcmeChallenge::Http01 => ("no listener answers `http-01`", "a listener without `tls`"),
            };
            if !answered {
                self.error(Finding::error(span, message).expecting(expected));
            }
        }
    }

    /// A time within bounds.
    pub(super) fn bounded(
        &mut self,
        field: Option<Field<Timespan>>,
        default: Duration,
        (low, high, expected): TimeBounds,
    ) -> Duration {
        let given = field.and_then(|field| Some((field.value?.0, field.span)));
        let Some((time, span)) = given else { return default };
        if !(low..=high).contains(&time) {
            self.error(Finding::error(span, "out of bounds").expecting(expected));
        }
        time
    }
}

/// What a certificate is for.
#[derive(Default)]
struct CertificateNames {
    dns: Vec<String>,
    addresses: Vec<std::net::IpAddr>,
    uris: Vec<String>,
}

impl CertificateNames {
    #[expect(clippy::too_many_arguments, reason = "all of them are parts of one certificate")]
    fn certificate(
        self,
        store: Name,
        mount: String,
        role: String,
        common_name: Option<String>,
        ttl: Duration,
        key: Option<KeyKind>,
        at: At,
    ) -> PkiCertificate {
        let first = self.dns.first().filter(|name| name.len() <= LONGEST_COMMON_NAME).cloned();
        PkiCertificate {
            store,
            mount,
            role,
            common_name: common_name.or(first),
            dns_names: self.dns,
            addresses: self.addresses,
            uris: self.uris,
            ttl,
            key: key.unwrap_or_default(),
            at,
        }
    }
}

/// Adds what is not there yet; true if it was.
fn add<T: PartialEq>(list: &mut Vec<T>, value: T) -> bool {
    let again = list.contains(&value);
    if !again {
        list.push(value);
    }
    again
}

pub(super) type TimeBounds = (Duration, Duration, &'static str);

const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);

/// Below, a certificate ends while its successor is made; above, clients refuse it (CA/Browser Forum).
const TTL: TimeBounds =
    (Duration::from_secs(10), Duration::from_secs(398 * 86_400), "a time from `10s` to `398d`");
