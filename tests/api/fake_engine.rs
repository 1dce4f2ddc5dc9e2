//! An engine that says what the last user text tells it to.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures::{StreamExt, stream};
use porthole::{
    engine::{
        Engine, EngineError, Event, EventStream, FinishReason, GenerateRequest, Health, ModelInfo,
        Part, TokenUsage,
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
    pub asked: Mutex<Vec<GenerateRequest>>,
    /// Generations under way.
    pub running: Arc<AtomicUsize>,
}

impl FakeEngine {
    pub fn new() -> Arc<Self> {
        let geometry = ImageGeometry {
            factor: 32,
            min_pixels: 4_096,
            max_pixels: 1 << 22,
        };
        Arc::new(Self {
            info: ModelInfo {
                geometry,
                context_length: 4096,
                fingerprint: "fp_fake".into(),
            },
            health: watch::Sender::new(Health::Up),
            asked: Mutex::default(),
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

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Engine for FakeEngine {
    /// "refuse" is an early error, "fail" one after the first word, "hang" says one word and no
    /// more, "mute" says nothing at all; all else is echoed word by word.
    async fn generate(&self, request: GenerateRequest) -> Result<EventStream, EngineError> {
        let parts = request.turns.last().unwrap().parts.clone();
        self.asked.lock().unwrap().push(request);
        let text = parts.iter().rev().find_map(|part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Image(_) => None,
        });
        let text = text.unwrap_or_else(|| "an image".into());
        let usage = TokenUsage {
            prompt: 10,
            image: 4,
            completion: text.split(' ').count() + 1,
        };
        let words: Vec<_> = text
            .split_inclusive(' ')
            .map(|word| Ok(Event::Delta(word.to_string())))
            .collect();
        let failed = || Err(EngineError::Failed("secret inside".into()));
        let events: EventStream = match text.as_str() {
            "refuse" => {
                return Err(EngineError::ContextLengthExceeded {
                    prompt: 5000,
                    context: 4096,
                    at_least: false,
                });
            }
            "fail at once" => Box::pin(stream::iter([failed()])),
            "fail" => Box::pin(stream::iter([Ok(Event::Delta("one ".into())), failed()])),
            "hang" => {
                Box::pin(stream::iter([Ok(Event::Delta("one ".into()))]).chain(stream::pending()))
            }
            "mute" => Box::pin(stream::pending()),
            _ => {
                let end = Event::Finished {
                    reason: FinishReason::Stop,
                    usage,
                };
                Box::pin(stream::iter(words).chain(stream::iter([Ok(end)])))
            }
        };
        self.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(self.running.clone());
        Ok(Box::pin(events.map(move |event| {
            let _ = &running;
            event
        })))
    }

    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}
