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
mod replicas;
mod sampling;
mod self_check;
mod sequence;
mod supervisor;
mod template;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mistralrs::{ModelGenerationDefaults, Request, core::MistralRs};
use tokenizers::Tokenizer;
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use super::{
    Engine, EngineError, EventStream, Health, Inquiry, Job, ModelInfo, Prompt, PromptTokens,
    convert, lane::Lane, neutralize::Neutralizer,
};
use crate::{
    config::ModelConfig,
    metrics::{Metrics, ModelMetrics},
};
use grammar::{CallTokens, Grammars};
use load::Place;
use prepare::Prepared;
use replicas::Replicas;
use template::ChatTemplate;

/// A model loaded into mistral.rs, once or several times.
pub struct MistralEngine {
    replicas: Arc<Replicas>,
    salt: u64,
}

/// What one replica, its forwarders and its supervisor share.
struct Shared {
    config: ModelConfig,
    /// Where it runs; `None` for what `config.device` says.
    device: Option<Place>,
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
    /// Answers that it has been given and not let go of.
    busy: AtomicUsize,
    /// When it was lately tried to bring it back.
    revivals: Mutex<VecDeque<Instant>>,
    /// See [`MistralEngine::panic_at_next_token`].
    fault: Arc<AtomicBool>,
}

impl MistralEngine {
    /// Loads the model as often as the configuration says, and proves each time by a generation that
    /// it answers. Blocks for as long as that takes, which is minutes for large models; progress bars
    /// go to the terminal.
    ///
    /// # Errors
    /// In words for the operator: the files are missing or not understood, memory is short, the
    /// model does not answer.
    pub async fn load(config: ModelConfig, metrics: Arc<Metrics>) -> Result<Self, String> {
        let salt = uuid::Uuid::new_v4().as_u64_pair().0;
        let devices = config.devices.iter().map(|name| Place::parse(name));
        let devices = devices.collect::<Result<Vec<_>, _>>()?;
        let mut places = devices.iter().copied().map(Some).cycle();
        let mut place = move || places.next().flatten();
        // One after the other: each takes all the machine has while it is loaded.
        let first = Shared::load(&config, place(), salt, &metrics).await?;
        let mut more = Vec::new();
        for _ in 1..config.replicas {
            more.push(Shared::load(&config, place(), salt, &metrics).await?);
        }
        let replicas = Replicas::new(first, more);
        let width = i64::try_from(replicas.width()).unwrap_or(i64::MAX);
        metrics.model(&config.name).engine_lane_width.set(width);
        Ok(Self { replicas, salt })
    }

    /// Makes the thread of the first replica panic when it next chooses a token: how the tests
    /// provoke what must never happen.
    pub fn panic_at_next_token(&self) {
        self.replicas.first().fault.store(true, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Engine for MistralEngine {
    async fn prepare(&self, inquiry: Inquiry) -> Result<Box<dyn Prompt>, EngineError> {
        // All replicas read the same files: what one makes of an inquiry holds for each.
        let shared = self.replicas.least_busy()?;
        // Megabytes of text may have to be searched, and schemas to be compiled.
        let prepared = tokio::task::spawn_blocking(move || Prepared::new(&shared, inquiry)).await;
        let prepared = prepared.map_err(|e| EngineError::Failed(e.to_string()))??;
        Ok(Box::new(Counted {
            prepared,
            replicas: self.replicas.clone(),
            salt: self.salt,
        }))
    }

    fn info(&self) -> &ModelInfo {
        self.replicas.info()
    }

    fn width(&self) -> usize {
        self.replicas.width()
    }

    fn replicas_up(&self) -> usize {
        self.replicas.up()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.replicas.health()
    }
}

/// A prompt that any of the replicas can answer.
struct Counted {
    prepared: Prepared,
    replicas: Arc<Replicas>,
    salt: u64,
}

#[async_trait::async_trait]
impl Prompt for Counted {
    fn tokens(&self) -> PromptTokens {
        self.prepared.tokens
    }

    fn ids(&self) -> Vec<u32> {
        self.prepared.ids.clone()
    }

    fn count(&self, text: &str) -> usize {
        let encoded = self.prepared.shared.tokenizer.encode_fast(text, false);
        encoded.map_or(0, |encoding| encoding.len())
    }

    async fn generate(&self, job: Job) -> Result<EventStream, EngineError> {
        let images = if job.images.is_empty() {
            Vec::new()
        } else {
            let (pixels, salt) = (job.images.clone(), self.salt);
            let shows_alpha = self.prepared.shared.shows_alpha();
            // Megabytes of pixels have to be copied.
            tokio::task::spawn_blocking(move || convert::images(&pixels, salt, shows_alpha))
                .await
                .map_err(|e| EngineError::Failed(e.to_string()))?
        };
        let sequence = sequence::Job::new(&self.prepared, &job, images);
        // As deep as the answer is long: the engine never waits for a slow reader, and what a
        // reader can make it hold is bounded by max_tokens.
        let (events, mut stream) = mpsc::unbounded_channel();
        let seen = (job.activity, job.on_end);
        let run = sequence::run(self.replicas.clone(), sequence, events, seen);
        tokio::spawn(run.in_current_span());
        Ok(Box::pin(futures::stream::poll_fn(move |context| {
            stream.poll_recv(context)
        })))
    }
}

impl Shared {
    /// Loads one replica.
    async fn load(
        config: &ModelConfig,
        device: Option<Place>,
        salt: u64,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, String> {
        let loaded = load::load(config, device).await?;
        let wait = Duration::from_micros(config.batch_timeout_micros);
        let shared = Arc::new(Self {
            runner: RwLock::new(loaded.runner),
            lane: Lane::new(1, wait),
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
            salt,
            busy: AtomicUsize::new(0),
            revivals: Mutex::default(),
            fault: Arc::default(),
            device,
            config: config.clone(),
            metrics: metrics.model(&config.name),
        });
        supervisor::probe(&shared).await?;
        let width = self_check::proven_width(&shared, loaded.on_cpu).await;
        shared.lane.set_width(width);
        Ok(shared)
    }

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
