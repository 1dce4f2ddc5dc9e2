//! `GET /v1/models` and `GET /v1/models/{model}`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};

use super::generation::Visit;
use crate::{
    error::ApiError,
    openai::response::{Model, ModelList},
    state::AppState,
};

/// All names that the caller may use.
///
/// # Errors
/// 401 outside the doors.
pub async fn list(request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let caller = Visit::of(&request)?.session.caller;
    let names = state.config.model_names();
    let data = names
        .filter(|name| state.model(name, &caller).is_ok())
        .map(|name| model(&state, name))
        .collect();
    Ok(HttpResponse::Ok().json(ModelList {
        object: "list",
        data,
    }))
}

/// One of them.
///
/// # Errors
/// 404.
pub async fn retrieve(
    request: HttpRequest,
    state: Data<AppState>,
    name: Path<String>,
) -> Result<HttpResponse, ApiError> {
    state.model(&name, &Visit::of(&request)?.session.caller)?;
    Ok(HttpResponse::Ok().json(model(&state, &name)))
}

fn model<'a>(state: &AppState, id: &'a str) -> Model<'a> {
    Model {
        id,
        object: "model",
        created: state.started,
        owned_by: "porthole",
    }
}
