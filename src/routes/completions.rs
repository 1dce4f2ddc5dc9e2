//! `POST /v1/completions`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    generation::{self, Asked, Collected, Ready, Visit, collect, first_event},
    intake::{self, Intake},
};
use crate::{
    admission::Permit,
    engine::{FinishReason, Input, Inquiry},
    error::ApiError,
    openai::{
        InvalidRequest,
        completions::{Choice, CompletionRequest, Prompt},
        request::ServiceTier,
        response::Usage,
        responses::answer::fresh_id,
    },
    sse::{
        Answers,
        completions::{CompletionHead, CompletionWriter},
    },
    state::{self, AppState, ServedModel},
    wire::{self, legacy_logprobs::TokenOffsets},
};

/// What chat completions call otherwise.
const NAMES: &[(&str, &str)] = &[("messages", "prompt")];

/// Continues texts as they are, at once or as a stream.
///
/// # Errors
/// Everything in [`ApiError`].
pub async fn create(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let intake = intake::receive(&request, payload, &state, CompletionRequest::parse).await?;
    let model = intake::model(
        &state,
        &intake.visit,
        &intake.parsed.model,
        intake.parsed.stream,
    )?;
    let fingerprint = model.engine()?.info().fingerprint.clone();
    let Intake {
        visit,
        parsed: wanted,
        hold,
        permit,
        ..
    } = intake;
    let ready = prepare_all(&state, &visit, model, &wanted, (hold, permit)).await?;
    let prompt_tokens = ready.iter().map(|one| one.prompt.tokens().total).sum();
    visit
        .record
        .note(|fields| fields.prompt_tokens = Some(prompt_tokens));
    // All are charged before the first is begun: what is refused is refused as a whole.
    let mut answers = Vec::with_capacity(ready.len());
    for one in ready {
        let answering = generation::answer(state.clone(), &visit, model, one).await?;
        answers.push(answering.events);
    }
    let events = one_after_another(answers, wanted.n);

    let mut answer = intake::answer_head(&wanted.ignored);
    let head = CompletionHead {
        id: fresh_id("cmpl").replace('_', "-"),
        created: state::now(),
        model: wanted.model.clone(),
        fingerprint,
    };
    let echoes = echoes(&wanted);
    if wanted.stream {
        let events = first_event(events).await?;
        let usage = wanted.include_usage;
        let writer =
            CompletionWriter::new(head, echoes, wanted.sampling.logprobs, usage, prompt_tokens);
        return Ok(intake::stream(answer, &state, visit.record, events, writer));
    }
    let (collected, usage) = collect(events, echoes.len()).await?;
    let choices = collected.into_iter().zip(echoes).enumerate();
    let choices =
        choices.map(|(index, (text, echo))| choice(index, text, echo, wanted.sampling.logprobs));
    let usage = Usage::new(prompt_tokens, 0, usage.completion);
    Ok(answer.json(head.completion(choices.collect(), Some(Some(usage)))))
}

/// Prepares every prompt. The last, which is answered last, keeps what the request holds.
async fn prepare_all(
    state: &AppState,
    visit: &Visit,
    model: &ServedModel,
    wanted: &CompletionRequest,
    (hold, permit): (Permit, Permit),
) -> Result<Vec<Ready>, ApiError> {
    let vocabulary = model.engine()?.info().vocabulary;
    let caller = &visit.session.caller;
    let mut held = Some((hold, permit));
    let last = wanted.prompts.len() - 1;
    let mut ready = Vec::with_capacity(wanted.prompts.len());
    for (i, prompt) in wanted.prompts.iter().enumerate() {
        let own = if i == last { held.take() } else { None };
        let (hold, permit) = match own {
            Some(own) => own,
            None => (state.hold(caller, 0)?, state.hold(caller, 0)?),
        };
        let (input, bytes) = match prompt {
            Prompt::Text(text) => (Input::Text(text.clone()), text.len()),
            Prompt::Tokens(ids) => {
                check_ids(ids, vocabulary)?;
                (Input::Tokens(ids.clone()), size_of_val(&ids[..]))
            }
        };
        let asked = Asked {
            inquiry: Inquiry::of(input),
            images: Vec::new(),
            answers: wanted.n,
            sampling: wire::sampling(wanted.sampling.clone()),
            tier: ServiceTier::Default,
            bytes,
            hold,
            permit,
        };
        let one = generation::prepare(state, visit, model, asked).await;
        ready.push(one.map_err(|error| intake::renamed(error, NAMES))?);
    }
    Ok(ready)
}

fn check_ids(ids: &[u32], vocabulary: usize) -> Result<(), InvalidRequest> {
    match ids.iter().find(|id| **id as usize >= vocabulary) {
        None => Ok(()),
        Some(id) => {
            let rule = format!("this model has no token {id}; its ids are below {vocabulary}");
            Err(InvalidRequest::wrong_value("prompt", &rule))
        }
    }
}

/// The answers to all prompts, with `n` to each, as those of one request.
fn one_after_another(answers: Vec<Answers>, n: usize) -> Answers {
    let answers = answers
        .into_iter()
        .enumerate()
        .map(move |(i, events)| events.map_ok(move |(index, event)| (i * n + index, event)));
    Box::pin(stream::iter(answers).flatten())
}

/// For each answer the text that comes before it.
fn echoes(wanted: &CompletionRequest) -> Vec<Option<String>> {
    let of_prompt = |prompt: &Prompt| match prompt {
        Prompt::Text(text) if wanted.echo => Some(text.clone()),
        Prompt::Text(_) | Prompt::Tokens(_) => None,
    };
    let prompts = wanted.prompts.iter().map(of_prompt);
    prompts
        .flat_map(|echo| std::iter::repeat_n(echo, wanted.n))
        .collect()
}

fn choice(
    index: usize,
    collected: Collected,
    echo: Option<String>,
    logprobs: Option<usize>,
) -> Choice {
    Choice {
        text: echo.unwrap_or_default() + &collected.text,
        index,
        logprobs: logprobs.map(|top| TokenOffsets::default().logprobs(&collected.tokens, top)),
        finish_reason: collected.reason.map(FinishReason::word),
    }
}
