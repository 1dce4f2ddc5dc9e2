//! What the routes that ask the model have in common before and after the answer.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    web::{Bytes, Data, Payload},
};

use super::{
    body::{self, Body},
    generation::Visit,
};
use crate::{
    admission::Permit,
    audit::Record,
    engine::EngineError,
    error::ApiError,
    openai::InvalidRequest,
    sse::{self, Answers, EventWriter},
    state::{AppState, ServedModel},
};

/// Bodies from this size on are parsed away from the async threads.
const LARGE_BODY: usize = 256 << 10;

/// A request that was let in and read.
pub struct Intake<T> {
    /// Who asks, and what is noted of it.
    pub visit: Visit,
    /// What it asks for.
    pub parsed: T,
    /// Bytes of its body.
    pub bytes: usize,
    /// The memory for them.
    pub hold: Permit,
    /// The request's place.
    pub permit: Permit,
}

/// Lets a request in, reads its body and parses it. One that cannot be served is refused with the
/// body unread.
///
/// # Errors
/// No credential, no model, no place; a body that is too large, too slow or wrong.
pub async fn receive<T: Send + 'static>(
    request: &HttpRequest,
    payload: Payload,
    state: &AppState,
    parse: fn(&Bytes) -> Result<T, InvalidRequest>,
) -> Result<Intake<T>, ApiError> {
    let visit = Visit::of(request)?;
    state.any_ready()?;
    let caller = &visit.session.caller;
    let permit = state.admit(caller)?;
    let Body { bytes, hold } = body::read(request, payload, state, caller).await?;
    let size = bytes.len();
    visit.record.note(|fields| fields.bytes_in = size as u64);
    let parsed = if size < LARGE_BODY {
        parse(&bytes)?
    } else {
        let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
        parsed.map_err(|e| EngineError::Failed(e.to_string()))??
    };
    Ok(Intake {
        visit,
        parsed,
        bytes: size,
        hold,
        permit,
    })
}

/// The model that is asked, noted.
///
/// # Errors
/// 404.
pub fn model<'a>(
    state: &'a AppState,
    visit: &Visit,
    name: &str,
    stream: bool,
) -> Result<&'a ServedModel, ApiError> {
    let model = state.model(name, &visit.session.caller)?;
    if let Some(trace) = visit.record.trace() {
        trace.asked_for(name);
    }
    visit.record.note(|fields| {
        fields.model = Some(model.config.name.clone());
        fields.stream = Some(stream);
    });
    Ok(model)
}

/// The error with its field called as this route calls it; below, fields have the names of chat
/// completions. `names` are pairs of both.
pub fn renamed(mut error: ApiError, names: &[(&str, &'static str)]) -> ApiError {
    let new = |old: &str| {
        let found = names.iter().find(|(known, _)| *known == old);
        found.map(|(_, new)| *new)
    };
    if let ApiError::Engine(EngineError::ContextLengthExceeded {
        prompt,
        context,
        at_least,
    }) = &error
        && let Some(param) = new("messages")
    {
        let at_least = if *at_least { "at least " } else { "" };
        let message = format!(
            "This model's maximum context length is {context} tokens, and at least one must be left for the \
             answer. However, your '{param}' has {at_least}{prompt} tokens. Please reduce its length."
        );
        return InvalidRequest::new("context_length_exceeded", param, message).into();
    }
    if let ApiError::Engine(EngineError::Refused { param, message, .. }) = &mut error {
        // Tools are flat here.
        let flat = param.replace(".function.parameters", ".parameters");
        let name = new(param).map_or(flat, str::to_string);
        *message = message.replace(param.as_ref(), &name);
        *param = name.into();
    }
    if let ApiError::Image(refused) = &mut error
        && let Some(name) = new(&refused.param)
    {
        refused.param = name.into();
    }
    error
}

/// The head of an answer, with what was accepted without effect.
pub fn answer_head(ignored: &[&str]) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    if !ignored.is_empty() {
        response.insert_header(("x-porthole-ignored", ignored.join(", ")));
    }
    response
}

/// An answer as a stream.
pub fn stream(
    mut response: HttpResponseBuilder,
    state: &Data<AppState>,
    record: Arc<Record>,
    events: Answers,
    writer: impl EventWriter + 'static,
) -> HttpResponse {
    let keep_alive = Duration::from_secs(state.config.server.keep_alive_interval);
    response
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(sse::body(events, writer, keep_alive, record))
}
