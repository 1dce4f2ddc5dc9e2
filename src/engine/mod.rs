//! The seam between the gateway and a model: what is asked is prepared, then answered as a stream.
//!
//! A plain answer is the stream, collected, so both modes share limits, errors and cancellation.
//! The real engine is in [`mistral`]; the tests bring a deterministic one of their own.

#[cfg(feature = "mistralrs")]
mod convert;
mod inquiry;
pub mod lane;
#[cfg(feature = "mistralrs")]
pub mod mistral;
pub mod neutralize;
pub mod stop;

use std::{borrow::Cow, pin::Pin, sync::Arc};

use futures::Stream;
use image::RgbImage;
use tokio::sync::watch;

pub use crate::openai::message::Role;
use crate::{media::budget::ImageGeometry, metrics::Activity};
pub use inquiry::{
    Effort, Format, Input, Inquiry, Part, Tool, ToolCall, ToolChoice, Toolbox, Turn,
};

/// A loaded model that continues conversations.
#[async_trait::async_trait]
pub trait Engine: Send + Sync {
    /// Renders what is asked and counts its tokens. Of an image only the size is needed, so that a
    /// request can be refused before a pixel is decoded.
    ///
    /// # Errors
    /// A prompt that does not fit, what this model cannot do, an engine that is away.
    async fn prepare(&self, inquiry: Inquiry) -> Result<Box<dyn Prompt>, EngineError>;

    /// What is fixed when a model is loaded.
    fn info(&self) -> &ModelInfo;

    /// Sequences that it computes at once.
    fn width(&self) -> usize;

    /// Replicas of it that can answer now.
    fn replicas_up(&self) -> usize {
        usize::from(*self.health().borrow() == Health::Up)
    }

    /// Whether it can answer now; changes when it dies and comes back.
    fn health(&self) -> watch::Receiver<Health>;
}

/// An inquiry that was rendered and counted.
#[async_trait::async_trait]
pub trait Prompt: Send + Sync {
    /// Its tokens; at least one more fits.
    fn tokens(&self) -> PromptTokens;

    /// The ids of its tokens, each image as one placeholder.
    fn ids(&self) -> Vec<u32>;

    /// Tokens of a text by itself. May take a while on long ones.
    fn count(&self, text: &str) -> usize;

    /// Starts one answer; it may be asked for several. Dropping the stream cancels the generation.
    ///
    /// # Errors
    /// What can be told before the first token: an engine that is away.
    async fn generate(&self, job: Job) -> Result<EventStream, EngineError>;
}

/// What is fixed when a model is loaded.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// How the model cuts images into tokens; `None` for one that sees none.
    pub geometry: Option<ImageGeometry>,
    /// Longest prompt plus answer, in tokens.
    pub context_length: usize,
    /// Tokens that it knows: ids are below this.
    pub vocabulary: usize,
    /// Names the build and the weights.
    pub fingerprint: String,
    /// Its chat template renders tools, and calls of them are understood.
    pub tools: bool,
    /// Whether it thinks before it answers.
    pub reasoning: Reasoning,
}

/// Whether a model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reasoning {
    /// It does not.
    Never,
    /// It does unless told not to.
    Optional,
    /// Its template always has it think.
    Always,
}

/// Whether an engine can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Up,
    /// Not now, for this reason; it is being brought back.
    Recovering(String),
    /// Never again in this process, for this reason.
    Lost(String),
}

/// The events of one generation. After an error or `Finished` it ends.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, EngineError>> + Send>>;

/// How to make one answer.
pub struct Job {
    /// The images, each of the size that was told.
    pub images: Arc<Vec<RgbImage>>,
    /// How to choose tokens, and when to stop.
    pub sampling: SamplingParams,
    /// Told by the engine when the sequence begins to run, and dropped when it has let go of it.
    pub activity: Activity,
    /// Called when the engine has let go of the sequence, which may be after the stream was
    /// dropped, with what was really read and written. Dropped uncalled if the engine never had it.
    pub on_end: OnEnd,
}

/// See [`Job::on_end`].
pub type OnEnd = Box<dyn FnOnce(TokenUsage) + Send>;

/// How to choose tokens, and when to stop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy; `None` is the model's default.
    pub temperature: Option<f64>,
    /// Nucleus; `None` is the model's default.
    pub top_p: Option<f64>,
    /// Most tokens to choose from; `None` is the model's default, 0 all.
    pub top_k: Option<usize>,
    /// Least probability of a token, as a part of the likeliest one's; `None` is the model's default.
    pub min_p: Option<f64>,
    /// Taken from the logit of every token that the answer has, once.
    pub presence_penalty: f64,
    /// Taken from the logit of every token that the answer has, as often as it has it.
    pub frequency_penalty: f64,
    /// Divides the positive and multiplies the negative logits of tokens that prompt or answer
    /// have; `None` is the model's default.
    pub repetition_penalty: Option<f64>,
    /// Added to the logits of tokens, before all else.
    pub logit_bias: Vec<(u32, f64)>,
    /// The same seed, prompt and parameters give the same answer.
    pub seed: Option<u64>,
    /// Longest answer in tokens; `None` is what the context has room for.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer and are not part of it. Where the form of the answer is JSON they
    /// have no effect.
    pub stop: Vec<String>,
    /// Tell how likely each token was, and so many others beside it.
    pub logprobs: Option<usize>,
}

/// A step of a generation.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More text, and its tokens where they were asked for. The text may be empty where a token
    /// ends inside a character.
    Text {
        /// The text.
        text: String,
        /// Its tokens.
        tokens: Vec<TokenLogprob>,
    },
    /// More of what it thinks before it answers; never empty.
    Reasoning(String),
    /// A call begins; its arguments follow.
    Call {
        /// Its place among the answer's calls.
        index: usize,
        /// `call_...`
        id: String,
        /// The tool.
        name: String,
    },
    /// More of the arguments of the call that began last; never empty.
    Arguments {
        /// The call's place.
        index: usize,
        /// JSON, cut anywhere.
        text: String,
    },
    /// The end.
    Finished {
        /// Why.
        reason: FinishReason,
        /// What was read and written.
        usage: TokenUsage,
    },
}

impl Event {
    /// Text whose tokens were not asked for.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text {
            text: text.into(),
            tokens: Vec::new(),
        }
    }
}

/// How likely a token was.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: LikelyToken,
    /// The likeliest ones in its place, likeliest first.
    pub top: Vec<LikelyToken>,
}

/// A token and how likely it is.
#[derive(Debug, Clone, PartialEq)]
pub struct LikelyToken {
    /// What it says; may be part of a character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, as the model gave it: before temperature, penalties and
    /// biases.
    pub logprob: f32,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its turn, or a stop sequence came.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// The model called tools.
    ToolCalls,
}

impl FinishReason {
    /// OpenAI's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
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
    /// Of those, thought and not said.
    pub reasoning: usize,
}

impl TokenUsage {
    /// What another answer to the same prompt adds: the prompt is counted once.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            completion: self.completion + other.completion,
            reasoning: self.reasoning + other.reasoning,
            ..self
        }
    }
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
    /// This model cannot do what a field asks for; the words are for the client.
    #[error("{message}")]
    Refused {
        /// The field.
        param: Cow<'static, str>,
        /// A word for programs.
        code: &'static str,
        /// What is wrong.
        message: String,
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
