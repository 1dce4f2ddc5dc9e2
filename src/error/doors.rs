//! How the doors refuse: credentials, limits, tokens that are not minted.

use std::time::Duration;

use actix_web::http::StatusCode;

use super::{RETRY_LOADING, RETRY_SOON, Retry, Row, forbidden, invalid, server, unavailable};
use crate::{
    auth::{AuthError, jwt::MintError},
    limits::{Exceeded, What},
};

/// Unknown, revoked and expired look alike.
pub(super) fn shown_auth(error: &AuthError) -> Row {
    match error {
        AuthError::Missing | AuthError::Invalid(_) => (
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            "invalid_api_key",
            Retry::Unsaid,
        ),
        AuthError::NotFromHere(_) => forbidden("not_from_here"),
        AuthError::NotAllowed(_) => forbidden("insufficient_scope"),
        AuthError::KeysUnavailable => unavailable("issuer_unavailable", RETRY_LOADING),
    }
}

pub(super) fn shown_mint(error: &MintError) -> Row {
    match error {
        MintError::NotAllowed => forbidden("missing_role"),
        MintError::Exceeds(_) => forbidden("exceeds_rights"),
        MintError::Invalid(_) | MintError::TooLong => {
            invalid(StatusCode::BAD_REQUEST, "invalid_token_request")
        }
        MintError::Expired => shown_auth(&AuthError::Invalid("expired")),
        MintError::Failed => server(
            StatusCode::INTERNAL_SERVER_ERROR,
            "token_failed",
            Retry::Unsaid,
        ),
    }
}

pub(super) fn auth_message(error: &AuthError) -> &'static str {
    match error {
        AuthError::Missing => {
            "You did not provide an API key. Send it in the Authorization header: 'Authorization: Bearer YOUR_KEY'."
        }
        AuthError::Invalid(_) => "Incorrect API key or token provided.",
        AuthError::NotFromHere(_) => "This credential may not be used from here.",
        AuthError::NotAllowed(_) => "This credential does not allow this request.",
        AuthError::KeysUnavailable => "The token cannot be checked right now; please try again.",
    }
}

/// The longest that a client is left to wait for by itself: the SDKs take no longer Retry-After
/// than a minute.
const WAITS_BY_ITSELF: Duration = Duration::from_secs(60);

pub(super) fn shown_limit(exceeded: &Exceeded) -> Row {
    let retry = match exceeded.retry_after {
        Some(after) if after <= WAITS_BY_ITSELF => Retry::After(after),
        after => Retry::Never(after),
    };
    let limited = |kind, code| (StatusCode::TOO_MANY_REQUESTS, kind, code, retry);
    match exceeded.what {
        What::Requests | What::Concurrency => limited("requests", "rate_limit_exceeded"),
        What::Tokens | What::Pixels => limited("tokens", "rate_limit_exceeded"),
        What::TokensDay | What::TokensMonth | What::TokensTotal => {
            limited("insufficient_quota", "insufficient_quota")
        }
        What::Unavailable => unavailable("limits_unavailable", RETRY_SOON),
    }
}

pub(super) fn limit_message(exceeded: &Exceeded) -> String {
    let unit = match exceeded.what {
        What::Requests => "requests per minute",
        What::Tokens => "tokens per minute",
        What::Pixels => "image pixels per minute",
        What::Concurrency => "concurrent requests",
        What::TokensDay => "tokens per day",
        What::TokensMonth => "tokens per month",
        What::TokensTotal => "tokens in all",
        What::Unavailable => {
            return "Your limits cannot be checked right now; please try again.".into();
        }
    };
    let model = exceeded.model.as_ref();
    let on_model = model.map_or(String::new(), |model| format!(" on {model}"));
    let advice = match exceeded.retry_after {
        Some(after) => format!("Please try again in {}s.", after.as_secs_f64().ceil()),
        None => "Waiting does not help: ask for less, or for a larger limit.".into(),
    };
    let limit = exceeded.limit;
    format!("Limit reached: {limit} {unit}{on_model}. {advice}")
}
