//! `/health` (the process lives), `/ready` (chat requests are answered) and `/metrics`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, block},
};

use crate::{engine::EngineError, error::ApiError, state::AppState};

/// 200 as long as the process is of use; 503 when a model is lost for good, so that the process is
/// to be replaced.
///
/// # Errors
/// 503; the reason is in the log.
pub async fn health(state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    state.lost().map_err(|_| ApiError::Lost)?;
    Ok(HttpResponse::Ok()
        .json(serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") })))
}

/// 200 once a probe generation has succeeded, and while the engine lives.
///
/// # Errors
/// 503 with the reason.
pub async fn ready(state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let ready = state.ready();
    state.metrics.ready.set(i64::from(ready.is_ok()));
    ready?;
    Ok(HttpResponse::Ok().json(serde_json::json!({
        "status": "ready",
        "model": state.config.model.name,
        "sequences_at_once": state.models.first().map_or(0, |model| model.metrics.engine_lane_width.get()),
    })))
}

/// All metrics.
///
/// # Errors
/// They could not be written down, which does not happen.
pub async fn metrics(state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    state.refresh_metrics();
    let metrics = state.metrics.clone();
    // The system and the GPUs are asked.
    let text = block(move || metrics.encode()).await;
    let text = text.map_err(|e| EngineError::Failed(e.to_string()))?;
    Ok(HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(text))
}

/// 404 in the one error shape.
///
/// # Errors
/// Always.
pub async fn not_found(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(ApiError::RouteNotFound(
        request.path().chars().take(128).collect(),
    ))
}

/// 405 in the one error shape.
///
/// # Errors
/// Always.
pub async fn method_not_allowed(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(ApiError::MethodNotAllowed(request.method().to_string()))
}
