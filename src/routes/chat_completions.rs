//! `POST /v1/chat/completions`.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    web::{Bytes, Data, Payload},
};

use super::{
    body::{self, Body},
    dry_run::{self, Pieces},
    generation::{self, Answering, Asked, Collected, Visit, collect, first_event},
    wire,
};
use crate::{
    engine::{EngineError, FinishReason, Input, Inquiry, TokenUsage},
    error::ApiError,
    openai::{
        message::ImageUrl,
        request::ChatCompletionRequest,
        response::{AssistantMessage, ChatCompletion, Choice, FunctionCall, ToolCall},
    },
    sse::{self, ChunkWriter, Head},
    state::{self, AppState},
};

/// Bodies from this size on are parsed away from the async threads.
const LARGE_BODY: usize = 256 << 10;

/// Answers a conversation, at once or as a stream; or, with `x-porthole-dry-run`, tells what that
/// would come to.
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
    let wish = dry_run::wish(&request)?;
    let permit = state.admit(&visit.session.caller)?;
    let Body { bytes, hold } = body::read(&request, payload, &state, &visit.session.caller).await?;
    let size = bytes.len();
    visit.record.note(|fields| fields.bytes_in = size as u64);
    let mut chat = parse(bytes).await?;
    let model = state.model(&chat.model, &visit.session.caller)?;
    visit.record.note(|fields| {
        fields.model = Some(model.config.name.clone());
        fields.stream = Some(chat.stream);
    });
    let engine = model.engine()?;
    let dry_run = wish.map(|wish| (wish, Pieces::of(&chat.messages)));
    let (inquiry, images) = inquiry(&mut chat);
    let asked = Asked {
        inquiry,
        images,
        answers: chat.answers,
        sampling: wire::sampling(std::mem::take(&mut chat.sampling)),
        tier: chat.service_tier,
        bytes: size,
        hold,
        permit,
    };
    let ready = generation::prepare(&state, &visit, model, asked).await?;
    let mut response = HttpResponse::Ok();
    if let Some(ignored) = chat.ignored.header() {
        response.insert_header(("x-porthole-ignored", ignored));
    }
    if let Some((wish, pieces)) = dry_run {
        let report = dry_run::report(&visit, engine.info(), &chat.model, ready, pieces, wish);
        return Ok(response.json(report.await?));
    }
    let answering = generation::answer(state.clone(), &visit, model, ready).await?;
    let fingerprint = &engine.info().fingerprint;
    answer(response, &state, visit, &chat, answering, fingerprint).await
}

/// What a request asks, taken out of it, and where its images are.
fn inquiry(chat: &mut ChatCompletionRequest) -> (Inquiry, Vec<ImageUrl>) {
    let (turns, images) = generation::turns(std::mem::take(&mut chat.messages));
    let inquiry = Inquiry {
        input: Input::Chat(turns),
        format: wire::format(std::mem::take(&mut chat.format)),
        tools: wire::toolbox(std::mem::take(&mut chat.tools)),
        effort: chat.effort.map(wire::effort),
    };
    (inquiry, images)
}

/// Answers that have been admitted, in the form that was asked for.
async fn answer(
    mut response: HttpResponseBuilder,
    state: &AppState,
    visit: Visit,
    chat: &ChatCompletionRequest,
    answering: Answering,
    fingerprint: &str,
) -> Result<HttpResponse, ApiError> {
    let Answering { events, tier } = answering;
    let id = format!("chatcmpl-{}", uuid::Uuid::new_v4().simple());
    let head = Head {
        id: &id,
        created: state::now(),
        model: &chat.model,
        fingerprint,
        tier,
        include_usage: chat.include_usage,
        answers: chat.answers,
    };
    if !chat.stream {
        let (answers, usage) = collect(events, chat.answers).await?;
        tell_times(&mut response, &visit, true);
        return Ok(response.json(completion(head, &answers, usage)));
    }
    let events = first_event(events).await?;
    tell_times(&mut response, &visit, false);
    let keep_alive = Duration::from_secs(state.config.server.keep_alive_interval);
    let body = sse::body(events, ChunkWriter::new(head), keep_alive, visit.record);
    Ok(response
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body))
}

async fn parse(bytes: Bytes) -> Result<ChatCompletionRequest, ApiError> {
    if bytes.len() < LARGE_BODY {
        return Ok(ChatCompletionRequest::parse(&bytes)?);
    }
    let parsed = tokio::task::spawn_blocking(move || ChatCompletionRequest::parse(&bytes)).await;
    Ok(parsed.map_err(|e| EngineError::Failed(e.to_string()))??)
}

fn tell_times(response: &mut HttpResponseBuilder, visit: &Visit, whole: bool) {
    let times = visit.record.server_timing(whole);
    if !times.is_empty() {
        response.insert_header(("server-timing", times));
    }
}

/// The whole answers as one document.
fn completion<'a>(
    head: Head<'a>,
    answers: &'a [Collected],
    usage: TokenUsage,
) -> ChatCompletion<'a> {
    ChatCompletion {
        id: head.id,
        object: "chat.completion",
        created: head.created,
        model: head.model,
        system_fingerprint: head.fingerprint,
        service_tier: head.tier,
        choices: answers.iter().enumerate().map(choice).collect(),
        usage: wire::usage(usage),
    }
}

fn choice((index, answer): (usize, &Collected)) -> Choice<'_> {
    let calls = answer.calls.iter().map(|call| ToolCall {
        id: &call.id,
        kind: "function",
        function: FunctionCall {
            name: &call.name,
            arguments: &call.arguments,
        },
    });
    let only_calls = answer.text.is_empty() && !answer.calls.is_empty();
    let thought = !answer.reasoning.is_empty();
    Choice {
        index,
        message: AssistantMessage {
            role: "assistant",
            content: (!only_calls).then_some(&answer.text),
            refusal: None,
            annotations: [],
            reasoning_content: thought.then_some(&answer.reasoning),
            tool_calls: calls.collect(),
        },
        logprobs: (!answer.tokens.is_empty()).then(|| wire::logprobs(&answer.tokens)),
        finish_reason: answer.reason.map_or("stop", FinishReason::word),
    }
}
