//! `portcullis token`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use identity::jwt::{TokenError, VerifiedToken};
use serde_json::{Map, Value, json};

use super::exit::{CliError, Exit, Report};
use super::out::{self, Format, Rows, paint, printable};
use super::principal::PrincipalNote;
use super::{source, time};
use crate::config::model::{Jwks, Jwt};
use crate::config::{Checked, material::Material};
use crate::gateway;

/// Look at tokens
#[derive(Args, Debug)]
pub(super) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(Inspect),
}

/// Show what a JWT says; with a configuration, also whether it verifies
///
/// Without `-c` nothing is verified: anybody can write such a token. With `-c` it is verified as the gateway would, by
/// every issuer whose keys are in a file; it exits with 5 if none of them accepts it. The token itself and its signature
/// are never printed.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis token inspect token.jwt
  portcullis token inspect -c portcullis.yaml - < token.jwt")]
struct Inspect {
    /// The file that holds the token; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Verify it by the issuers of this configuration
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Token {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let Command::Inspect(inspect) = &self.command;
        inspect.run(gateway::wall_clock())
    }
}

impl Inspect {
    fn run(&self, now: SystemTime) -> Result<Report, CliError> {
        let token = read(&self.file)?;
        let parts = Parts::decode(&token).ok_or_else(|| CliError::read(&self.file, &EXPECTED))?;
        let verdicts = match &self.config {
            Some(config) => Some(verify(&token, &parts, &source::checked(config)?, now)),
            None => None,
        };
        let accepted = verdicts.iter().flatten().any(|verdict| verdict.outcome.is_ok());
        let text = match self.format {
            Format::Json => format!("{:#}\n", parts.json(verdicts.as_deref())),
            Format::Text => parts.text(verdicts.as_deref(), now),
        };
        Ok(Report::ok(text).ending(if verdicts.is_some() && !accepted { Exit::No } else { Exit::Ok }))
    }
}

/// The token of a file, without the white space around it and a `Bearer` before it.
pub(super) fn read(file: &Path) -> Result<String, CliError> {
    let text = String::from_utf8(source::bytes(file)?).map_err(|_| CliError::read(file, &EXPECTED))?;
    let text = text.trim();
    let (scheme, rest) = text.split_at_checked("bearer ".len()).unwrap_or_default();
    Ok(if scheme.eq_ignore_ascii_case("bearer ") { rest.trim_start() } else { text }.to_owned())
}

/// What a token says.
struct Parts {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

/// What an issuer's entry makes of a token.
struct Verdict {
    issuer: String,
    outcome: Result<VerifiedToken, Unproven>,
}

fn verify(token: &str, parts: &Parts, checked: &Checked, now: SystemTime) -> Vec<Verdict> {
    let of_issuer = |jwt: &&Jwt| parts.claims.get("iss").and_then(Value::as_str) == Some(&jwt.issuer);
    let verdict = |jwt: &Jwt| Verdict {
        issuer: jwt.name.to_string(),
        outcome: verify_by(jwt, token, &checked.material, now),
    };
    checked.config.jwt.values().filter(of_issuer).map(verdict).collect()
}

/// Verifies a token by an issuer's entry, as the gateway would.
///
/// # Errors
/// What is wrong with the token, or where the keys are instead.
pub(super) fn verify_by(
    jwt: &Jwt,
    token: &str,
    material: &Material,
    now: SystemTime,
) -> Result<VerifiedToken, Unproven> {
    let keys = match (&jwt.jwks, material.keys.get(&jwt.name)) {
        (_, Some(keys)) => &keys.value,
        (Jwks::Discover(url) | Jwks::Url(url), None) => {
            return Err(Unproven::KeysElsewhere(url.text.to_string()));
        }
        (Jwks::File(file), None) => return Err(Unproven::KeysElsewhere(file.path.display().to_string())),
    };
    Ok(gateway::issuer(jwt).verify(token, keys, now)?)
}

/// Why a token is not verified.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unproven {
    /// Commands fetch nothing.
    #[error("its keys come from `{0}`, which is not asked here")]
    KeysElsewhere(String),
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Parts {
    fn decode(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let mut object = || {
            let bytes = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let (header, claims) = (object()?, object()?);
        parts.next()?;
        parts.next().is_none().then_some(Self { header, claims })
    }

    fn json(&self, verdicts: Option<&[Verdict]>) -> Value {
        let verdicts = verdicts.map(|verdicts| {
            let verdict = |verdict: &Verdict| {
                let principal =
                    verdict.outcome.as_ref().ok().map(|token| PrincipalNote::new(&token.principal));
                let refused = verdict.outcome.as_ref().err().map(Unproven::to_string);
                json!({ "issuer": verdict.issuer, "principal": principal, "refused": refused })
            };
            verdicts.iter().map(verdict).collect::<Value>()
        });
        json!({ "header": self.header, "claims": self.claims, "verified_by": verdicts })
    }

    fn text(&self, verdicts: Option<&[Verdict]>, now: SystemTime) -> String {
        let mut rows = Rows::default();
        rows.list("header", self.header.iter().map(|(name, value)| member(name, value, now)));
        rows.list("claims", self.claims.iter().map(|(name, value)| member(name, value, now)));
        match verdicts {
            None => {
                let said = "NOT VERIFIED: anybody can write such a token; `-c FILE` verifies it";
                rows.add("verified", paint(out::WARNING, said));
            }
            Some([]) => {
                rows.add("verified", paint(out::ERROR, "no: no issuer of the configuration has this `iss`"));
            }
            Some(verdicts) => rows.list("verified", verdicts.iter().map(|verdict| verdict.text(now))),
        }
        rows.to_string()
    }
}

impl Verdict {
    fn text(&self, now: SystemTime) -> String {
        match &self.outcome {
            Ok(token) => {
                let until = time::moment(token.accepted_until, now);
                let by = paint(out::GOOD, format!("by issuer `{}`", self.issuer));
                format!("{by}, accepted until {until}\n{}", PrincipalNote::new(&token.principal).text())
            }
            Err(reason) => {
                format!("{}: {reason}", paint(out::ERROR, format!("not by issuer `{}`", self.issuer)))
            }
        }
    }
}

fn member(name: &str, value: &Value, now: SystemTime) -> String {
    let shown = printable(&format!("{name}: {value}"));
    match value.as_u64() {
        Some(seconds) if TIMES.contains(&name) => {
            match UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) {
                Some(at) => format!("{shown}  {}", time::moment(at, now)),
                None => shown,
            }
        }
        _ => shown,
    }
}

/// Claims that are times (RFC 7519 section 4.1, OpenID Connect Core section 2).
const TIMES: [&str; 5] = ["exp", "nbf", "iat", "auth_time", "updated_at"];
const EXPECTED: &str =
    "it is no JWT; expected three parts of base64url with dots between, the first two JSON objects";

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2lnbmF0dXJl", part(&json!({ "alg": "ES256", "kid": "a" })), part(claims))
    }

    fn inspect(token: &str, format: Format) -> Result<Report, CliError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, token).unwrap();
        Inspect { file, config: None, format }.run(UNIX_EPOCH + Duration::from_secs(1_795_000_000))
    }

    #[test]
    fn a_token_is_shown_without_its_signature_and_called_unverified() {
        let token = token(&json!({ "sub": "alice", "exp": 1_795_000_300_u64 }));
        let report = inspect(&format!("Bearer {token}\n"), Format::Text).unwrap();
        assert_eq!(report.exit, Exit::Ok);
        for part in ["kid: \"a\"", "sub: \"alice\"", "in 5 min", "NOT VERIFIED"] {
            assert!(report.text.contains(part), "`{part}` is missing: {}", report.text);
        }
        assert!(!report.text.contains("c2lnbmF0dXJl") && !report.text.contains(&token), "{}", report.text);
    }

    #[test]
    fn a_claim_cannot_write_on_the_terminal() {
        let report = inspect(&token(&json!({ "sub": "\u{1b}[2J\u{9b}2J" })), Format::Text).unwrap();
        assert!(!anstream::adapter::strip_str(&report.text).to_string().contains(['\u{1b}', '\u{9b}']));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_quoted() {
        for text in ["", "a.b", "a.b.c", "secret", "e30.e30", "e30.e30.a.b", "e30.W10.a"] {
            let error = inspect(text, Format::Json).unwrap_err().to_string();
            assert!(error.contains("it is no JWT") && !error.contains("secret"), "{text}: {error}");
        }
    }
}
