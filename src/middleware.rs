//! What happens around every request: an id, a log line, metrics.

use std::time::Instant;

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderName, HeaderValue},
    middleware::Next,
    web::Data,
};

use crate::{metrics::RequestLabels, state::AppState};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// Gives the request an id, unless it brings a sane one, and counts, times and logs it.
pub async fn record(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    let state = request.app_data::<Data<AppState>>().cloned();
    let mut response = next.call(request).await?;

    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    let route = response
        .request()
        .match_pattern()
        .unwrap_or_else(|| "unknown".into());
    tracing::info!(request_id = id.to_str().unwrap_or_default(), %method, %route, status, ms = elapsed.as_millis() as u64, "request");
    if let Some(state) = state {
        state
            .metrics
            .http_requests
            .get_or_create(&RequestLabels { route, status })
            .inc();
        state
            .metrics
            .http_request_seconds
            .observe(elapsed.as_secs_f64());
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(PROCESSING_MS, HeaderValue::from(elapsed.as_millis() as u64));
    Ok(response)
}

fn request_id(request: &ServiceRequest) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=128).contains(&bytes.len())
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    request
        .headers()
        .get(REQUEST_ID)
        .filter(sane)
        .cloned()
        .unwrap_or_else(|| {
            let id = format!("req_{}", uuid::Uuid::new_v4().simple());
            HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("req"))
        })
}
