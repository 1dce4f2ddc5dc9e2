//! The seam between the gateway and a model: one method, always a stream.
//!
//! A plain answer is the stream, collected, so both modes share limits, errors and cancellation.
//! The real engine is in [`mistral`]; the tests bring a deterministic one of their own.

#[cfg(feature = "mistralrs")]
mod convert;
pub mod lane;
#[cfg(feature = "mistralrs")]
pub mod mistral;
pub mod neutralize;
pub mod stop;

use std::pin::Pin;

use futures::Stream;
use image::RgbImage;
use tokio::sync::watch;

use crate::media::budget::ImageGeometry;
pub use crate::openai::message::Role;

/// A loaded model that turns chat messages into text.
#[async_trait::async_trait]
pub trait Engine: Send + Sync {
    /// Renders a conversation and counts its tokens. Of an image only the size is needed, so that a
    /// request can be refused before a pixel is decoded.
    ///
    /// # Errors
    /// A prompt that does not fit, an engine that is away.
    async fn prepare(&self, turns: Vec<Turn>) -> Result<Box<dyn Prompt>, EngineError>;

    /// What is fixed when a model is loaded.
    fn info(&self) -> &ModelInfo;

    /// Sequences that it computes at once.
    fn width(&self) -> usize;

    /// Whether it can answer now; changes when it dies and comes back.
    fn health(&self) -> watch::Receiver<Health>;
}

/// A conversation that was rendered and counted.
#[async_trait::async_trait]
pub trait Prompt: Send {
    /// Its tokens; at least one more fits.
    fn tokens(&self) -> PromptTokens;

    /// Starts generating. Dropping the stream cancels the generation.
    ///
    /// # Errors
    /// What can be told before the first token: an engine that is away.
    async fn generate(self: Box<Self>, job: Job) -> Result<EventStream, EngineError>;
}

/// What is fixed when a model is loaded.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// How the model cuts images into tokens.
    pub geometry: ImageGeometry,
    /// Longest prompt plus answer, in tokens.
    pub context_length: usize,
    /// Names the build and the weights.
    pub fingerprint: String,
}

/// Whether an engine can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Up,
    /// Not now, for this reason; it is being brought back.
    Recovering(String),
}

/// The events of one generation. After an error or `Finished` it ends.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, EngineError>> + Send>>;

/// How to continue a conversation.
pub struct Job {
    /// Its images, each of the size that was told.
    pub images: Vec<RgbImage>,
    /// How to choose tokens, and when to stop.
    pub sampling: SamplingParams,
    /// Called when the engine has let go of the sequence, which may be after the stream was
    /// dropped, with what was really read and written. Dropped uncalled if the engine never had it.
    pub on_end: OnEnd,
}

/// See [`Job::on_end`].
pub type OnEnd = Box<dyn FnOnce(TokenUsage) + Send>;

/// One turn.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said and shown.
    pub parts: Vec<Part>,
}

/// A piece of a turn.
#[derive(Debug, Clone)]
pub enum Part {
    /// Text, as the client sent it.
    Text(String),
    /// An image of this width and height, which [`ImageGeometry::target`] gave.
    Image((u32, u32)),
}

/// How to choose tokens, and when to stop.
#[derive(Debug, Clone, Default)]
pub struct SamplingParams {
    /// 0 is greedy; `None` is the model's default.
    pub temperature: Option<f64>,
    /// Nucleus; `None` is the model's default.
    pub top_p: Option<f64>,
    /// Longest answer in tokens; `None` is what the context has room for.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
}

/// A step of a generation.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More text; never empty.
    Delta(String),
    /// The end.
    Finished {
        /// Why.
        reason: FinishReason,
        /// What was read and written.
        usage: TokenUsage,
    },
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its turn, or a stop sequence came.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

impl FinishReason {
    /// OpenAI's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Tokens of a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptTokens {
    /// All of them.
    pub total: usize,
    /// Of the images.
    pub image: usize,
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Of the prompt, images included.
    pub prompt: usize,
    /// Of the prompt's images.
    pub image: usize,
    /// Generated, the closing one included.
    pub completion: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The prompt does not fit.
    #[error("the prompt has {prompt} tokens; the context has {context}")]
    ContextLengthExceeded {
        /// Tokens of the prompt; a lower bound when `at_least`.
        prompt: usize,
        /// Longest prompt plus answer.
        context: usize,
        /// The prompt was too long even to count.
        at_least: bool,
    },
    /// The engine refused the request.
    #[error("{0}")]
    InvalidInput(String),
    /// The engine is away; the reason is for the log.
    #[error("{0}")]
    Unavailable(String),
    /// The engine died or failed in the middle; the reason is for the log.
    #[error("{0}")]
    Failed(String),
}
