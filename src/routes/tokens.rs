//! `POST /v1/tokens`: short-lived tokens for frontends, which must never hold a key.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};

use super::{body, generation::Visit};
use crate::{
    auth::jwt::TokenWish,
    caller::Rights,
    error::ApiError,
    openai::{InvalidRequest, response::TokenResponse},
    state::AppState,
};

/// Mints a token with at most the rights of the key that asks.
///
/// # Errors
/// 403 for a caller that may not, or that wishes for more than it has; 400 for a bad body.
pub async fn create(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let visit = Visit::of(&request)?;
    let body = body::read(&request, payload, &state, &visit.session.caller).await?;
    let bytes = body.bytes;
    visit
        .record
        .note(|fields| fields.bytes_in = bytes.len() as u64);
    let wish = parse(&bytes).map_err(|e| InvalidRequest {
        message: format!("The body does not describe a token: {e}."),
        param: None,
        code: "invalid_token_request",
    })?;
    let minted = state.auth.mint(&visit.session, &wish)?;
    Ok(HttpResponse::Ok().json(TokenResponse::<Rights> {
        object: "token",
        token: &minted.token,
        token_type: "Bearer",
        expires_at: minted.expires_at,
        rights: &minted.rights,
    }))
}

/// An empty body wishes for nothing special.
fn parse(body: &[u8]) -> serde_json::Result<TokenWish> {
    if body.is_empty() {
        return Ok(TokenWish::default());
    }
    // serde would take an array for a struct, field by field.
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)?;
    serde_json::from_value(object.into())
}
