//! The mistral.rs engine, in this process.
//!
//! What it is known to do wrong (0.8.1, measured) shapes these files: it mixes sequences that it
//! computes together, so they pass a [`Lane`]; a panic on its thread ends every sequence without a
//! word, so each has a forwarder that notices (`sequence.rs`) and a supervisor that brings the
//! engine back (`supervisor.rs`); it awaits every reader, so the forwarder drains it at once.

mod load;
mod self_check;
mod sequence;
mod supervisor;

use std::sync::{
    Arc, RwLock,
    atomic::{AtomicBool, Ordering},
};

use either::Either;
use mistralrs::{
    ModelGenerationDefaults, Request,
    core::{MistralRs, TokenizationRequest},
};
use tokio::sync::{mpsc, watch};

use super::{
    Engine, EngineError, EventStream, Health, Job, ModelInfo, Prompt, PromptTokens, Turn, convert,
    lane::Lane, neutralize::Neutralizer,
};
use crate::{config::ModelConfig, metrics::Metrics};

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
    metrics: Arc<Metrics>,
    info: ModelInfo,
    defaults: Option<ModelGenerationDefaults>,
    neutralizer: Neutralizer,
    tokenizer: load::TokenCounter,
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
            salt: uuid::Uuid::new_v4().as_u64_pair().0,
            fault: Arc::new(AtomicBool::new(false)),
            config,
            metrics,
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
    async fn prepare(&self, turns: Vec<Turn>) -> Result<Box<dyn Prompt>, EngineError> {
        let shared = self.shared.clone();
        // Megabytes of text may have to be searched.
        let prompt = tokio::task::spawn_blocking(move || {
            let prompt = convert::prompt(turns, &shared.neutralizer);
            shared.refuse_hopeless(&prompt).map(|()| prompt)
        })
        .await
        .map_err(|e| EngineError::Failed(e.to_string()))??;

        let info = &self.shared.info;
        let of_image = |size: &(u32, u32)| info.geometry.tokens(*size);
        let image: usize = prompt.cohort.iter().map(of_image).sum();
        let counted = self.shared.count_tokens(&prompt).await?;
        let total = counted + image - prompt.cohort.len();
        if total >= info.context_length {
            return Err(EngineError::ContextLengthExceeded {
                prompt: total,
                context: info.context_length,
                at_least: false,
            });
        }
        Ok(Box::new(Prepared {
            shared: self.shared.clone(),
            prompt,
            tokens: PromptTokens { total, image },
        }))
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

/// A conversation as the engine takes it.
struct Prepared {
    shared: Arc<Shared>,
    prompt: convert::Prompt,
    tokens: PromptTokens,
}

#[async_trait::async_trait]
impl Prompt for Prepared {
    fn tokens(&self) -> PromptTokens {
        self.tokens
    }

    async fn generate(self: Box<Self>, job: Job) -> Result<EventStream, EngineError> {
        let Self {
            shared,
            prompt,
            tokens,
        } = *self;
        let (images, salt) = (job.images, shared.salt);
        let images = if images.is_empty() {
            Vec::new()
        } else {
            // Megabytes of pixels have to be copied.
            tokio::task::spawn_blocking(move || convert::images(&images, salt))
                .await
                .map_err(|e| EngineError::Failed(e.to_string()))?
        };
        let room = shared.info.context_length - tokens.total;
        let max_tokens = job.sampling.max_tokens.unwrap_or(room).min(room);
        let sequence = sequence::Job {
            params: convert::sampling(&job.sampling, shared.defaults.as_ref(), max_tokens),
            stop: job.sampling.stop,
            prompt,
            images,
            prompt_tokens: tokens.total,
            image_tokens: tokens.image,
            max_tokens,
        };
        // As deep as the answer is long: the engine never waits for a slow reader, and what a
        // reader can make it hold is bounded by max_tokens.
        let (events, mut stream) = mpsc::unbounded_channel();
        tokio::spawn(sequence::run(shared, sequence, events, job.on_end));
        Ok(Box::pin(futures::stream::poll_fn(move |context| {
            stream.poll_recv(context)
        })))
    }
}

impl Shared {
    fn runner(&self) -> Arc<MistralRs> {
        self.runner
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Refuses text so long that counting it exactly, which the engine does on its own thread,
    /// would keep the others waiting.
    fn refuse_hopeless(&self, prompt: &convert::Prompt) -> Result<(), EngineError> {
        let context = self.info.context_length;
        // A token stands for at least one byte.
        if prompt.text_bytes <= context {
            return Ok(());
        }
        let texts = prompt
            .messages
            .iter()
            .flat_map(|message| match &message["content"] {
                Either::Left(_) => &[][..],
                Either::Right(parts) => parts,
            });
        let texts = texts.filter_map(|part| part.get("text").and_then(serde_json::Value::as_str));
        let tokens = self.tokenizer.at_least(texts, context);
        if tokens >= context {
            return Err(EngineError::ContextLengthExceeded {
                prompt: tokens,
                context,
                at_least: true,
            });
        }
        Ok(())
    }

    /// Tokens of the prompt as the engine's own template and tokenizer make them, each image counted
    /// as one.
    async fn count_tokens(&self, prompt: &convert::Prompt) -> Result<usize, EngineError> {
        let (response, mut answer) = mpsc::channel(1);
        let request = Request::Tokenize(TokenizationRequest {
            text: Either::Left(prompt.messages.clone()),
            tools: None,
            add_generation_prompt: true,
            add_special_tokens: true,
            enable_thinking: None,
            reasoning_effort: None,
            response,
        });
        let sender = self.sender()?;
        // The engine panics when nobody waits for this answer, so a task waits whatever becomes of
        // the client.
        let waiting = tokio::spawn(async move {
            sender.send(request).await.ok()?;
            answer.recv().await
        });
        match waiting.await {
            Ok(Some(Ok(tokens))) => Ok(tokens.len()),
            Ok(Some(Err(e))) => Err(EngineError::InvalidInput(format!(
                "the chat template refused the messages: {e}"
            ))),
            Ok(None) | Err(_) => Err(EngineError::Unavailable("the engine is away".into())),
        }
    }

    fn sender(&self) -> Result<mpsc::Sender<Request>, EngineError> {
        self.runner()
            .get_sender(None)
            .map_err(|e| EngineError::Unavailable(e.to_string()))
    }
}
