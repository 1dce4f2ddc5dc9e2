//! `POST /v1/chat/completions`.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    web::{Data, Payload},
};

use super::{
    body::{self, Body},
    generation::{self, Answering, Asked, Visit, collect, first_event},
};
use crate::{
    engine::{EngineError, FinishReason, Inquiry, SamplingParams},
    error::ApiError,
    openai::{
        request::ChatCompletionRequest,
        response::{AssistantMessage, ChatCompletion, Choice, Usage},
    },
    sse::{self, ChunkWriter},
    state::{self, AppState},
};

/// Bodies from this size on are parsed away from the async threads.
const LARGE_BODY: usize = 256 << 10;

/// Answers a conversation, at once or as a stream.
///
/// # Errors
/// Everything in [`ApiError`].
pub async fn create(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    // Refused with the body unread.
    let visit = Visit::of(&request)?;
    state.any_ready()?;
    let permit = state.admit(&visit.session.caller)?;
    let Body { bytes, hold } = body::read(&request, payload, &state, &visit.session.caller).await?;
    let size = bytes.len();
    visit.record.note(|fields| fields.bytes_in = size as u64);
    let chat = if size < LARGE_BODY {
        ChatCompletionRequest::parse(&bytes)?
    } else {
        let parsed =
            tokio::task::spawn_blocking(move || ChatCompletionRequest::parse(&bytes)).await;
        parsed.map_err(|e| EngineError::Failed(e.to_string()))??
    };
    let model = state.model(&chat.model, &visit.session.caller)?;
    visit.record.note(|fields| {
        fields.model = Some(model.config.name.clone());
        fields.stream = Some(chat.stream);
    });

    let (turns, images) = generation::turns(chat.messages);
    let asked = Asked {
        inquiry: Inquiry::chat(turns),
        images,
        answers: 1,
        sampling: SamplingParams {
            temperature: chat.temperature,
            top_p: chat.top_p,
            max_tokens: chat.max_tokens,
            stop: chat.stop,
            ..SamplingParams::default()
        },
        tier: chat.service_tier,
        bytes: size,
        hold,
        permit,
    };
    let engine = model.engine()?;
    let ready = generation::prepare(&state, &visit, model, asked).await?;
    let asked = generation::answer(state.clone(), &visit, model, ready);
    let Answering { events, tier } = asked.await?;

    let mut response = HttpResponse::Ok();
    if !chat.ignored.is_empty() {
        response.insert_header(("x-porthole-ignored", chat.ignored.join(", ")));
    }
    let id = format!("chatcmpl-{}", uuid::Uuid::new_v4().simple());
    let created = state::now();
    let fingerprint = &engine.info().fingerprint;
    if chat.stream {
        let events = first_event(events).await?;
        let writer = ChunkWriter::new(sse::Head {
            id: &id,
            created,
            model: &chat.model,
            fingerprint,
            tier,
            include_usage: chat.include_usage,
            answers: 1,
        });
        let keep_alive = Duration::from_secs(state.config.server.keep_alive_interval);
        return Ok(response
            .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
            .insert_header((CACHE_CONTROL, "no-cache"))
            .insert_header(("x-accel-buffering", "no"))
            .streaming(sse::body(events, writer, keep_alive, visit.record)));
    }
    let (answers, usage) = collect(events, 1).await?;
    let answer = answers.into_iter().next().unwrap_or_default();
    Ok(response.json(ChatCompletion {
        id: &id,
        object: "chat.completion",
        created,
        model: &chat.model,
        system_fingerprint: fingerprint,
        service_tier: tier,
        choices: [Choice {
            index: 0,
            message: AssistantMessage {
                role: "assistant",
                content: &answer.text,
                refusal: None,
                annotations: [],
            },
            logprobs: None,
            finish_reason: answer.reason.map_or("stop", FinishReason::word),
        }],
        usage: Usage::new(usage.prompt, usage.image, usage.completion),
    }))
}
