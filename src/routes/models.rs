//! `GET /v1/models` and `GET /v1/models/{model}`.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};

use crate::{
    error::ApiError,
    openai::response::{Model, ModelList},
    state::AppState,
};

/// All names that clients may use.
pub async fn list(state: Data<AppState>) -> HttpResponse {
    let data = state
        .config
        .model_names()
        .map(|name| model(&state, name))
        .collect();
    HttpResponse::Ok().json(ModelList {
        object: "list",
        data,
    })
}

/// One of them.
///
/// # Errors
/// 404.
pub async fn retrieve(state: Data<AppState>, name: Path<String>) -> Result<HttpResponse, ApiError> {
    state.check_model(&name)?;
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
