//! `GET /openapi.json`.

use std::sync::LazyLock;

use actix_web::{HttpResponse, http::header::CONTENT_TYPE, web::Bytes};

use crate::openai::openapi;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::document().to_string().into());

/// What this server offers, as an OpenAPI document.
pub async fn document() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(DOCUMENT.clone())
}
