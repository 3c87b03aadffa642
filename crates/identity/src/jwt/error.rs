//! Why a token is refused.

/// Why a token is refused. No variant holds bytes of the token, except a `kid` that is bounded and printable.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// Longer than the issuer's `max_token_bytes`.
    #[error("token is too long")]
    TooLong,
    /// Not three parts of strict base64url with JSON objects in the first two.
    #[error("token is malformed: {0}")]
    Malformed(&'static str),
    /// The header asks for something that is never done, such as `jku`, `crit` or `zip`.
    #[error("token header `{0}` is refused")]
    HeaderRefused(&'static str),
    /// `typ` is not one of the accepted.
    #[error("token type is refused")]
    TypeRefused,
    /// `alg` is unknown, or not allowed for this issuer or key.
    #[error("token algorithm is refused")]
    AlgorithmRefused,
    /// No key of this `kid` (`None`: the token names no key and there is not exactly one). A refetch may help.
    #[error("token key is unknown")]
    KeyUnknown {
        /// The `kid`, at most 256 bytes, without control characters.
        kid: Option<String>,
    },
    /// The signature does not hold.
    #[error("token signature is invalid")]
    SignatureInvalid,
    /// `iss` is absent or not exactly the issuer's.
    #[error("token is of another issuer")]
    IssuerMismatch,
    /// `aud` is absent or holds none of ours.
    #[error("token is for another audience")]
    AudienceMismatch,
    /// `exp` and the allowed skew have passed.
    #[error("token has expired")]
    Expired,
    /// `nbf` or `iat` lies further ahead than the allowed skew.
    #[error("token is not valid yet")]
    NotYetValid,
    /// A claim is absent where it is required, or has the wrong type or value.
    #[error("token claim `{0}` is invalid")]
    ClaimInvalid(String),
    /// The token is bound to a key by a method that is not supported (`cnf`, RFC 7800), so it proves nothing here.
    #[error("token is bound to a key in an unsupported way")]
    BindingUnsupported,
}

impl TokenError {
    /// The stable code for clients and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "TOKEN_TOO_LONG",
            Self::Malformed(_) => "TOKEN_MALFORMED",
            Self::HeaderRefused(_) => "TOKEN_HEADER_REFUSED",
            Self::TypeRefused => "TOKEN_TYPE_REFUSED",
            Self::AlgorithmRefused => "TOKEN_ALGORITHM_REFUSED",
            Self::KeyUnknown { .. } => "TOKEN_KEY_UNKNOWN",
            Self::SignatureInvalid => "TOKEN_SIGNATURE_INVALID",
            Self::IssuerMismatch => "TOKEN_ISSUER_MISMATCH",
            Self::AudienceMismatch => "TOKEN_AUDIENCE_MISMATCH",
            Self::Expired => "TOKEN_EXPIRED",
            Self::NotYetValid => "TOKEN_NOT_YET_VALID",
            Self::ClaimInvalid(_) => "TOKEN_CLAIM_INVALID",
            Self::BindingUnsupported => "TOKEN_BINDING_UNSUPPORTED",
        }
    }
}
