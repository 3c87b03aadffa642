//! Trust entries and token issuers: where they come from, and what must go together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use identity::SpiffeId;
use identity::jwt::{ClaimKind, ClaimMapping};

use super::listener::time;
use super::store::mount_or;
use super::{Check, flat, items};
use crate::config::finding::{Finding, quoted};
use crate::config::model::{At, Jwks, Jwt, Name, NameForm, Trust, TrustSource, WhenStale};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::identity as raw;
use crate::config::reader::{Entries, Field};
use crate::config::values::Word;
use crate::config::values::field::FilePath;
use crate::config::values::network::FetchUrl;

impl Check<'_> {
    pub(super) fn trust_entry(&mut self, entry: Span, raw: raw::Trust) -> Option<Trust> {
        let raw::Trust { files, vault_pki, embedded, names, trust_domain, revocation } = raw;
        let names = self.name_form(&names, trust_domain);
        let when_stale = flat(revocation).and_then(|revocation| revocation.when_stale.value);
        let source = self.trust_source(entry, files, vault_pki, embedded);
        Some(Trust { source: source?, names: names?, when_stale: when_stale.unwrap_or(WhenStale::Reject) })
    }

    fn trust_source(
        &mut self,
        entry: Span,
        files: Option<Field<raw::TrustFiles>>,
        vault_pki: Option<Field<raw::VaultTrust>>,
        embedded: Option<Field<raw::EmbeddedTrust>>,
    ) -> Option<TrustSource> {
        match (files, vault_pki, embedded) {
            (Some(files), None, None) => {
                let files = files.value?;
                let ca = self.reference(files.ca);
                let crl = items(flat(files.crl)).into_iter();
                let crl = crl.map(|path| self.file(&path.value.0, path.span)).collect();
                Some(TrustSource::Files { ca: ca?, crl })
            }
            (None, Some(pki), None) => {
                let pki = pki.value?;
                let span = pki.store.span;
                let store = pki.store.value.and_then(|name| self.vault_name(name, span))?;
                let crl = flat(pki.crl).unwrap_or(false);
                Some(TrustSource::Pki { store, mount: mount_or(pki.mount, "pki"), crl, at: At(span) })
            }
            (None, None, Some(embedded)) => {
                let store = self.embedded_name(embedded.span)?;
                Some(TrustSource::Pki { store, mount: String::new(), crl: false, at: At(embedded.span) })
            }
            (files, vault_pki, _) => {
                let none = files.is_none() && vault_pki.is_none();
                let what =
                    if none { "nothing says where its authorities are" } else { "more than one source" };
                let finding = Finding::error(entry, what);
                self.error(finding.expecting("one of `files`, `vault_pki` and `embedded`"));
                None
            }
        }
    }

    pub(super) fn issuers(&mut self, section: Option<Field<Entries<Name, raw::Jwt>>>) -> BTreeMap<Name, Jwt> {
        let mut seen: BTreeMap<Arc<str>, Span> = BTreeMap::new();
        self.entries(section, |check, name, raw| {
            if let Some(other) = check.trust.span(name.value) {
                let finding = Finding::error(name.span, format!("`{}` is a trust entry too", name.value));
                check.error(
                    finding
                        .expecting("different names, since routes ask for either by name")
                        .related(other, "that is at"),
                );
            }
            let span = raw.issuer.span;
            let jwt = check.issuer(raw, name.value)?;
            if let Some(first) = seen.insert(Arc::clone(&jwt.issuer), span) {
                let finding = Finding::error(
                    span,
                    "another entry has the same issuer, and a token names only the issuer",
                );
                check.error(finding.related(first, "it stands at"));
            }
            Some(jwt)
        })
    }

    fn issuer(&mut self, raw: raw::Jwt, entry: &Name) -> Option<Jwt> {
        let issuer = self.issuer_name(raw.issuer);
        let audience = self.names(raw.audience, "audience");
        let algorithms = self.names(raw.algorithms, "algorithm");
        let jwks = raw.jwks.value.and_then(|jwks| self.jwks(jwks, issuer.as_ref()));
        let refresh_span = raw.refresh.as_ref().map_or(raw.jwks.span, |field| field.span);
        let refresh = time(raw.refresh, Duration::from_secs(600));
        let max_stale = time(raw.max_stale, Duration::from_secs(24 * 3600));
        if refresh > max_stale {
            self.error(
                Finding::error(refresh_span, "keys would be too old before they are fetched again")
                    .expecting("`refresh` not longer than `max_stale`"),
            );
        }
        if refresh < FASTEST_REFRESH {
            self.error(
                Finding::error(refresh_span, "keys are fetched too often")
                    .expecting("`refresh` of 10s or more"),
            );
        }
        let claims = self.claims(raw.claims);
        let types = raw.types.map(|types| self.names(types, "type")).map(texts);
        let trust = self.server_trust(raw.trust);
        Some(Jwt {
            name: entry.clone(),
            issuer: issuer?.value,
            audience: texts(audience),
            jwks: jwks?,
            algorithms: algorithms.into_iter().map(|algorithm| algorithm.value.0).collect(),
            skew: flat(raw.skew).map_or(Duration::from_secs(60), |skew| skew.0),
            refresh,
            max_stale,
            types: types.unwrap_or_else(|| vec!["JWT".to_owned(), "at+jwt".to_owned()]),
            claims,
            roles: flat(raw.roles),
            scopes: flat(raw.scopes),
            trust,
        })
    }

    fn jwks(&mut self, jwks: raw::Jwks, issuer: Option<&Spanned<Arc<str>>>) -> Option<Jwks> {
        match jwks {
            raw::Jwks::Url(url) => url.value.map(Jwks::Url),
            raw::Jwks::File(path) => self.reference(path).map(Jwks::File),
            raw::Jwks::Discover => {
                let issuer = issuer?;
                match FetchUrl::parse(&issuer.value) {
                    Ok(url) => Some(Jwks::Discover(url)),
                    Err(_) => {
                        let finding = Finding::error(
                            issuer.span,
                            format!("keys cannot be discovered at {}", quoted(&issuer.value)),
                        );
                        self.error(
                            finding.expecting("an issuer that is an `https` URL, or `jwks: { url: … }`"),
                        );
                        None
                    }
                }
            }
        }
    }

    /// Policies know one type for each claim: with two, every caller of one of the issuers would be denied.
    fn claims(&mut self, claims: Option<Field<Entries<Name, raw::Claim>>>) -> Vec<ClaimMapping> {
        let mut mappings = Vec::new();
        for (Field { value: name, span }, claim) in flat(claims).map(|claims| claims.0).unwrap_or_default() {
            let (Some(name), Some(claim)) = (name, claim.value) else { continue };
            let Some(kind) = claim.kind.value else { continue };
            let kind = match kind {
                raw::ClaimType::String => ClaimKind::String,
                raw::ClaimType::Bool => ClaimKind::Bool,
                raw::ClaimType::Long => ClaimKind::Long,
                raw::ClaimType::Strings => ClaimKind::Strings,
            };
            let (first, at) = *self.claims.entry(name.clone()).or_insert((kind, span));
            if first != kind {
                let finding = Finding::error(span, format!("another issuer maps `{name}` to another type"));
                self.error(finding.expecting("one type for all issuers").related(at, "that stands at"));
            }
            let from = flat(claim.from).unwrap_or_else(|| name.to_string());
            mappings.push(ClaimMapping { name: name.to_string(), from, kind });
        }
        mappings
    }

    fn name_form(&mut self, names: &Field<raw::NameForm>, domain: Option<Field<String>>) -> Option<NameForm> {
        let form = names.value?;
        match (form, domain) {
            (raw::NameForm::Spiffe, Some(domain)) => {
                let text = domain.value?;
                match SpiffeId::check_trust_domain(&text) {
                    Ok(()) => Some(NameForm::Spiffe { trust_domain: Arc::from(text) }),
                    Err(error) => {
                        let finding = Finding::error(
                            domain.span,
                            format!("{} is no trust domain: {error}", quoted(&text)),
                        );
                        self.error(finding.expecting("a SPIFFE trust domain such as `example.org`"));
                        None
                    }
                }
            }
            (raw::NameForm::Spiffe, None) => {
                let finding = Finding::error(names.span, "whose SPIFFE ids count is not said");
                self.error(finding.expecting("`trust_domain` beside `names: spiffe`"));
                None
            }
            (raw::NameForm::Dns | raw::NameForm::Subject, Some(domain)) => {
                self.error(Finding::error(domain.span, "a trust domain counts with `names: spiffe` only"));
                None
            }
            (raw::NameForm::Dns, None) => Some(NameForm::Dns),
            (raw::NameForm::Subject, None) => Some(NameForm::Subject),
        }
    }

    pub(super) fn reference(&self, field: Field<FilePath>) -> Option<crate::config::model::FileReference> {
        field.value.map(|path| self.file(&path.0, field.span))
    }

    /// INVARIANT: without `#`, since a principal is called `issuer#subject`, and that must have one reading.
    pub(super) fn issuer_name(&mut self, field: Field<String>) -> Option<Spanned<Arc<str>>> {
        let text = field.value?;
        let problem = match text.as_str() {
            "" => "an empty text".to_owned(),
            issuer if issuer.contains('#') => {
                format!("`#` in {}; `issuer#subject` would have two readings", quoted(issuer))
            }
            _ => return Some(Spanned { value: Arc::from(text), span: field.span }),
        };
        let finding = Finding::error(field.span, problem);
        self.error(finding.expecting("the `iss` claim of the tokens, without `#`"));
        None
    }
}

fn texts(list: Vec<Spanned<String>>) -> Vec<String> {
    list.into_iter().map(|text| text.value).collect()
}

/// Faster, and the gateway is a load on the identity provider.
const FASTEST_REFRESH: Duration = Duration::from_secs(10);
