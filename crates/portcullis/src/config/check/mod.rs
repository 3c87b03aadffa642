//! From the file as it is written to [`Config`]: names, ties, and what one value demands of another.
//!
//! Every check reports and goes on. INVARIANT: an entry that is left out of the result has a finding, so that a
//! configuration without errors is complete.

mod certificate;
mod endpoints;
mod listener;
mod material;
mod names;
mod operation;
mod route;
mod store;
mod token;
mod upgrade;
mod upstream;
mod waf;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use identity::jwt::ClaimKind;

use self::names::Section;
use self::store::Stores;
use super::finding::Finding;
use super::model::{Config, DeniedPlaces, FileReference, Name};
use super::problem::{Severity, Span, Spanned};
use super::raw::File;
use super::raw::identity::{Denied, Identity};
use super::reader::{Entries, Field};
use super::values::field::FilePath;

/// The checked configuration, whose files lie in `directory`; without it there is at least one error among the findings.
pub(super) fn check(file: File, directory: &Path, findings: &mut Vec<Finding>) -> Option<Config> {
    let mut check = Check::new(&file, directory, findings);
    if let Some(version) = file.version.value.filter(|version| *version != 1) {
        check.error(
            Finding::error(file.version.span, format!("version {version} is unknown")).expecting("version 1"),
        );
    }
    let stores = check.secret_stores(file.secrets);
    let certificates = check.entries(file.certificates, Check::certificate);
    let trust = check.entries(file.trust, |check, name, entry| check.trust_entry(name.span, entry));
    let Identity { jwt, tokens, denied } = check.identity(file.identity);
    let jwt = check.issuers(jwt);
    let denied = check.denied(denied);
    let limits = check.entries(file.limits, |check, _, limit| check.limit(limit));
    let listeners = check
        .entries(Some(file.listeners), |check, name, listener| check.listener(name.value, listener, &limits));
    check.judging(&listeners);
    check.binds(&listeners, file.admin.as_ref());
    check.challenges(&certificates, &listeners);
    let (tokens, key_paths) = check.tokens(tokens, &listeners);
    let upstreams = check.entries(file.upstreams, |check, _, upstream| check.upstream(upstream, &trust));
    let routes = check.routes(file.routes, &listeners, &upstreams, &key_paths);
    check.rules_for_routes(file.waf.as_ref().map(|waf| waf.span));
    let waf = check.waf(file.waf);
    let policies = check.policies(file.policies, !routes.is_empty());
    let (access_log, log_level, log_format) = check.telemetry(file.telemetry);
    let admin = check.admin(file.admin);
    let shutdown_deadline = check.shutdown(file.shutdown);
    check.unused();
    let cores = flat(file.cores).and_then(|cores| NonZeroUsize::try_from(cores.0).ok());
    Some(Config {
        stores,
        tokens,
        denied,
        cores,
        listeners,
        certificates,
        trust,
        jwt,
        upstreams,
        routes,
        limits,
        waf,
        policies,
        access_log,
        log_level,
        log_format,
        admin,
        shutdown_deadline,
    })
}

/// What the checks of all sections share.
struct Check<'a> {
    directory: &'a Path,
    findings: &'a mut Vec<Finding>,
    listeners: Section,
    certificates: Section,
    trust: Section,
    jwt: Section,
    tokens: Section,
    stores: Stores,
    upstreams: Section,
    limits: Section,
    /// Listeners by whose routes other proxies' requests are judged.
    judging: Vec<Spanned<Name>>,
    /// The first route that is looked through by the core rule set.
    inspected: Option<Span>,
    /// The claims that any issuer maps, even one with an error: their types, and where each is mapped first.
    claims: BTreeMap<Name, (ClaimKind, Span)>,
}

impl<'a> Check<'a> {
    fn new(file: &File, directory: &'a Path, findings: &'a mut Vec<Finding>) -> Self {
        let identity = file.identity.as_ref().and_then(|field| field.value.as_ref());
        Self {
            directory,
            findings,
            listeners: Section::new("listener", Some(&file.listeners)),
            certificates: Section::new("certificate", file.certificates.as_ref()),
            trust: Section::new("trust entry", file.trust.as_ref()),
            jwt: Section::new("token issuer", identity.and_then(|identity| identity.jwt.as_ref())),
            tokens: Section::new("minted token", identity.and_then(|identity| identity.tokens.as_ref())),
            stores: Stores::new(file.secrets.as_ref()),
            upstreams: Section::new("upstream", file.upstreams.as_ref()),
            limits: Section::new("limit", file.limits.as_ref()),
            judging: Vec::new(),
            inspected: None,
            claims: BTreeMap::new(),
        }
    }

    fn identity(&mut self, identity: Option<Field<Identity>>) -> Identity {
        let Some(Field { value: Some(Identity { jwt, tokens, denied }), span }) = identity else {
            return Identity { jwt: None, tokens: None, denied: None };
        };
        if jwt.is_none() && tokens.is_none() && denied.is_none() {
            let finding = Finding::error(span, "neither token issuers nor minted tokens nor a deny list");
            self.error(finding.expecting("at least one of `jwt`, `tokens` and `denied`"));
        }
        Identity { jwt, tokens, denied }
    }

    fn denied(&mut self, denied: Option<Field<Denied>>) -> DeniedPlaces {
        let Some(Field { value: Some(Denied { file, state }), span }) = denied else {
            return DeniedPlaces::default();
        };
        if file.is_none() && state.is_none() {
            self.error(Finding::error(span, "no file").expecting("`file`, `state` or both"));
        }
        let place = |field: Option<Field<FilePath>>| {
            let Field { value, span } = field?;
            Some(self.file(&value?.0, span))
        };
        let (file, state) = (place(file), place(state));
        if file.is_some() && file == state {
            self.error(Finding::error(span, "one file for both: what others write would be overwritten"));
        }
        DeniedPlaces { file, state: state.map(|state| state.path) }
    }

    fn error(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Checks every entry of a section on its own.
    fn entries<T, U>(
        &mut self,
        section: Option<Field<Entries<Name, T>>>,
        mut check: impl FnMut(&mut Self, Spanned<&Name>, T) -> Option<U>,
    ) -> BTreeMap<Name, U> {
        let mut checked = BTreeMap::new();
        for (key, entry) in flat(section).map(|entries| entries.0).unwrap_or_default() {
            if let (Some(name), Some(entry)) = (key.value, entry.value)
                && let Some(entry) = check(self, Spanned { value: &name, span: key.span }, entry)
            {
                checked.insert(name, entry);
            }
        }
        checked
    }

    fn file(&self, path: &Path, span: Span) -> FileReference {
        FileReference { path: self.path(path), span }
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// Where a name is wrong, the entry that was meant is not unused: this waits until there are no errors.
    fn unused(&mut self) {
        if self.findings.iter().any(|finding| finding.severity == Severity::Error) {
            return;
        }
        let Self { certificates, trust, jwt, tokens, stores, upstreams, limits, .. } = self;
        for section in [certificates, trust, jwt, tokens, &stores.section, upstreams, limits] {
            self.findings.extend(section.unused());
        }
        let idle = self.listeners.unused();
        self.findings.extend(
            idle.map(|finding| Finding { message: "this listener has no routes".to_owned(), ..finding }),
        );
    }

    /// A list that must name something.
    fn names<T>(&mut self, field: Field<Vec<Field<T>>>, what: &str) -> Vec<Spanned<T>> {
        if field.value.as_ref().is_some_and(Vec::is_empty) {
            self.error(Finding::error(field.span, "an empty list").expecting(format!("at least one {what}")));
        }
        items(field.value)
    }
}

/// The value of a field that may be left out.
fn flat<T>(field: Option<Field<T>>) -> Option<T> {
    field.and_then(|field| field.value)
}

/// The items of a list that could be read.
fn items<T>(list: Option<Vec<Field<T>>>) -> Vec<Spanned<T>> {
    let fields = list.unwrap_or_default().into_iter();
    fields.filter_map(|field| Some(Spanned { value: field.value?, span: field.span })).collect()
}
