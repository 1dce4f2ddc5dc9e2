//! One generation: through the lane, into the engine, its chunks out as events, and the lane left
//! only when the engine has let go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use image::DynamicImage;
use mistralrs::{
    Constraint, CustomLogitsProcessor, NormalRequest, Request, RequestMessage, Response,
    SamplingParams as EngineParams, Tensor,
};
use tokio::sync::mpsc::{self, UnboundedSender};

use super::{Shared, supervisor};
use crate::{
    engine::{
        EngineError, Event, FinishReason, Health, OnEnd, TokenUsage, convert, convert::Prompt,
        stop::StopMatcher,
    },
    metrics::GaugeGuard,
};

/// How long a cancelled sequence may take to end. A prompt cannot be interrupted, so this must
/// outlast the longest one.
const LETTING_GO: Duration = Duration::from_secs(600);
/// How long one that has waited in the lane waits on for an engine that has died.
const RECOVERY: Duration = Duration::from_secs(30);

type Events = UnboundedSender<Result<Event, EngineError>>;

/// A generation to run.
pub(super) struct Job {
    pub(super) prompt: Prompt,
    pub(super) images: Vec<DynamicImage>,
    pub(super) params: EngineParams,
    pub(super) stop: Vec<String>,
    pub(super) prompt_tokens: usize,
    pub(super) image_tokens: usize,
    pub(super) max_tokens: usize,
}

/// Counts the tokens of a sequence, which a stream of text cannot tell: a token may be silent.
struct Tap {
    generated: Arc<AtomicUsize>,
    fault: Arc<std::sync::atomic::AtomicBool>,
}

impl CustomLogitsProcessor for Tap {
    #[allow(clippy::panic)]
    fn apply(&self, logits: &Tensor, _context: &[u32]) -> mistralrs::Result<Tensor> {
        if self.fault.swap(false, Ordering::Relaxed) {
            panic!("provoked by panic_at_next_token");
        }
        self.generated.fetch_add(1, Ordering::Relaxed);
        Ok(logits.clone())
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
pub(super) async fn run(shared: Arc<Shared>, job: Job, events: Events, on_end: OnEnd) {
    let waiting = GaugeGuard::new(&shared.metrics.waiting);
    let place = tokio::select! {
        place = shared.lane.enter(job.prompt.cohort.clone()) => place,
        () = events.closed() => return,
    };
    if let Err(error) = wait_for_health(&shared).await {
        let _ = events.send(Err(error));
        return;
    }
    drop(waiting);
    let running = GaugeGuard::new(&shared.metrics.running);
    let (prompt, image) = (job.prompt_tokens, job.image_tokens);
    let completion = run_in_lane(&shared, job, &events).await;
    shared.metrics.prompt_tokens.inc_by(prompt as u64);
    shared.metrics.generation_tokens.inc_by(completion as u64);
    drop(running);
    drop(place);
    on_end(TokenUsage {
        prompt,
        image,
        completion,
    });
}

async fn wait_for_health(shared: &Shared) -> Result<(), EngineError> {
    let mut health = shared.health.subscribe();
    let up = tokio::time::timeout(RECOVERY, health.wait_for(|health| *health == Health::Up)).await;
    match up {
        Ok(Ok(_)) => Ok(()),
        _ => Err(EngineError::Unavailable(
            "the engine did not come back in time".into(),
        )),
    }
}

/// Runs a job that has the right to be in the engine, until the engine has let go of it; returns the
/// tokens generated. Probes and the self-check alone call it around the lane.
pub(super) async fn run_in_lane(shared: &Arc<Shared>, job: Job, events: &Events) -> usize {
    let generated = Arc::new(AtomicUsize::new(0));
    let tap = Tap {
        generated: generated.clone(),
        fault: shared.fault.clone(),
    };
    let (response, mut chunks) = mpsc::channel(64);
    let sender = match shared.sender() {
        Ok(sender) => sender,
        Err(error) => {
            let _ = events.send(Err(error));
            return 0;
        }
    };
    let progress = Progress {
        prompt_tokens: job.prompt_tokens,
        image_tokens: job.image_tokens,
        generated,
        max_tokens: job.max_tokens,
    };
    let stop = StopMatcher::new(job.stop);
    let request = request(
        job.prompt,
        job.images,
        job.params,
        tap,
        response,
        shared.runner().next_request_id(),
    );
    let outcome = if sender.send(request).await.is_ok() {
        forward(&mut chunks, &progress, stop, events).await
    } else {
        Outcome::Silent
    };
    match outcome {
        Outcome::Done => {}
        Outcome::Refused(error) => {
            let _ = events.send(Err(error));
        }
        Outcome::Silent if engine_answers(&sender).await => {
            // The answer ended inside a character, which the engine does not send.
            let _ = events.send(Ok(progress.finished(progress.reason_of_silence())));
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
    progress.generated()
}

fn request(
    prompt: Prompt,
    images: Vec<DynamicImage>,
    params: EngineParams,
    tap: Tap,
    response: mpsc::Sender<Response>,
    id: usize,
) -> Request {
    let messages = if images.is_empty() {
        RequestMessage::Chat {
            messages: prompt.messages,
            enable_thinking: None,
            reasoning_effort: None,
        }
    } else {
        RequestMessage::MultimodalChat {
            images,
            audios: Vec::new(),
            videos: Vec::new(),
            messages: prompt.messages,
            enable_thinking: None,
            reasoning_effort: None,
        }
    };
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
        logits_processors: Some(vec![Arc::new(tap)]),
        return_raw_logits: false,
        web_search_options: None,
        model_id: None,
        truncate_sequence: false,
    }))
}

struct Progress {
    prompt_tokens: usize,
    image_tokens: usize,
    generated: Arc<AtomicUsize>,
    max_tokens: usize,
}

impl Progress {
    fn generated(&self) -> usize {
        // The engine may have begun a step more than it was asked for, whose token nobody gets.
        self.generated.load(Ordering::Relaxed).min(self.max_tokens)
    }

    fn finished(&self, reason: FinishReason) -> Event {
        let usage = TokenUsage {
            prompt: self.prompt_tokens,
            image: self.image_tokens,
            completion: self.generated(),
        };
        Event::Finished { reason, usage }
    }

    fn reason_of_silence(&self) -> FinishReason {
        if self.generated() >= self.max_tokens {
            FinishReason::Length
        } else {
            FinishReason::Stop
        }
    }
}

/// Passes chunks on as events until the sequence ends or nobody listens.
async fn forward(
    chunks: &mut mpsc::Receiver<Response>,
    progress: &Progress,
    mut stop: StopMatcher,
    events: &Events,
) -> Outcome {
    loop {
        let response = tokio::select! {
            response = chunks.recv() => response,
            () = events.closed() => return Outcome::Done,
        };
        let chunk = match response {
            Some(Response::Chunk(chunk)) => chunk,
            Some(Response::ValidationError(e)) => {
                return Outcome::Refused(EngineError::InvalidInput(e.to_string()));
            }
            Some(Response::InternalError(e)) => {
                return Outcome::Refused(EngineError::Failed(e.to_string()));
            }
            Some(Response::ModelError(e, _)) => return Outcome::Refused(EngineError::Failed(e)),
            Some(_) => {
                return Outcome::Refused(EngineError::Failed(
                    "an unexpected kind of answer".into(),
                ));
            }
            None => return Outcome::Silent,
        };
        let Some(choice) = chunk.choices.into_iter().next() else {
            continue;
        };
        let (mut text, stopped) = stop.push(choice.delta.content.unwrap_or_default());
        let reason = if stopped {
            Some(FinishReason::Stop)
        } else {
            choice.finish_reason.as_deref().map(convert::finish_reason)
        };
        if reason.is_some() && !stopped {
            text.push_str(&stop.finish());
        }
        if !text.is_empty() && events.send(Ok(Event::Delta(text))).is_err() {
            return Outcome::Done;
        }
        if let Some(reason) = reason {
            let _ = events.send(Ok(progress.finished(reason)));
            return Outcome::Done;
        }
    }
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
