//! Reading a JSON body within its limits.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header::{CONTENT_LENGTH, CONTENT_TYPE},
    web::{Bytes, BytesMut, Payload},
};
use futures::StreamExt;

use crate::{admission::Permit, caller::Caller, error::ApiError, state::AppState};

/// A body, and the memory it takes.
pub struct Body {
    /// Its bytes.
    pub bytes: Bytes,
    /// To be kept until nothing of it is left.
    pub hold: Permit,
}

/// Reads the whole body.
///
/// # Errors
/// 415 for another type than JSON, 413 when it is too large, 408 when it is too slow, 503 when
/// there is no memory for it.
pub async fn read(
    request: &HttpRequest,
    payload: Payload,
    state: &AppState,
    caller: &Caller,
) -> Result<Body, ApiError> {
    // All of them, where there are several: a proxy in front may go by another than we.
    let mut types = request.headers().get_all(CONTENT_TYPE);
    let is_json = types.all(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.to_ascii_lowercase().contains("json"))
    });
    if !is_json {
        return Err(ApiError::ContentType);
    }
    let limits = &state.config.server;
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    if announced > limits.max_body_bytes {
        return Err(ApiError::BodyTooLarge(limits.max_body_bytes));
    }
    let hold = state.hold(caller, announced)?;
    let timeout = Duration::from_secs(limits.body_timeout);
    let max = limits.max_body_bytes;
    tokio::time::timeout(timeout, collect(payload, hold, announced, max))
        .await
        .unwrap_or(Err(ApiError::BodyTimeout(limits.body_timeout)))
}

async fn collect(
    mut payload: Payload,
    mut hold: Permit,
    announced: usize,
    max: usize,
) -> Result<Body, ApiError> {
    // Room for what is announced, but not at the word of a client that then sends nothing.
    let mut bytes = BytesMut::with_capacity(announced.min(1 << 20));
    let mut held = announced;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ApiError::BodyBroken)?;
        let size = bytes.len() + chunk.len();
        if size > max {
            return Err(ApiError::BodyTooLarge(max));
        }
        if size > held {
            // Nothing was announced.
            let more = (size - held).max(64 << 10);
            if !hold.grow(more) {
                return Err(ApiError::Overloaded);
            }
            held += more;
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body {
        bytes: bytes.freeze(),
        hold,
    })
}
