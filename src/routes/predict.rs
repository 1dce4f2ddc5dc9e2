//! `POST /v1/models/{model}:predict`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, Payload},
};

use super::{
    generation::{self, Asked, collect},
    intake::{self, Intake},
};
use crate::{
    engine::{Inquiry, Role, Turn},
    error::ApiError,
    openai::{
        predict::{Output, PredictRequest, Prediction},
        request::ServiceTier,
    },
    state::AppState,
    wire,
};

/// What chat completions call otherwise.
const NAMES: &[(&str, &str)] = &[
    ("messages", "inputs"),
    ("logit_bias", "parameters.logit_bias"),
];

/// Answers images and texts as one turn of a user.
///
/// # Errors
/// Everything in [`ApiError`].
pub async fn create(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
    name: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let intake = intake::receive(&request, payload, &state, PredictRequest::parse).await?;
    let Intake {
        visit,
        parsed,
        bytes,
        hold,
        permit,
    } = intake;
    let model = intake::model(&state, &visit, &name, false)?;
    let mut images = Vec::new();
    let parts = generation::parts(parsed.parts, &mut images);
    let asked = Asked {
        inquiry: Inquiry::chat(vec![Turn::new(Role::User, parts)]),
        images,
        answers: 1,
        sampling: wire::sampling(parsed.sampling),
        tier: ServiceTier::Default,
        bytes,
        hold,
        permit,
    };
    let ready = generation::prepare(&state, &visit, model, asked).await;
    let ready = ready.map_err(|error| intake::renamed(error, NAMES))?;
    let answering = generation::answer(state.clone(), &visit, model, ready).await?;
    let (answers, _) = collect(answering.events, 1).await?;
    let answer = answers.into_iter().next().unwrap_or_default();
    Ok(HttpResponse::Ok().json(Prediction {
        outputs: [Output { text: &answer.text }],
    }))
}
