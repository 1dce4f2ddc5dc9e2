//! Why a token is refused, or not minted.

/// Why a token is refused. Clients are told none of it but the last two; metrics and logs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It has more than [`MAX_TOKEN_BYTES`](super::MAX_TOKEN_BYTES).
    #[error("the token is too long")]
    TooLong,
    /// It is not a compact JWS of two JSON objects and a signature, strictly encoded.
    #[error("the token is malformed")]
    Malformed,
    /// It is a JWE.
    #[error("the token is encrypted")]
    Encrypted,
    /// `crit` names extensions (RFC 7515 4.1.11), or `b64` asks for one (RFC 7797); none is known.
    #[error("the token has critical extensions")]
    Critical,
    /// It is compressed (RFC 8725 3.6).
    #[error("the token is compressed")]
    Compressed,
    /// It holds another token.
    #[error("the token is nested")]
    Nested,
    /// `typ` names something else than a JWT (RFC 8725 3.11).
    #[error("the token is of another type")]
    Type,
    /// `alg` is missing, unknown or not the key's.
    #[error("the token's algorithm is not that of the key")]
    Algorithm,
    /// The issuer has no key of this `kid`.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// More than one key fits.
    #[error("the token does not say which key signed it")]
    AmbiguousKey,
    /// The signature is not that of the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// No such issuer is configured.
    #[error("the token's issuer is unknown")]
    Issuer,
    /// It is meant for others.
    #[error("the token is for another audience")]
    Audience,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iat` has not come.
    #[error("the token was issued in the future")]
    IssuedInFuture,
    /// A claim that every token must have is missing.
    #[error("the token has no {0}")]
    MissingClaim(&'static str),
    /// A claim is not of its type, or out of its range.
    #[error("the token's {0} is not valid")]
    ClaimType(&'static str),
    /// The scope that the issuer's tokens must have is missing. The token is good otherwise: this
    /// is 403, not 401.
    #[error("the token's scope does not allow this")]
    Scope,
    /// The issuer's keys could not be fetched yet: no fault of the token, so this is 503.
    #[error("the keys of the token's issuer are not available")]
    KeysUnavailable,
}

impl JwtError {
    /// A word for a metric label and the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "token_too_long",
            Self::Malformed => "token_malformed",
            Self::Encrypted => "token_encrypted",
            Self::Critical => "token_critical_extension",
            Self::Compressed => "token_compressed",
            Self::Nested => "token_nested",
            Self::Type => "token_type",
            Self::Algorithm => "token_algorithm",
            Self::UnknownKey => "token_unknown_key",
            Self::AmbiguousKey => "token_ambiguous_key",
            Self::Signature => "token_signature",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::IssuedInFuture => "token_issued_in_future",
            Self::MissingClaim(_) => "token_missing_claim",
            Self::ClaimType(_) => "token_claim_type",
            Self::Scope => "token_scope",
            Self::KeysUnavailable => "issuer_keys_unavailable",
        }
    }
}

/// Why a token is not minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The caller may not mint.
    #[error("the credential may not mint tokens")]
    NotAllowed,
    /// The wish asks for more than the caller has; the field is named.
    #[error("'{0}' asks for more than the credential may give")]
    Exceeds(&'static str),
    /// A field of the wish is not valid.
    #[error("'{0}' is not valid")]
    Invalid(&'static str),
    /// The credential that mints has expired.
    #[error("the credential has expired")]
    Expired,
    /// The rights do not fit into a token.
    #[error("the rights do not fit into a token")]
    TooLong,
    /// The token could not be signed.
    #[error("the token could not be signed")]
    Failed,
}
