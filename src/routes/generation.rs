//! From a conversation to its answer: the way that every route which asks the model takes.
//!
//! Images are fetched and judged by their headers; the prompt is counted exactly; the limits are
//! charged; the request waits for its turn; only then are pixels decoded and is the engine asked.
//! Everything a request holds hangs on its answer and is given back when that is dropped.

use std::{
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use actix_web::{HttpMessage, HttpRequest, web::Data};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::{
    admission::{Permit, Ticket},
    audit::{ImageFields, Record, millis},
    auth::{AuthError, Session},
    caller::Role,
    engine::{
        Engine, EngineError, Event, FinishReason, Job, Part, Prompt, SamplingParams, TokenUsage,
        Turn,
    },
    error::ApiError,
    limits::{Cost, Entry, Reservation},
    media::{Encoded, ImageCeiling},
    openai::{
        message::{self, ImageUrl},
        request::ServiceTier,
    },
    sse::Answer,
    state::AppState,
};

/// How long the head of a streaming response waits for the first event, so that an early failure is
/// a real status code.
const FIRST_EVENT: Duration = Duration::from_secs(1);
/// Tokens that an answer without a limit of its own is taken to have, until it has ended.
const ASSUMED_ANSWER: usize = 1024;

/// A request that has passed the doors.
pub struct Visit {
    /// Who asks, and whether the credential is still good.
    pub session: Session,
    /// What is noted of it.
    pub record: Arc<Record>,
    entry: Arc<Entry>,
}

impl Visit {
    /// What the middleware found out.
    ///
    /// # Errors
    /// 401 where it did not run: a route outside it must not generate.
    pub fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let found = request.extensions();
        match (found.get(), found.get(), found.get()) {
            (Some(session), Some(record), Some(entry)) => Ok(Self {
                session: Session::clone(session),
                record: Arc::clone(record),
                entry: Arc::clone(entry),
            }),
            _ => Err(AuthError::Missing.into()),
        }
    }

    fn class(&self, tier: ServiceTier) -> (u8, &'static str) {
        match tier {
            ServiceTier::Priority if self.session.caller.has(Role::Priority) => (0, "priority"),
            ServiceTier::Default | ServiceTier::Priority => (1, "default"),
            ServiceTier::Flex => (2, "flex"),
        }
    }
}

/// A conversation to answer.
pub struct Conversation {
    /// The turns.
    pub messages: Vec<message::Message>,
    /// How to answer.
    pub sampling: SamplingParams,
    /// How urgent it is.
    pub tier: ServiceTier,
    /// Bytes of the body that it came in.
    pub bytes: usize,
    /// The memory for them, kept until the images are decoded.
    pub hold: Permit,
}

/// An answer that has been admitted.
pub struct Answering {
    /// Its events.
    pub events: Answer,
    /// The tier it is served in.
    pub tier: &'static str,
}

/// Admits a conversation, which is charged to its caller, and starts answering it.
///
/// # Errors
/// Everything that can be told before the request waits for its turn.
pub async fn answer(
    state: Data<AppState>,
    visit: &Visit,
    engine: Arc<dyn Engine>,
    permit: Permit,
    conversation: Conversation,
) -> Result<Answering, ApiError> {
    let images = fetch_images(&state, visit, engine.as_ref(), &conversation.messages).await?;
    let mut body = conversation.hold;
    let encoded = images.iter().map(Encoded::len).sum::<usize>();
    if !body.grow(encoded) {
        state.metrics.refused_for_overload("memory");
        return Err(ApiError::Overloaded);
    }
    let turns = turns(conversation.messages, &images);
    let prompt = engine.prepare(turns).await?;

    let tokens = prompt.tokens();
    let room = engine.info().context_length - tokens.total;
    let wanted = conversation.sampling.max_tokens.unwrap_or(ASSUMED_ANSWER);
    let expected = (tokens.total + wanted.min(room)) as u64;
    let pixels = |image: &Encoded| u64::from(image.target.0) * u64::from(image.target.1);
    let cost = Cost {
        tokens: expected,
        pixels: images.iter().map(pixels).sum(),
    };
    let model = &state.config.model.name;
    let reservation = visit.entry.reserve(model, cost).await?;
    visit.record.note(|fields| {
        fields.prompt_tokens = Some(tokens.total);
        fields.image_tokens = Some(tokens.image);
    });

    let (class, tier) = visit.class(conversation.tier);
    let waiting = Waiting {
        body,
        bytes: conversation.bytes + encoded,
        expected,
        class,
        prompt,
        images,
        sampling: conversation.sampling,
        reservation,
        session: visit.session.clone(),
        entry: visit.entry.clone(),
        record: visit.record.clone(),
        permit,
    };
    let width = engine.width();
    let events = stream::once(waiting.start(state, width)).try_flatten();
    Ok(Answering {
        events: Box::pin(events),
        tier,
    })
}

/// A request that waits for its turn, with all that it holds.
struct Waiting {
    body: Permit,
    bytes: usize,
    expected: u64,
    class: u8,
    prompt: Box<dyn Prompt>,
    images: Vec<Encoded>,
    sampling: SamplingParams,
    reservation: Reservation,
    session: Session,
    entry: Arc<Entry>,
    record: Arc<Record>,
    permit: Permit,
}

impl Waiting {
    async fn start(self, state: Data<AppState>, width: usize) -> Result<Answer, ApiError> {
        let mut session = self.session;
        let caller = session.caller.clone();
        let ticket = Ticket {
            caller: caller.root(),
            class: self.class,
            bytes: self.bytes,
            cost: self.expected,
            width,
        };
        let since = Instant::now();
        let slot = tokio::select! {
            slot = state.queue.enter(ticket) => {
                slot.inspect_err(|_| state.metrics.refused_for_overload("queue"))?
            }
            () = session.revoked() => return Err(AuthError::Invalid("revoked").into()),
        };
        let (record, entry) = (self.record, self.entry);
        record.note(|fields| fields.queue_ms = Some(millis(since.elapsed())));
        let decoded = state.media.decode(self.images).await?;
        drop(self.body);
        let (reservation, note) = (self.reservation, record.clone());
        let hold = (decoded.hold, entry);
        let on_end = Box::new(move |usage: TokenUsage| {
            let worked = (usage.prompt + usage.completion) as u64;
            reservation.settle(worked);
            slot.worked(worked);
            note.note(|fields| fields.completion_tokens = Some(usage.completion));
            drop(hold);
        });
        let job = Job {
            images: decoded.images,
            sampling: self.sampling,
            on_end,
        };
        let events = self.prompt.generate(job).await?;
        let permit = self.permit;
        let mut silent = true;
        let events = events.map(move |event| {
            let _held = &permit;
            match &event {
                Ok(Event::Delta(_)) if silent => {
                    silent = false;
                    record.note(|fields| fields.first_token_ms = Some(record.elapsed_ms()));
                }
                Ok(Event::Finished { reason, .. }) => {
                    record.note(|fields| fields.finish_reason = Some(reason.word()));
                }
                Ok(Event::Delta(_)) | Err(_) => {}
            }
            event.map_err(ApiError::from)
        });
        Ok(Box::pin(until_revoked(events, session)))
    }
}

/// The events, until the credential is revoked: then an error.
fn until_revoked(
    events: impl Stream<Item = Result<Event, ApiError>> + 'static,
    mut session: Session,
) -> impl Stream<Item = Result<Event, ApiError>> {
    let mut events = Box::pin(events);
    let mut revoked = Box::pin(async move { session.revoked().await });
    let mut over = false;
    stream::poll_fn(move |context| {
        if over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(event) = events.as_mut().poll_next(context) {
            return Poll::Ready(event);
        }
        // Only between tokens: a model takes far longer over one than this takes.
        ready!(revoked.as_mut().poll(context));
        over = true;
        Poll::Ready(Some(Err(AuthError::Invalid("revoked").into())))
    })
}

async fn fetch_images(
    state: &AppState,
    visit: &Visit,
    engine: &dyn Engine,
    messages: &[message::Message],
) -> Result<Vec<Encoded>, ApiError> {
    let parts = messages.iter().flat_map(|message| &message.parts);
    let urls: Vec<ImageUrl> = parts
        .filter_map(|part| match part {
            message::Part::Image(image) => Some(image.clone()),
            message::Part::Text(_) => None,
        })
        .collect();
    let caller = &visit.session.caller;
    let ceiling = ImageCeiling {
        max_pixels: caller.min_right(|rights| rights.max_image_pixels),
        max_images: caller.min_right(|rights| rights.max_images),
    };
    let info = engine.info();
    let images = state
        .media
        .fetch(&caller.id, urls, info.geometry, ceiling)
        .await?;
    visit.record.note(|fields| {
        fields.images = images
            .iter()
            .map(|image| ImageFields {
                sha256: image.sha256_hex(),
                bytes: image.len(),
                width: image.target.0,
                height: image.target.1,
            })
            .collect();
    });
    let tokens = |image: &Encoded| info.geometry.tokens(image.target);
    let tokens: usize = images.iter().map(tokens).sum();
    if tokens >= info.context_length {
        return Err(EngineError::ContextLengthExceeded {
            prompt: tokens,
            context: info.context_length,
            at_least: true,
        }
        .into());
    }
    Ok(images)
}

fn turns(messages: Vec<message::Message>, images: &[Encoded]) -> Vec<Turn> {
    let mut sizes = images.iter().map(|image| image.target);
    let turns = messages.into_iter().map(|message| Turn {
        role: message.role,
        parts: message
            .parts
            .into_iter()
            .filter_map(|part| match part {
                message::Part::Text(text) => Some(Part::Text(text)),
                // One was fetched for each, in order.
                message::Part::Image(_) => sizes.next().map(Part::Image),
            })
            .collect(),
    });
    turns.collect()
}

/// Waits a moment for the first event, so that an early error is an error response.
///
/// # Errors
/// That error.
pub async fn first_event(mut events: Answer) -> Result<Answer, ApiError> {
    match tokio::time::timeout(FIRST_EVENT, events.next()).await {
        Ok(Some(first)) => {
            let first = first?;
            Ok(Box::pin(stream::once(async { Ok(first) }).chain(events)))
        }
        Ok(None) => Err(EngineError::Failed("no events came".into()).into()),
        Err(_) => Ok(events),
    }
}

/// The whole answer.
///
/// # Errors
/// Whatever breaks it off.
pub async fn collect(mut events: Answer) -> Result<(String, FinishReason, TokenUsage), ApiError> {
    let mut text = String::new();
    while let Some(event) = events.next().await {
        match event? {
            Event::Delta(more) => text.push_str(&more),
            Event::Finished { reason, usage } => return Ok((text, reason, usage)),
        }
    }
    Err(EngineError::Failed("the events broke off".into()).into())
}
