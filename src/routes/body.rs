//! Reading a JSON body within its limits.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header::{CONTENT_LENGTH, CONTENT_TYPE},
    web::{Bytes, BytesMut, Payload},
};
use futures::StreamExt;

use crate::{config::ServerConfig, error::ApiError};

/// Reads the whole body.
///
/// # Errors
/// 415 for another type than JSON, 413 when it is too large, 408 when it is too slow.
pub async fn read(
    request: &HttpRequest,
    payload: Payload,
    limits: &ServerConfig,
) -> Result<Bytes, ApiError> {
    let is_json = request.headers().get(CONTENT_TYPE).is_none_or(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.to_ascii_lowercase().contains("json"))
    });
    if !is_json {
        return Err(ApiError::ContentType);
    }
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    if announced > limits.max_body_bytes {
        return Err(ApiError::BodyTooLarge(limits.max_body_bytes));
    }
    let timeout = Duration::from_secs(limits.body_timeout);
    tokio::time::timeout(timeout, collect(payload, announced, limits.max_body_bytes))
        .await
        .unwrap_or(Err(ApiError::BodyTimeout(limits.body_timeout)))
}

async fn collect(mut payload: Payload, announced: usize, max: usize) -> Result<Bytes, ApiError> {
    // Room for what is announced, but not at the word of a client that then sends nothing.
    let mut body = BytesMut::with_capacity(announced.min(1 << 20));
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ApiError::BodyBroken)?;
        if body.len() + chunk.len() > max {
            return Err(ApiError::BodyTooLarge(max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
