//! From a conversation to its answer: the way that every route which asks the model takes.
//!
//! Images are fetched and judged by their headers; the prompt is counted exactly; the limits are
//! charged; the request waits for its turn; only then are pixels decoded and is the engine asked.
//! Everything a request holds hangs on its answer and is given back when that is dropped.

mod collected;
mod images;
mod observed;
mod running;

use std::{sync::Arc, time::Instant};

use actix_web::{HttpMessage, HttpRequest, web::Data};
use futures::{StreamExt, TryStreamExt, stream};
use image::RgbImage;

pub use self::collected::{Collected, collect, first_event};
pub use self::images::{parts, turns};
use self::{
    observed::Observed,
    running::{Tally, Work, early_end, noted, until},
};
use crate::{
    admission::{Permit, Queue, Ticket},
    audit::{Record, millis},
    auth::{AuthError, Session},
    caller::Role,
    engine::{Engine, EngineError, Inquiry, Job, Prompt, SamplingParams},
    error::ApiError,
    limits::{Cost, Entry, Reservation, Snapshot},
    media::Encoded,
    metrics::{Activity, Finish, GaugeGuard, ModelMetrics, Waited},
    openai::{message::ImageUrl, request::ServiceTier},
    sse::Answers,
    state::{AppState, ServedModel},
};

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

    /// What is left to the caller.
    pub fn limits(&self) -> Snapshot {
        self.entry.snapshot()
    }

    fn class(&self, tier: ServiceTier) -> (u8, &'static str) {
        match tier {
            ServiceTier::Priority if self.session.caller.has(Role::Priority) => (0, "priority"),
            ServiceTier::Default | ServiceTier::Priority => (1, "default"),
            ServiceTier::Flex => (2, "flex"),
        }
    }
}

/// What a request asks a model.
pub struct Asked {
    /// What to answer, and in which form. The sizes of its images are not known yet.
    pub inquiry: Inquiry,
    /// Where its images are, in the order of the inquiry's.
    pub images: Vec<ImageUrl>,
    /// Answers wanted; at least 1.
    pub answers: usize,
    /// How to answer.
    pub sampling: SamplingParams,
    /// How urgent it is.
    pub tier: ServiceTier,
    /// Bytes of the body that it came in.
    pub bytes: usize,
    /// The memory for them, kept until the images are decoded.
    pub hold: Permit,
    /// The request's place, kept until its last answer has ended.
    pub permit: Permit,
}

/// Answers that have been admitted.
pub struct Answering {
    /// Their events.
    pub events: Answers,
    /// The tier they are served in.
    pub tier: &'static str,
}

/// A request whose images are there and whose tokens are counted.
pub struct Ready {
    /// The prompt.
    pub prompt: Arc<dyn Prompt>,
    /// Its images.
    pub images: Vec<Encoded>,
    engine: Arc<dyn Engine>,
    answers: usize,
    sampling: SamplingParams,
    tier: ServiceTier,
    bytes: usize,
    hold: Permit,
    permit: Permit,
}

/// Fetches the images of a request and counts its tokens.
///
/// # Errors
/// Images that are not there or not allowed, a prompt that does not fit, a model that is away.
pub async fn prepare(
    state: &AppState,
    visit: &Visit,
    model: &ServedModel,
    asked: Asked,
) -> Result<Ready, ApiError> {
    let engine = model.engine()?;
    check_sampling(&asked.sampling, engine.as_ref())?;
    let images = images::fetch(state, visit, engine.as_ref(), asked.images).await?;
    let mut hold = asked.hold;
    let encoded = images.iter().map(Encoded::len).sum::<usize>();
    if !hold.grow(encoded) {
        state.metrics.refused_for_overload("memory");
        return Err(ApiError::Overloaded);
    }
    let mut inquiry = asked.inquiry;
    images::fill_in_sizes(&mut inquiry, &images);
    let prompt: Arc<dyn Prompt> = engine.prepare(inquiry).await?.into();
    let tokens = prompt.tokens();
    if let Some(trace) = visit.record.trace() {
        trace.sampling(&asked.sampling);
    }
    visit.record.note(|fields| {
        fields.prompt_tokens = Some(tokens.total);
        fields.image_tokens = Some(tokens.image);
    });
    Ok(Ready {
        prompt,
        images,
        engine,
        answers: asked.answers,
        sampling: asked.sampling,
        tier: asked.tier,
        bytes: asked.bytes + encoded,
        hold,
        permit: asked.permit,
    })
}

fn check_sampling(sampling: &SamplingParams, engine: &dyn Engine) -> Result<(), EngineError> {
    let vocabulary = engine.info().vocabulary;
    match sampling
        .logit_bias
        .iter()
        .find(|(id, _)| *id as usize >= vocabulary)
    {
        None => Ok(()),
        Some((id, _)) => Err(EngineError::Refused {
            param: "logit_bias".into(),
            code: "invalid_value",
            message: format!(
                "Invalid value for 'logit_bias': this model has no token {id}; its ids are below {vocabulary}."
            ),
        }),
    }
}

/// Charges a request to its caller, and starts answering it.
///
/// # Errors
/// Everything that can be told before the request waits for its turn.
pub async fn answer(
    state: Data<AppState>,
    visit: &Visit,
    model: &ServedModel,
    ready: Ready,
) -> Result<Answering, ApiError> {
    let tokens = ready.prompt.tokens();
    let info = ready.engine.info();
    let room = info.context_length - tokens.total;
    let wanted = ready.sampling.max_tokens.unwrap_or(ASSUMED_ANSWER);
    let expected = (tokens.total + wanted.min(room) * ready.answers) as u64;
    let pixels = |image: &Encoded| u64::from(image.target.0) * u64::from(image.target.1);
    let cost = Cost {
        tokens: expected,
        pixels: ready.images.iter().map(pixels).sum(),
    };
    let reservation = visit.entry.reserve(&model.config.name, cost).await?;
    let (class, tier) = visit.class(ready.tier);
    let waiting = Waiting {
        width: ready.engine.width(),
        ready,
        expected,
        class,
        queue: model.queue.clone(),
        model: model.metrics.clone(),
        reservation,
        session: visit.session.clone(),
        entry: visit.entry.clone(),
        record: visit.record.clone(),
    };
    let events = stream::once(waiting.start(state)).try_flatten();
    Ok(Answering {
        events: Box::pin(events),
        tier,
    })
}

/// A request that waits for its turn, with all that it holds.
struct Waiting {
    ready: Ready,
    width: usize,
    expected: u64,
    class: u8,
    queue: Arc<Queue>,
    model: Arc<ModelMetrics>,
    reservation: Reservation,
    session: Session,
    entry: Arc<Entry>,
    record: Arc<Record>,
}

impl Waiting {
    async fn start(self, state: Data<AppState>) -> Result<Answers, ApiError> {
        let caller = self.session.caller.clone();
        let end = early_end(self.session, state.lifecycle.clone());
        let mut end = Box::pin(end);
        let ready = self.ready;
        let ticket = Ticket {
            caller: caller.root(),
            class: self.class,
            bytes: ready.bytes,
            cost: self.expected,
            width: self.width,
        };
        let record = self.record;
        let waited = Arc::new(Waited::default());
        let (model, answers) = (self.model.clone(), ready.answers);
        let mut observed = Observed::new(model, record.clone(), waited.clone(), answers);
        let since = Instant::now();
        let slot = tokio::select! {
            slot = self.queue.enter(ticket) => slot,
            error = &mut end => return Err(error),
        };
        let slot = match slot {
            Ok(slot) => slot,
            Err(full) => {
                state.metrics.refused_for_overload("queue");
                observed.forget();
                return Err(full.into());
            }
        };
        // It still waits while its images are decoded.
        let decoding = GaugeGuard::new(&self.model.waiting);
        record.note(|fields| *fields.queue_ms.get_or_insert(0.0) += millis(since.elapsed()));
        let since = Instant::now();
        let any = !ready.images.is_empty();
        let decoded = state.media.decode(ready.images).await;
        if let (Some(trace), true) = (record.trace(), any) {
            trace.step("decode", (since, Instant::now()), None);
        }
        let decoded = decoded.inspect_err(|_| observed.ends(Finish::Error))?;
        record.note(|fields| {
            // Beside the time it took to fetch them; there are none where there is none.
            let fetched = fields.images_ms;
            fields.images_ms = fetched.map(|fetched| fetched + millis(since.elapsed()));
        });
        drop(ready.hold);
        let account = (self.reservation, slot);
        let held = (decoded.hold, self.entry);
        let tally = Tally {
            metrics: state.metrics.clone(),
            model: self.model.clone(),
            key: caller.key.clone(),
            record: record.clone(),
        };
        let work = Arc::new(Work::new(account, tally, held));
        let images = Arc::new(decoded.images);
        let prompt = ready.prompt;
        let activity = move || Activity::waiting(self.model.clone(), waited.clone());
        let jobs = jobs(ready.sampling, ready.answers, (images, work), activity);
        drop(decoding);
        let answers = jobs.enumerate().map(move |(index, job)| {
            let prompt = prompt.clone();
            let events = async move { prompt.generate(job).await };
            Box::pin(
                stream::once(events)
                    .try_flatten()
                    .map_ok(move |event| (index, event)),
            )
        });
        let events = if ready.answers == 1 {
            stream::iter(answers).flatten().left_stream()
        } else {
            // As many at once as the engine computes at once: more would take the turns of others.
            let at_once = self.width.min(ready.answers);
            stream::iter(answers)
                .flatten_unordered(at_once)
                .right_stream()
        };
        let events = noted(events, ready.permit, record, observed);
        Ok(Box::pin(until(end, events)))
    }
}

/// The jobs of a request, each made when it is begun.
fn jobs(
    sampling: SamplingParams,
    answers: usize,
    (images, work): (Arc<Vec<RgbImage>>, Arc<Work>),
    activity: impl Fn() -> Activity,
) -> impl Iterator<Item = Job> {
    (0..answers as u64).map(move |index| {
        let work = work.clone();
        let mut sampling = sampling.clone();
        sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(index));
        Job {
            images: images.clone(),
            sampling,
            activity: activity(),
            on_end: Box::new(move |usage| work.add(usage)),
        }
    })
}
