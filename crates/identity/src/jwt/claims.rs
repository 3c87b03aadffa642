//! The claims of a token whose signature held (RFC 7519 section 4).
//!
//! `iss`, `aud`, `exp` and `sub` are required; `nbf` and `iat` hold if present. A mapped claim that is absent is absent; one
//! of another type than the configuration says is an error, as are control characters in whatever reaches policies or logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{ClaimKind, Issuer, TokenError, VerifiedToken, decode_part};
use crate::json::{Json, Object};
use crate::jwks::KeyThumbprint;
use crate::{ClaimValue, Principal, PrincipalId, PrincipalKind};

/// The longest `sub` and `jti`: they are keys of limits and revocation.
const MAX_NAME_BYTES: usize = 1024;
/// The last second of the year 9999: numbers beyond are no dates.
const MAX_DATE: i64 = 253_402_300_799;

/// Reads the decoded claims of a token that `key` verified.
pub(super) fn read(
    json: &[u8],
    issuer: &Issuer,
    key: KeyThumbprint,
    now: SystemTime,
) -> Result<VerifiedToken, TokenError> {
    let claims = Json::parse_object(json).ok_or(TokenError::Malformed("claims"))?;
    if claims.get("iss").and_then(Json::as_str) != Some(issuer.issuer.as_str()) {
        return Err(TokenError::IssuerMismatch);
    }
    check_audience(&claims, issuer)?;
    let (expires, accepted_until) = check_times(&claims, issuer.skew, now)?;
    let subject = name(&claims, "sub")?.ok_or_else(|| invalid("sub"))?;
    let jti = name(&claims, "jti")?.map(str::to_owned);
    let principal = Principal {
        id: PrincipalId::new(PrincipalKind::Jwt, issuer.issuer.as_str(), subject),
        roles: issuer.roles.as_deref().map_or(Ok(Vec::new()), |from| roles(&claims, from))?,
        scopes: issuer.scopes.as_deref().map_or(Ok(Vec::new()), |from| scopes(&claims, from))?,
        claims: mapped(&claims, issuer)?,
    };
    Ok(VerifiedToken {
        principal: Arc::new(principal),
        expires,
        accepted_until,
        key,
        jti,
        certificate_thumbprint: confirmation(&claims)?,
    })
}

fn invalid(claim: &str) -> TokenError {
    TokenError::ClaimInvalid(claim.to_owned())
}

fn check_audience(claims: &Object<'_>, issuer: &Issuer) -> Result<(), TokenError> {
    let ours = |audience: &str| issuer.audiences.iter().any(|accepted| accepted == audience);
    let holds = match claims.get("aud") {
        Some(Json::String(audience)) => ours(audience),
        Some(list) => list.as_strings().ok_or(TokenError::AudienceMismatch)?.into_iter().any(ours),
        None => false,
    };
    if holds { Ok(()) } else { Err(TokenError::AudienceMismatch) }
}

/// `exp`, and `exp` with the skew.
fn check_times(
    claims: &Object<'_>,
    skew: Duration,
    now: SystemTime,
) -> Result<(SystemTime, SystemTime), TokenError> {
    let expires = date(claims, "exp")?.ok_or_else(|| invalid("exp"))?;
    let accepted_until = expires.checked_add(skew).ok_or_else(|| invalid("exp"))?;
    if now >= accepted_until {
        return Err(TokenError::Expired);
    }
    for claim in ["nbf", "iat"] {
        let start = date(claims, claim)?;
        if start.is_some_and(|start| start.duration_since(now).is_ok_and(|ahead| ahead > skew)) {
            return Err(TokenError::NotYetValid);
        }
    }
    Ok((expires, accepted_until))
}

/// A NumericDate (RFC 7519 section 2), fractions allowed.
fn date(claims: &Object<'_>, claim: &str) -> Result<Option<SystemTime>, TokenError> {
    let since_epoch = match claims.get(claim) {
        None => return Ok(None),
        Some(&Json::Integer(seconds @ 0..=MAX_DATE)) => Duration::from_secs(seconds.unsigned_abs()),
        Some(&Json::Number(seconds)) if (0.0..=MAX_DATE as f64).contains(&seconds) => {
            Duration::from_secs_f64(seconds)
        }
        Some(_) => return Err(invalid(claim)),
    };
    UNIX_EPOCH.checked_add(since_epoch).ok_or_else(|| invalid(claim)).map(Some)
}

/// A claim that names something: not empty, bounded, printable.
fn name<'a>(claims: &'a Object<'_>, claim: &str) -> Result<Option<&'a str>, TokenError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Json::String(text))
            if !text.is_empty() && text.len() <= MAX_NAME_BYTES && is_printable(text) =>
        {
            Ok(Some(text))
        }
        Some(_) => Err(invalid(claim)),
    }
}

fn is_printable(text: &str) -> bool {
    !text.contains(char::is_control)
}

fn roles(claims: &Object<'_>, from: &str) -> Result<Vec<String>, TokenError> {
    claims.get(from).map_or(Ok(Vec::new()), |value| strings(value, from))
}

/// Scopes as OAuth writes them, one string with spaces (RFC 6749 section 3.3), or as an array.
fn scopes(claims: &Object<'_>, from: &str) -> Result<Vec<String>, TokenError> {
    match claims.get(from) {
        None => Ok(Vec::new()),
        Some(Json::String(list)) if is_printable(list) => {
            Ok(list.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect())
        }
        Some(value) => strings(value, from),
    }
}

fn strings(value: &Json<'_>, claim: &str) -> Result<Vec<String>, TokenError> {
    let texts = value.as_strings().filter(|texts| texts.iter().all(|text| is_printable(text)));
    Ok(texts.ok_or_else(|| invalid(claim))?.into_iter().map(str::to_owned).collect())
}

fn mapped(claims: &Object<'_>, issuer: &Issuer) -> Result<BTreeMap<String, ClaimValue>, TokenError> {
    let mut mapped = BTreeMap::new();
    for mapping in &issuer.claims {
        let Some(value) = claims.get(mapping.from.as_str()) else { continue };
        let value = match (mapping.kind, value) {
            (ClaimKind::String, Json::String(text)) if is_printable(text) => {
                ClaimValue::String(text.as_ref().to_owned())
            }
            (ClaimKind::Bool, &Json::Bool(value)) => ClaimValue::Bool(value),
            (ClaimKind::Long, &Json::Integer(value)) => ClaimValue::Long(value),
            (ClaimKind::Strings, list) => ClaimValue::Strings(strings(list, &mapping.from)?),
            (ClaimKind::String | ClaimKind::Bool | ClaimKind::Long, _) => return Err(invalid(&mapping.from)),
        };
        mapped.insert(mapping.name.clone(), value);
    }
    Ok(mapped)
}

/// The certificate that the token is bound to. A binding of any other kind is refused: taken as a bearer token, it would
/// prove less than its issuer asks for.
fn confirmation(claims: &Object<'_>) -> Result<Option<[u8; 32]>, TokenError> {
    let members = match claims.get("cnf") {
        None => return Ok(None),
        Some(Json::Object(members)) => members,
        Some(_) => return Err(invalid("cnf")),
    };
    let thumbprint = members.get("x5t#S256").filter(|_| members.len() == 1);
    let thumbprint = thumbprint.ok_or(TokenError::BindingUnsupported)?.as_str().and_then(decode_part);
    thumbprint.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| invalid("cnf")).map(Some)
}
