//! Which websites' scripts may talk to the API.

use actix_cors::{Cors, CorsError};
use actix_web::{
    ResponseError, body::BoxBody, dev::ServiceResponse, http::header, middleware::Condition,
};

use crate::{config::ServerConfig, error::ApiError, openai::InvalidRequest};

/// Response headers that scripts may read beside the safe-listed ones.
const EXPOSED: [&str; 15] = [
    "x-request-id",
    "openai-processing-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-porthole-ignored",
    "server-timing",
    "www-authenticate",
    "allow",
];

/// CORS for the configured origins; without any, nothing is added to any answer.
///
/// Any request header is allowed. SDKs send an open set (`x-stainless-*` grows with each release),
/// and nothing is guarded by keeping one out: the only credential is a bearer token that the script
/// must hold itself, so there is no ambient authority to lend. For the same reason cookies are not
/// allowed, and a request from another origin is served, unreadable to its script; its preflight,
/// which most requests need, is refused.
pub fn cors(config: &ServerConfig) -> Condition<Cors> {
    let origins = &config.cors_origins;
    let mut cors = Cors::default()
        .allowed_methods(["GET", "POST", "OPTIONS"])
        .allow_any_header()
        .expose_headers(EXPOSED)
        .max_age(3600);
    if origins.iter().any(|origin| origin == "*") {
        cors = cors.allow_any_origin().send_wildcard();
    } else {
        for origin in origins {
            cors = cors.allowed_origin(origin);
        }
    }
    Condition::new(!origins.is_empty(), cors)
}

/// A configured origin that no browser would ever send, if there is one.
pub fn bad_origin(config: &ServerConfig) -> Option<&str> {
    let is_origin = |text: &str| {
        // What browsers send has no path, no default port and no upper case. Extensions and
        // app shells have schemes of their own, whose `Url::origin` would be opaque.
        url::Url::parse(text).is_ok_and(|url| {
            let port = url
                .port()
                .map_or_else(String::new, |port| format!(":{port}"));
            let host = url.host_str().unwrap_or_default();
            !host.is_empty()
                && !host.contains('*')
                && text == format!("{}://{host}{port}", url.scheme())
        })
    };
    let mut origins = config.cors_origins.iter().map(String::as_str);
    origins.find(|origin| *origin != "*" && !is_origin(origin))
}

/// A refused preflight in the one error shape; and no CORS headers for an origin that is not
/// allowed.
pub(super) fn explain(mut response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let error = response.response().error();
    if let Some(error) = error.and_then(|error| error.as_error::<CorsError>()) {
        let refused = ApiError::Invalid(InvalidRequest {
            message: format!("{error}."),
            param: None,
            code: "cors_refused",
        });
        response = response.into_response(refused.error_response());
    }
    let headers = response.headers_mut();
    if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
    }
    response
}
