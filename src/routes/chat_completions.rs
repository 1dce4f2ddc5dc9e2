//! `POST /v1/chat/completions`.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    web::{Data, Payload},
};

use super::{
    dry_run::{self, Pieces},
    generation::{self, Answering, Asked, Collected, Visit, collect, first_event},
    intake::{self, Intake},
};
use crate::{
    engine::{FinishReason, Input, Inquiry, TokenUsage},
    error::ApiError,
    openai::{
        message::ImageUrl,
        request::ChatCompletionRequest,
        response::{AssistantMessage, ChatCompletion, Choice, FunctionCall, ToolCall},
    },
    sse::chunks::{ChunkWriter, Head},
    state::{self, AppState},
    wire,
};

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
    let wish = dry_run::wish(&request)?;
    let intake = intake::receive(&request, payload, &state, ChatCompletionRequest::parse).await?;
    let Intake {
        visit,
        parsed: mut chat,
        bytes,
        hold,
        permit,
    } = intake;
    let model = intake::model(&state, &visit, &chat.model, chat.stream)?;
    let engine = model.engine()?;
    let dry_run = wish.map(|wish| (wish, Pieces::of(&chat.messages)));
    let (inquiry, images) = inquiry(&mut chat);
    let asked = Asked {
        inquiry,
        images,
        answers: chat.answers,
        sampling: wire::sampling(std::mem::take(&mut chat.sampling)),
        tier: chat.service_tier,
        bytes,
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
    state: &Data<AppState>,
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
    let writer = ChunkWriter::new(head);
    Ok(intake::stream(
        response,
        state,
        visit.record,
        events,
        writer,
    ))
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
