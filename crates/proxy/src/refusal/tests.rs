use telemetry::TraceIds;

use super::*;

#[test]
fn a_refused_call_has_the_status_that_grpc_gives_it() {
    let upstream = || "orders".to_owned();
    for (refusal, status) in [
        (Refusal::SchemeUnknown, 13),
        (Refusal::TokenMissing, 16),
        (Refusal::Denied(DenialReason::NoPermit), 7),
        (Refusal::NoRoute, 12),
        (Refusal::UpstreamConnect(upstream()), 14),
        (Refusal::ConcurrencyReached, 14),
        (Refusal::UpstreamTimeout(upstream()), 4),
        (Refusal::BodyTooLarge(1), 2),
    ] {
        assert_eq!(refusal.grpc_status(), status, "{refusal}");
    }
}

#[test]
fn every_401_says_how_to_authenticate_and_no_fault_of_ours_does() {
    let challenges = |refusal: Refusal| {
        let response = refusal.response(&TraceIds::new().trace());
        (response.status(), response.headers().contains_key(WWW_AUTHENTICATE))
    };
    for refusal in [
        Refusal::CertificateRequired { trusts: "mesh".to_owned() },
        Refusal::CertificateWithdrawn,
        Refusal::Token(TokenError::Expired),
        Refusal::TokenBinding,
        Refusal::TokenMissing,
        Refusal::TokenRevoked,
    ] {
        assert_eq!(challenges(refusal), (StatusCode::UNAUTHORIZED, true));
    }
    for reason in [DenialReason::PolicyError, DenialReason::Stale] {
        assert_eq!(challenges(Refusal::Denied(reason)), (StatusCode::FORBIDDEN, false));
    }
    let unavailable = Refusal::KeysUnavailable { issuer: "staff".to_owned() };
    assert_eq!(challenges(unavailable), (StatusCode::SERVICE_UNAVAILABLE, false));
}
