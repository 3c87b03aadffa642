//! Policy cases: expectations as data beside the policies, run by `portcullis policy test` and in CI.
//!
//! A case passes only if plain Cedar over all policies and the decider that serves traffic, before and after its
//! partial evaluation, all say what the case expects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use identity::{ClaimValue, Principal, PrincipalId, PrincipalKind};
use serde::Deserialize;

use crate::decide::{Decider, Denial, DenialReason, Permit};
use crate::engine::{Compiler, Engine};
use crate::facts::{CertificateFacts, Facts, RouteFacts, RouteIndex, TlsFacts};
use crate::schema::ClaimSchema;
use crate::source::{PolicyId, PolicySource, Problem};
use crate::subject::Subject;

/// A file of cases.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// What the file is about, for readers.
    #[serde(default)]
    pub about: String,
    /// Claims that its policies read, by name; the configuration's own mapping wins.
    #[serde(default)]
    pub claims: ClaimSchema,
    /// The cases, in order.
    pub cases: Vec<Case>,
}

/// One request, or one scope of a minted token, and what policy must say to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case says, as a sentence.
    pub name: String,
    /// Who asks; nobody if absent.
    #[serde(default)]
    pub principal: CasePrincipal,
    /// The route's name; a case has this or `grant`.
    pub route: Option<String>,
    /// The scope that the minted token may carry or not.
    pub grant: Option<String>,
    /// The route's labels; if absent, those of the configured route of that name, else none.
    pub labels: Option<BTreeMap<String, String>>,
    /// What is asked; for a grant `GET /` if absent.
    pub request: Option<CaseRequest>,
    /// What policy must say.
    pub expect: Expectation,
    /// The code of the denial, such as `POLICY_FORBIDDEN`; any if absent.
    pub reason: Option<String>,
    /// The ids of exactly the policies that decide; any if absent.
    pub policies: Option<Vec<String>>,
}

/// Who asks in a case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CasePrincipal {
    /// As in the logs: `spiffe://domain/path`, `jwt:issuer#subject`, `dns:trust#name`, `subject:trust#dn`,
    /// `anonymous`.
    pub id: String,
    /// Roles of the token.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Scopes of the token.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Mapped claims of the token.
    #[serde(default)]
    pub claims: BTreeMap<String, CaseClaim>,
}

/// A claim in a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum CaseClaim {
    /// A JSON boolean.
    Bool(bool),
    /// A JSON integer.
    Long(i64),
    /// A JSON string.
    String(String),
    /// A JSON array of strings.
    Strings(Vec<String>),
}

/// The request of a case; what is absent has a harmless value.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseRequest {
    /// The method.
    pub method: String,
    /// The canonical path.
    pub path: String,
    /// The query, without its question mark.
    pub query: Option<String>,
    /// The canonical host, `localhost` if absent.
    pub host: Option<String>,
    /// The client's address, 127.0.0.1 if absent.
    pub address: Option<IpAddr>,
    /// The time, as RFC 3339 writes it; 2026-01-01T12:00:00Z if absent.
    pub time: Option<String>,
    /// The connection's TLS; plain HTTP if absent.
    pub tls: Option<CaseTls>,
}

/// The TLS of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseTls {
    /// The version.
    pub version: TlsVersion,
    /// The server name of the handshake.
    pub sni: Option<String>,
    /// The verified client certificate.
    pub client: Option<CaseCertificate>,
}

/// A TLS version in a case.
#[derive(Clone, Copy, Debug, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// The client certificate of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseCertificate {
    /// Its principal id, as in the logs.
    pub name: String,
    /// SHA-256 in lower-case hex.
    #[serde(default)]
    pub fingerprint: String,
    /// The serial number in lower-case hex.
    #[serde(default)]
    pub serial: String,
}

/// What a case expects.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Expectation {
    /// A permit.
    Allow,
    /// A denial.
    Deny,
}

/// What became of a case.
#[derive(Clone, Debug)]
pub struct CaseOutcome {
    /// The case's name.
    pub name: String,
    /// Why it failed; `None` if policy said what was expected.
    pub failure: Option<String>,
}

impl CaseFile {
    /// A file from its JSON text.
    ///
    /// # Errors
    /// What is wrong and where, as `serde_json` says it.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// Runs the cases of `file` over the policies in `sources`. `claims` and `routes` are the configured ones.
///
/// # Errors
/// The problems of the policies, as [`Engine::compile`] finds them.
pub fn run_cases(
    sources: &[PolicySource],
    claims: &ClaimSchema,
    routes: &[RouteFacts],
    file: &CaseFile,
) -> Result<Vec<CaseOutcome>, Vec<Problem>> {
    let mut all_claims = file.claims.clone();
    all_claims.extend(claims.clone());
    let route = |case: &Case| {
        let name = case.route.clone().unwrap_or_default();
        let configured = || Some(routes.iter().find(|route| route.name == name)?.labels.clone());
        let labels = case.labels.clone().or_else(configured).unwrap_or_default();
        RouteFacts { name, labels }
    };
    let scopes: BTreeSet<String> = file.cases.iter().filter_map(|case| case.grant.clone()).collect();
    let scopes: Vec<String> = scopes.into_iter().collect();
    let routes = file.cases.iter().map(route).collect();
    let (engine, compiler) = Engine::compile_granting(sources, &all_claims, routes, &scopes)?;
    let engine = Arc::new(engine);
    let outcomes = (0..).map(RouteIndex).zip(&file.cases).map(|(route, case)| CaseOutcome {
        name: case.name.clone(),
        failure: run_case(case, &engine, &compiler, route).err(),
    });
    Ok(outcomes.collect())
}

fn run_case(case: &Case, engine: &Arc<Engine>, compiler: &Compiler, route: RouteIndex) -> Result<(), String> {
    let subject = Arc::new(Subject::new(&case.principal.principal()?));
    let request = match (&case.route, &case.grant, &case.request) {
        (Some(_), None, Some(request)) | (None, Some(_), Some(request)) => request.clone(),
        (None, Some(_), None) => CaseRequest::default(),
        _ => return Err("a case has a `route` with a `request`, or a `grant`".to_owned()),
    };
    let facts = request.facts()?;
    let scope = case.grant.as_ref().and_then(|scope| engine.scope(scope));
    let explanation = match scope {
        Some(scope) => engine.explain_grant(&subject, scope, &facts),
        None => engine.explain(&subject, route, &facts),
    };
    let mut explained: Vec<PolicyId> = explanation.policies.iter().map(|policy| policy.id.clone()).collect();
    explained.sort();
    case.judge("plain Cedar", explanation.decision, &explained)?;
    let mut decider = Decider::new();
    for stage in ["before partial evaluation", "after partial evaluation", "from memory"] {
        if let Some(scope) = scope {
            let is_granted = decider.grants(engine, &subject, scope, &facts);
            if is_granted != explanation.decision.is_ok() {
                return Err(format!("{stage} another decision than plain Cedar's"));
            }
            compiler.serve_waiting();
            continue;
        }
        match decider.decide(engine, &subject, route, &facts) {
            Ok(permit) => case.judge(stage, Ok(()), Permit::policies(&permit))?,
            Err(Denial { reason, policies, .. }) => case.judge(stage, Err(reason), &policies)?,
        }
        compiler.serve_waiting();
    }
    Ok(())
}

impl Case {
    fn judge(
        &self,
        by: &str,
        decision: Result<(), DenialReason>,
        policies: &[PolicyId],
    ) -> Result<(), String> {
        let ids: Vec<&str> = policies.iter().map(PolicyId::as_str).collect();
        let said = match decision {
            Ok(()) => format!("{by} allows by {ids:?}"),
            Err(reason) => format!("{by} denies with {} by {ids:?}", reason.code()),
        };
        if decision.is_ok() != (self.expect == Expectation::Allow) {
            return Err(said);
        }
        if let (Err(reason), Some(expected)) = (decision, &self.reason)
            && reason.code() != expected
        {
            return Err(format!("{said}, expected {expected}"));
        }
        if let Some(expected) = &self.policies {
            let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            expected.sort_unstable();
            if ids != expected {
                return Err(format!("{said}, expected {expected:?}"));
            }
        }
        Ok(())
    }
}

impl CasePrincipal {
    /// The principal that it describes.
    ///
    /// # Errors
    /// An id that is none, in words.
    pub fn principal(&self) -> Result<Principal, String> {
        let mut principal = Principal::named(principal_id(&self.id)?);
        principal.roles.clone_from(&self.roles);
        principal.scopes.clone_from(&self.scopes);
        principal.claims =
            self.claims.iter().map(|(name, claim)| (name.clone(), ClaimValue::from(claim.clone()))).collect();
        Ok(principal)
    }
}

impl From<CaseClaim> for ClaimValue {
    fn from(claim: CaseClaim) -> Self {
        match claim {
            CaseClaim::Bool(value) => Self::Bool(value),
            CaseClaim::Long(value) => Self::Long(value),
            CaseClaim::String(value) => Self::String(value),
            CaseClaim::Strings(values) => Self::Strings(values),
        }
    }
}

impl Default for CaseRequest {
    fn default() -> Self {
        let (method, path) = ("GET".to_owned(), "/".to_owned());
        Self { method, path, query: None, host: None, address: None, time: None, tls: None }
    }
}

impl CaseRequest {
    /// The facts that policies see.
    ///
    /// # Errors
    /// A time that is none, in words.
    pub fn facts(&self) -> Result<Facts<'_>, String> {
        let time = self.time.as_deref().unwrap_or("2026-01-01T12:00:00Z");
        let time: jiff::Timestamp =
            time.parse().map_err(|_| format!("`{time}` is no time as RFC 3339 writes it"))?;
        let tls = self.tls.as_ref().map_or_else(TlsFacts::default, |tls| TlsFacts {
            version: Some(match tls.version {
                TlsVersion::Tls12 => "1.2",
                TlsVersion::Tls13 => "1.3",
            }),
            sni: tls.sni.as_deref(),
            client_certificate: tls.client.as_ref().map(|client| CertificateFacts {
                name: &client.name,
                fingerprint: &client.fingerprint,
                serial: &client.serial,
            }),
        });
        Ok(Facts {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            host: self.host.as_deref().unwrap_or("localhost"),
            address: self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            tls,
            now: SystemTime::from(time),
            ends: None,
        })
    }
}

/// The principal id that is printed as `text`; an empty text is nobody.
fn principal_id(text: &str) -> Result<PrincipalId, String> {
    if text.is_empty() || text == "anonymous" {
        return Ok(PrincipalId::anonymous());
    }
    let no_id = || format!("`{text}` is no principal id (expected such as `jwt:https://a.test#alice`)");
    let (kind, rest) = text.split_once(':').ok_or_else(no_id)?;
    let kind = match kind {
        "spiffe" => {
            let name = rest.strip_prefix("//").ok_or_else(|| format!("`{text}` is no SPIFFE id"))?;
            let slash = name.find('/').unwrap_or(name.len());
            let (domain, path) = name.split_at(slash);
            return Ok(PrincipalId::new(PrincipalKind::Spiffe, domain, path));
        }
        "jwt" => PrincipalKind::Jwt,
        "dns" => PrincipalKind::Dns,
        "subject" => PrincipalKind::Subject,
        _ => return Err(format!("`{kind}` is no kind of principal: spiffe, jwt, dns, subject or anonymous")),
    };
    let (authority, subject) =
        rest.split_once('#').ok_or_else(|| format!("`{text}` has no `#` before its subject"))?;
    Ok(PrincipalId::new(kind, authority, subject))
}

#[cfg(test)]
mod tests;
