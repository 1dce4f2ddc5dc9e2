//! `POST /v1/chat/completions`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    web::{Data, Payload},
};
use futures::{StreamExt, stream};

use super::body;
use crate::{
    engine::{
        Engine, EngineError, Event, EventStream, FinishReason, GenerateRequest, Part,
        SamplingParams, TokenUsage, Turn,
    },
    error::ApiError,
    openai::{
        message,
        request::ChatCompletionRequest,
        response::{AssistantMessage, ChatCompletion, Choice, Usage},
    },
    sse::{self, ChunkWriter},
    state::AppState,
};

/// Bodies from this size on are parsed away from the async threads.
const LARGE_BODY: usize = 256 << 10;
/// How long the head of a streaming response waits for the first event, so that an early failure is
/// a real status code.
const FIRST_EVENT: Duration = Duration::from_secs(1);

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
    let engine = state.engine()?;
    let permit = state.admit()?;
    let bytes = body::read(&request, payload, &state.config.server).await?;
    let chat = if bytes.len() < LARGE_BODY {
        ChatCompletionRequest::parse(&bytes)?
    } else {
        let parsed =
            tokio::task::spawn_blocking(move || ChatCompletionRequest::parse(&bytes)).await;
        parsed.map_err(|e| EngineError::Failed(e.to_string()))??
    };
    state.check_model(&chat.model)?;

    let turns = load_images(&state, engine.as_ref(), chat.messages).await?;
    let sampling = SamplingParams {
        temperature: chat.temperature,
        top_p: chat.top_p,
        max_tokens: chat.max_tokens,
        stop: chat.stop,
    };
    let events = engine.generate(GenerateRequest { turns, sampling }).await?;

    let mut response = HttpResponse::Ok();
    if !chat.ignored.is_empty() {
        response.insert_header(("x-porthole-ignored", chat.ignored.join(", ")));
    }
    let id = format!("chatcmpl-{}", uuid::Uuid::new_v4().simple());
    let created = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let fingerprint = &engine.info().fingerprint;
    if chat.stream {
        let events = first_event(events).await?;
        let writer = ChunkWriter::new(&id, created, &chat.model, fingerprint, chat.include_usage);
        let keep_alive = Duration::from_secs(state.config.server.keep_alive_interval);
        return Ok(response
            .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
            .insert_header((CACHE_CONTROL, "no-cache"))
            .insert_header(("x-accel-buffering", "no"))
            .streaming(sse::body(events, writer, keep_alive, permit)));
    }
    let (text, reason, usage) = collect(events).await?;
    Ok(response.json(ChatCompletion {
        id: &id,
        object: "chat.completion",
        created,
        model: &chat.model,
        system_fingerprint: fingerprint,
        service_tier: "default",
        choices: [Choice {
            index: 0,
            message: AssistantMessage {
                role: "assistant",
                content: &text,
                refusal: None,
                annotations: [],
            },
            logprobs: None,
            finish_reason: match reason {
                FinishReason::Stop => "stop",
                FinishReason::Length => "length",
            },
        }],
        usage: Usage::new(usage.prompt, usage.image, usage.completion),
    }))
}

/// Turns with their images loaded. What the headers say is judged before anything is decoded.
async fn load_images(
    state: &AppState,
    engine: &dyn Engine,
    messages: Vec<message::Message>,
) -> Result<Vec<Turn>, ApiError> {
    let mut urls = Vec::new();
    for part in messages.iter().flat_map(|message| &message.parts) {
        if let message::Part::Image(image) = part {
            urls.push(image.clone());
        }
    }
    let info = engine.info();
    let encoded = state.media.fetch(urls, info.geometry).await?;
    let tokens: usize = encoded
        .iter()
        .map(|image| info.geometry.tokens(image.target))
        .sum();
    if tokens >= info.context_length {
        let context = info.context_length;
        return Err(EngineError::ContextLengthExceeded {
            prompt: tokens,
            context,
            at_least: true,
        }
        .into());
    }
    let mut images = state.media.decode(encoded).await?.into_iter();
    let turns = messages.into_iter().map(|message| Turn {
        role: message.role,
        parts: message
            .parts
            .into_iter()
            .filter_map(|part| match part {
                message::Part::Text(text) => Some(Part::Text(text)),
                // One was loaded for each, in order.
                message::Part::Image(_) => images.next().map(|image| Part::Image(Arc::new(image))),
            })
            .collect(),
    });
    Ok(turns.collect())
}

/// Waits a moment for the first event, so that an early error is an error response.
async fn first_event(mut events: EventStream) -> Result<EventStream, ApiError> {
    match tokio::time::timeout(FIRST_EVENT, events.next()).await {
        Ok(Some(first)) => {
            let first = first?;
            Ok(Box::pin(stream::once(async { Ok(first) }).chain(events)))
        }
        Ok(None) => Err(EngineError::Failed("no events came".into()).into()),
        Err(_) => Ok(events),
    }
}

async fn collect(mut events: EventStream) -> Result<(String, FinishReason, TokenUsage), ApiError> {
    let mut text = String::new();
    while let Some(event) = events.next().await {
        match event? {
            Event::Delta(more) => text.push_str(&more),
            Event::Finished { reason, usage } => return Ok((text, reason, usage)),
        }
    }
    Err(EngineError::Failed("the events broke off".into()).into())
}
