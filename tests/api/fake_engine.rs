//! An engine that says what the last user text tells it to.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures::{StreamExt, stream};
use image::RgbImage;
use porthole::{
    engine::{
        Engine, EngineError, Event, EventStream, FinishReason, Health, Input, Inquiry, Job,
        ModelInfo, OnEnd, Part, Prompt, PromptTokens, Reasoning, Role, SamplingParams, TokenUsage,
        Turn,
    },
    media::budget::ImageGeometry,
    state::EngineState,
};
use tokio::sync::watch;

use super::helpers::{TestServer, config, start};

pub struct FakeEngine {
    info: ModelInfo,
    pub health: watch::Sender<Health>,
    /// Every request it was asked.
    pub asked: Arc<Mutex<Vec<Asked>>>,
    /// Sequences that it says it computes at once.
    pub width: AtomicUsize,
    /// Generations under way.
    pub running: Arc<AtomicUsize>,
}

impl FakeEngine {
    pub fn new() -> Arc<Self> {
        let geometry = ImageGeometry::patches(32, 4_096, 1 << 22);
        Arc::new(Self {
            info: ModelInfo {
                geometry: Some(geometry),
                context_length: 4096,
                vocabulary: 1000,
                fingerprint: "fp_fake".into(),
                tools: true,
                reasoning: Reasoning::Optional,
            },
            health: watch::Sender::new(Health::Up),
            asked: Arc::default(),
            width: AtomicUsize::new(1_000),
            running: Arc::default(),
        })
    }

    pub fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// A server on a fake engine.
pub fn fake_server() -> (TestServer, Arc<FakeEngine>) {
    let engine = FakeEngine::new();
    (start(config(), EngineState::Loaded(engine.clone())), engine)
}

/// What the engine was asked to answer.
#[derive(Clone, Debug)]
pub struct Asked {
    pub turns: Vec<Turn>,
    pub inquiry: Inquiry,
    pub images: Vec<RgbImage>,
    pub sampling: SamplingParams,
}

struct FakePrompt {
    inquiry: Inquiry,
    asked: Arc<Mutex<Vec<Asked>>>,
    running: Arc<AtomicUsize>,
}

/// Tokens of every prompt, and of its images.
pub const PROMPT: PromptTokens = PromptTokens {
    total: 10,
    image: 4,
};

fn turns(inquiry: &Inquiry) -> Vec<Turn> {
    match &inquiry.input {
        Input::Chat(turns) => turns.clone(),
        Input::Text(text) => vec![Turn::new(Role::User, vec![Part::Text(text.clone())])],
        Input::Tokens(ids) => {
            let text = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            vec![Turn::new(Role::User, vec![Part::Text(text)])]
        }
    }
}

fn last_text(turns: &[Turn]) -> String {
    let parts = &turns.last().unwrap().parts;
    let text = parts.iter().rev().find_map(|part| match part {
        Part::Text(text) => Some(text.clone()),
        Part::Image(_) => None,
    });
    text.unwrap_or_else(|| "an image".into())
}

#[async_trait::async_trait]
impl Engine for FakeEngine {
    /// "refuse" is an early error.
    async fn prepare(&self, inquiry: Inquiry) -> Result<Box<dyn Prompt>, EngineError> {
        if last_text(&turns(&inquiry)) == "refuse" {
            return Err(EngineError::ContextLengthExceeded {
                prompt: 5000,
                context: 4096,
                at_least: false,
            });
        }
        Ok(Box::new(FakePrompt {
            inquiry,
            asked: self.asked.clone(),
            running: self.running.clone(),
        }))
    }

    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn width(&self) -> usize {
        self.width.load(Ordering::SeqCst)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

/// Tells the end, with the words said so far as tokens, when the stream is dropped.
struct Running {
    running: Arc<AtomicUsize>,
    said: usize,
    on_end: Option<OnEnd>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        if let Some(on_end) = self.on_end.take() {
            on_end(TokenUsage {
                prompt: PROMPT.total,
                image: PROMPT.image,
                completion: self.said,
                reasoning: 0,
            });
        }
    }
}

#[async_trait::async_trait]
impl Prompt for FakePrompt {
    fn tokens(&self) -> PromptTokens {
        PROMPT
    }

    fn ids(&self) -> Vec<u32> {
        (0..u32::try_from(PROMPT.total).unwrap()).collect()
    }

    fn count(&self, text: &str) -> usize {
        text.split(' ').count()
    }

    /// "fail" is an error after the first word, "hang" says one word and no more, "mute" says
    /// nothing at all, "endless" talks for ever; all else is echoed word by word.
    async fn generate(&self, job: Job) -> Result<EventStream, EngineError> {
        let turns = turns(&self.inquiry);
        let text = last_text(&turns);
        self.asked.lock().unwrap().push(Asked {
            turns,
            inquiry: self.inquiry.clone(),
            images: job.images.to_vec(),
            sampling: job.sampling,
        });
        let usage = TokenUsage {
            prompt: PROMPT.total,
            image: PROMPT.image,
            completion: text.split(' ').count() + 1,
            reasoning: 0,
        };
        let words: Vec<_> = text
            .split_inclusive(' ')
            .map(|word| Ok(Event::text(word)))
            .collect();
        let failed = || Err(EngineError::Failed("secret inside".into()));
        let one = || Ok(Event::text("one "));
        let events: EventStream = match text.as_str() {
            "fail at once" => Box::pin(stream::iter([failed()])),
            "fail" => Box::pin(stream::iter([one(), failed()])),
            "hang" => Box::pin(stream::iter([one()]).chain(stream::pending())),
            "mute" => Box::pin(stream::pending()),
            "endless" => Box::pin(stream::repeat_with(move || {
                Ok(Event::text("word ".repeat(200)))
            })),
            _ => {
                let end = Event::Finished {
                    reason: FinishReason::Stop,
                    usage,
                };
                Box::pin(stream::iter(words).chain(stream::iter([Ok(end)])))
            }
        };
        self.running.fetch_add(1, Ordering::SeqCst);
        let mut running = Running {
            running: self.running.clone(),
            said: 0,
            on_end: Some(job.on_end),
        };
        Ok(Box::pin(events.map(move |event| {
            // All of it moves in here, not a copy of a number in it.
            let running = &mut running;
            running.said = match &event {
                Ok(Event::Finished { usage, .. }) => usage.completion,
                Ok(_) | Err(_) => running.said + 1,
            };
            event
        })))
    }
}
