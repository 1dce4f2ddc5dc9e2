//! The mistral.rs engine, in this process.
//!
//! What it is known to do wrong (0.8.1, measured) shapes these files: it mixes sequences that it
//! computes together, so they pass a [`Lane`]; a panic on its thread ends every sequence without a
//! word, so each has a forwarder that notices (`sequence.rs`) and a supervisor that brings the
//! engine back (`supervisor.rs`); it awaits every reader, so the forwarder drains it at once.

mod chooser;
mod geometry;
mod grammar;
mod load;
mod prepare;
mod reader;
mod sampling;
mod self_check;
mod sequence;
mod supervisor;
mod template;

use std::sync::{
    Arc, RwLock,
    atomic::{AtomicBool, Ordering},
};

use mistralrs::{ModelGenerationDefaults, Request, core::MistralRs};
use tokenizers::Tokenizer;
use tokio::sync::{mpsc, watch};

use super::{
    Engine, EngineError, EventStream, Health, Inquiry, Job, ModelInfo, Prompt, PromptTokens,
    convert, lane::Lane, neutralize::Neutralizer,
};
use crate::{
    config::ModelConfig,
    metrics::{Metrics, ModelMetrics},
};
use grammar::{CallTokens, Grammars};
use prepare::Prepared;
use template::ChatTemplate;

/// A model loaded into mistral.rs.
pub struct MistralEngine {
    shared: Arc<Shared>,
}

/// What the engine, its forwarders and its supervisor share.
struct Shared {
    config: ModelConfig,
    /// Replaced when the engine has to be loaded anew.
    runner: RwLock<Arc<MistralRs>>,
    lane: Arc<Lane>,
    health: watch::Sender<Health>,
    metrics: Arc<ModelMetrics>,
    info: ModelInfo,
    defaults: Option<ModelGenerationDefaults>,
    neutralizer: Neutralizer,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    grammars: Grammars,
    calls: Option<CallTokens>,
    /// What opens and closes a thought.
    thoughts: Option<(u32, u32)>,
    /// Tokens that end an answer.
    ends: Arc<[u32]>,
    /// Tokens that stand for images.
    never: Arc<[u32]>,
    /// Secret of this process in every image's mark.
    salt: u64,
    /// See [`MistralEngine::panic_at_next_token`].
    fault: Arc<AtomicBool>,
}

impl MistralEngine {
    /// Loads the model and proves by a generation that it answers. Blocks for as long as that takes,
    /// which is minutes for large models; progress bars go to the terminal.
    ///
    /// # Errors
    /// In words for the operator: the files are missing or not understood, memory is short, the
    /// model does not answer.
    pub async fn load(config: ModelConfig, metrics: Arc<Metrics>) -> Result<Self, String> {
        let loaded = load::load(&config).await?;
        let shared = Arc::new(Shared {
            runner: RwLock::new(loaded.runner),
            lane: Lane::new(1),
            health: watch::Sender::new(Health::Up),
            info: loaded.info,
            defaults: loaded.defaults,
            neutralizer: loaded.neutralizer,
            tokenizer: loaded.tokenizer,
            template: loaded.template,
            grammars: loaded.grammars,
            calls: loaded.calls,
            thoughts: loaded.thoughts,
            ends: loaded.ends,
            never: loaded.never,
            salt: uuid::Uuid::new_v4().as_u64_pair().0,
            fault: Arc::new(AtomicBool::new(false)),
            metrics: metrics.model(&config.name),
            config,
        });
        supervisor::probe(&shared).await?;
        let width = self_check::proven_width(&shared, loaded.on_cpu).await;
        shared.lane.set_width(width);
        shared
            .metrics
            .engine_lane_width
            .set(i64::try_from(width).unwrap_or(i64::MAX));
        Ok(Self { shared })
    }

    /// Makes the engine's thread panic when it next chooses a token: how the tests provoke what
    /// must never happen.
    pub fn panic_at_next_token(&self) {
        self.shared.fault.store(true, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Engine for MistralEngine {
    async fn prepare(&self, inquiry: Inquiry) -> Result<Box<dyn Prompt>, EngineError> {
        let shared = self.shared.clone();
        // Megabytes of text may have to be searched, and schemas to be compiled.
        let prepared = tokio::task::spawn_blocking(move || Prepared::new(&shared, inquiry)).await;
        let prepared = prepared.map_err(|e| EngineError::Failed(e.to_string()))??;
        Ok(Box::new(prepared))
    }

    fn info(&self) -> &ModelInfo {
        &self.shared.info
    }

    fn width(&self) -> usize {
        self.shared.lane.width()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }
}

#[async_trait::async_trait]
impl Prompt for Prepared {
    fn tokens(&self) -> PromptTokens {
        self.tokens
    }

    fn ids(&self) -> Vec<u32> {
        self.ids.clone()
    }

    fn count(&self, text: &str) -> usize {
        let encoded = self.shared.tokenizer.encode_fast(text, false);
        encoded.map_or(0, |encoding| encoding.len())
    }

    async fn generate(&self, job: Job) -> Result<EventStream, EngineError> {
        let (shared, salt) = (self.shared.clone(), self.shared.salt);
        let images = if job.images.is_empty() {
            Vec::new()
        } else {
            let pixels = job.images.clone();
            let shows_alpha = shared.shows_alpha();
            // Megabytes of pixels have to be copied.
            tokio::task::spawn_blocking(move || convert::images(&pixels, salt, shows_alpha))
                .await
                .map_err(|e| EngineError::Failed(e.to_string()))?
        };
        let sequence = sequence::Job::new(self, &job, images);
        // As deep as the answer is long: the engine never waits for a slow reader, and what a
        // reader can make it hold is bounded by max_tokens.
        let (events, mut stream) = mpsc::unbounded_channel();
        let seen = (job.activity, job.on_end);
        tokio::spawn(sequence::run(shared, sequence, events, seen));
        Ok(Box::pin(futures::stream::poll_fn(move |context| {
            stream.poll_recv(context)
        })))
    }
}

impl Shared {
    fn shows_alpha(&self) -> bool {
        self.info
            .geometry
            .is_some_and(|geometry| geometry.shows_alpha())
    }

    fn runner(&self) -> Arc<MistralRs> {
        self.runner
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn sender(&self) -> Result<mpsc::Sender<Request>, EngineError> {
        self.runner()
            .get_sender(None)
            .map_err(|e| EngineError::Unavailable(e.to_string()))
    }
}
