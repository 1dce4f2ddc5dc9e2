//! One generation: through the lane, into the engine, its chunks out as events, and the lane left
//! only when the engine has let go.

use std::{sync::Arc, time::Duration};

use image::DynamicImage;
use mistralrs::{
    Constraint, NormalRequest, Request, RequestMessage, Response, SamplingParams as EngineParams,
};
use tokio::sync::mpsc::{self, UnboundedSender};

use super::{
    Shared,
    chooser::{Chooser, Chosen, Kind, Plan},
    prepare::Prepared,
    reader::{Read, Reader},
    replicas::{Busy, Replicas},
    supervisor,
};
use crate::{
    engine::{
        self, EngineError, Event, FinishReason, Health, OnEnd, TokenUsage, convert,
        lane::{Cohort, Place},
    },
    metrics::Activity,
};

/// How long a cancelled sequence may take to end. A prompt cannot be interrupted, so this must
/// outlast the longest one.
const LETTING_GO: Duration = Duration::from_secs(600);
/// How long one that has waited in the lane waits on for an engine that has died.
const RECOVERY: Duration = Duration::from_secs(30);

type Events = UnboundedSender<Result<Event, EngineError>>;

/// A generation to run.
pub(super) struct Job {
    message: RequestMessage,
    cohort: Cohort,
    plan: Plan,
    stop: Vec<String>,
    prompt_tokens: usize,
    image_tokens: usize,
    max_tokens: usize,
}

impl Job {
    /// An answer to a prompt.
    pub(super) fn new(prompt: &Prepared, job: &engine::Job, images: Vec<DynamicImage>) -> Self {
        let room = prompt.shared.info.context_length - prompt.tokens.total;
        let (plan, stop) = prompt.plan(job);
        Self {
            message: prompt.message(images),
            cohort: prompt.cohort.clone(),
            plan,
            stop,
            prompt_tokens: prompt.tokens.total,
            image_tokens: prompt.tokens.image,
            max_tokens: job.sampling.max_tokens.unwrap_or(room).min(room),
        }
    }
}

/// How a sequence came out.
enum Outcome {
    /// With `Finished`, or because nobody listens any more.
    Done,
    /// The engine refused or failed this one.
    Refused(EngineError),
    /// The engine let go of it without a word.
    Silent,
}

/// Runs one generation and sends its events, until `events` is closed.
pub(super) async fn run(
    replicas: Arc<Replicas>,
    job: Job,
    events: Events,
    (mut activity, on_end): (Activity, OnEnd),
) {
    let entered = tokio::select! {
        entered = enter(&replicas, &job.cohort) => entered,
        () = events.closed() => return,
    };
    let (busy, place) = match entered {
        Ok(entered) => entered,
        Err(error) => {
            let _ = events.send(Err(error));
            return;
        }
    };
    activity.run();
    let (prompt, image) = (job.prompt_tokens, job.image_tokens);
    let generated = run_in_lane(busy.replica(), job, &events).await;
    let (completion, reasoning) = (generated.all, generated.thoughts);
    drop(activity);
    drop((place, busy));
    on_end(TokenUsage {
        prompt,
        image,
        completion,
        reasoning,
    });
}

/// A place in the lane of a replica that is up.
async fn enter(replicas: &Replicas, cohort: &Cohort) -> Result<(Busy, Place), EngineError> {
    loop {
        let busy = Busy::new(&replicas.least_busy()?);
        let replica = busy.replica();
        let place = replica.lane.enter(cohort.clone()).await;
        if replica.is_up() {
            return Ok((busy, place));
        }
        // It died while this one waited for it. Another may be there.
        if replicas.health().borrow().clone() != Health::Up {
            wait_for_health(replica).await?;
            return Ok((busy, place));
        }
        // Those who follow the health of all may not have seen yet that this one fell.
        tokio::task::yield_now().await;
    }
}

async fn wait_for_health(shared: &Shared) -> Result<(), EngineError> {
    let mut health = shared.health.subscribe();
    let decided = health.wait_for(|health| !matches!(health, Health::Recovering(_)));
    match tokio::time::timeout(RECOVERY, decided).await {
        Ok(Ok(health)) if *health == Health::Up => Ok(()),
        _ => Err(EngineError::Unavailable(
            "the engine did not come back in time".into(),
        )),
    }
}

/// Tokens generated.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Generated {
    all: usize,
    thoughts: usize,
}

/// Runs a job that has the right to be in the engine, until the engine has let go of it; returns the
/// tokens generated. Probes and the self-check alone call it around the lane.
pub(super) async fn run_in_lane(shared: &Arc<Shared>, job: Job, events: &Events) -> Generated {
    let (response, mut chunks) = mpsc::channel(64);
    let sender = match shared.sender() {
        Ok(sender) => sender,
        Err(error) => {
            let _ = events.send(Err(error));
            return Generated::default();
        }
    };
    let (tokens, chosen) = mpsc::unbounded_channel();
    let bytes = |token| shared.grammars.bytes(token);
    let mut answer = Answer {
        prompt_tokens: job.prompt_tokens,
        image_tokens: job.image_tokens,
        max_tokens: job.max_tokens,
        generated: Generated::default(),
        reader: Reader::new(&shared.tokenizer, &bytes, job.stop),
        chosen,
        events,
    };
    let chooser = Chooser::new(job.plan, tokens, shared.fault.clone());
    let params = convert::sampling(job.max_tokens);
    let id = shared.runner().next_request_id();
    let request = request(job.message, params, chooser, response, id);
    let outcome = if sender.send(request).await.is_ok() {
        answer.forward(&mut chunks).await
    } else {
        Outcome::Silent
    };
    match outcome {
        Outcome::Done => {}
        Outcome::Refused(error) => {
            let _ = events.send(Err(error));
        }
        Outcome::Silent if engine_answers(&sender).await => {
            let reason = "the engine let go of a sequence without a word".to_string();
            let _ = events.send(Err(EngineError::Failed(reason)));
        }
        Outcome::Silent => {
            let reason = "the engine's thread died".to_string();
            supervisor::recover(shared, reason.clone());
            let _ = events.send(Err(EngineError::Failed(reason)));
        }
    }
    if !let_go(chunks).await {
        tracing::error!("the engine did not let go of a sequence; it will be loaded anew");
        supervisor::reload(shared, "the engine hangs".to_string());
    }
    answer.generated
}

fn request(
    messages: RequestMessage,
    params: EngineParams,
    chooser: Chooser,
    response: mpsc::Sender<Response>,
    id: usize,
) -> Request {
    Request::Normal(Box::new(NormalRequest {
        messages,
        sampling_params: params,
        response,
        return_logprobs: false,
        // Only a streaming sequence notices that nobody listens.
        is_streaming: true,
        id,
        constraint: Constraint::None,
        suffix: None,
        tools: None,
        tool_choice: None,
        logits_processors: Some(vec![Arc::new(chooser)]),
        return_raw_logits: false,
        web_search_options: None,
        model_id: None,
        truncate_sequence: false,
    }))
}

/// An answer under way.
struct Answer<'a> {
    prompt_tokens: usize,
    image_tokens: usize,
    max_tokens: usize,
    generated: Generated,
    reader: Reader<'a>,
    chosen: mpsc::UnboundedReceiver<Chosen>,
    events: &'a Events,
}

impl Answer<'_> {
    /// Passes tokens on as events until the answer ends or nobody listens. The engine's own chunks
    /// only tell its failures: their text is what the tokens say already.
    async fn forward(&mut self, chunks: &mut mpsc::Receiver<Response>) -> Outcome {
        let mut out = Vec::new();
        loop {
            // Tokens first: what was chosen before a failure has been said.
            let read = tokio::select! {
                biased;
                Some(chosen) = self.chosen.recv() => self.take(chosen, &mut out),
                response = chunks.recv() => match failure(response) {
                    Some(outcome) => return outcome,
                    None => continue,
                },
                () = self.events.closed() => return Outcome::Done,
            };
            for event in out.drain(..) {
                if self.events.send(Ok(event)).is_err() {
                    return Outcome::Done;
                }
            }
            if let Read::Ended(reason) = read {
                let _ = self.events.send(Ok(self.finished(reason)));
                return Outcome::Done;
            }
        }
    }

    fn take(&mut self, chosen: Chosen, out: &mut Vec<Event>) -> Read {
        self.generated.all += 1;
        if matches!(chosen.kind, Kind::Thought | Kind::ThoughtEnd) {
            self.generated.thoughts += 1;
        }
        match self.reader.read(chosen, out) {
            Read::More if self.generated.all >= self.max_tokens => {
                self.reader.finish(out);
                Read::Ended(FinishReason::Length)
            }
            read @ (Read::More | Read::Ended(_)) => read,
        }
    }

    fn finished(&self, reason: FinishReason) -> Event {
        let usage = TokenUsage {
            prompt: self.prompt_tokens,
            image: self.image_tokens,
            completion: self.generated.all,
            reasoning: self.generated.thoughts,
        };
        Event::Finished { reason, usage }
    }
}

/// What a message of the engine says beside the tokens.
fn failure(response: Option<Response>) -> Option<Outcome> {
    let error = match response {
        Some(Response::Chunk(_) | Response::CompletionChunk(_)) => return None,
        Some(Response::ValidationError(e)) => EngineError::InvalidInput(e.to_string()),
        Some(Response::InternalError(e)) => EngineError::Failed(e.to_string()),
        Some(Response::ModelError(e, _) | Response::CompletionModelError(e, _)) => {
            EngineError::Failed(e)
        }
        Some(_) => EngineError::Failed("an unexpected kind of answer".into()),
        None => return Some(Outcome::Silent),
    };
    Some(Outcome::Refused(error))
}

/// Waits until the engine has dropped the sequence: closing the channel makes its next send fail,
/// which cancels it; the channel ends when the engine has dropped every sender.
async fn let_go(mut chunks: mpsc::Receiver<Response>) -> bool {
    chunks.close();
    tokio::time::timeout(LETTING_GO, async { while chunks.recv().await.is_some() {} })
        .await
        .is_ok()
}

/// Asks the engine thread for a sign of life.
async fn engine_answers(sender: &mpsc::Sender<Request>) -> bool {
    let (response, mut answer) = mpsc::channel(1);
    let ping = Request::Detokenize(mistralrs::core::DetokenizationRequest {
        tokens: Vec::new(),
        skip_special_tokens: false,
        response,
    });
    let sender = sender.clone();
    // The engine panics when nobody waits for this answer.
    let waiting = tokio::spawn(async move {
        sender.send(ping).await.ok()?;
        answer.recv().await
    });
    matches!(waiting.await, Ok(Some(_)))
}
