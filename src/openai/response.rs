//! What clients get: completions, chunks, models, errors.

use std::borrow::Cow;

use serde::Serialize;

/// The answer to `POST /v1/chat/completions` without `stream`.
#[derive(Debug, Serialize)]
pub struct ChatCompletion<'a> {
    /// `chatcmpl-...`
    pub id: &'a str,
    /// `chat.completion`
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's name as the client called it.
    pub model: &'a str,
    /// Names the build and the weights.
    pub system_fingerprint: &'a str,
    /// What it was served as.
    pub service_tier: &'static str,
    /// The answers, in order of their index.
    pub choices: Vec<Choice<'a>>,
    /// Tokens read and written.
    pub usage: Usage,
}

/// One answer.
#[derive(Debug, Serialize)]
pub struct Choice<'a> {
    /// Its place among the answers.
    pub index: usize,
    /// What the model said.
    pub message: AssistantMessage<'a>,
    /// How likely its tokens were; null where that was not asked for.
    pub logprobs: Option<Logprobs<'a>>,
    /// `stop`, `length` or `tool_calls`.
    pub finish_reason: &'static str,
}

/// What the model said.
#[derive(Debug, Serialize)]
pub struct AssistantMessage<'a> {
    /// `assistant`
    pub role: &'static str,
    /// The text; null where the model only called tools.
    pub content: Option<&'a str>,
    /// Always null.
    pub refusal: Option<()>,
    /// Always empty.
    pub annotations: [(); 0],
    /// What it thought before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<&'a str>,
    /// What it calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall<'a>>,
}

/// A call of a tool.
#[derive(Debug, Serialize)]
pub struct ToolCall<'a> {
    /// `call_...`
    pub id: &'a str,
    /// `function`
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Which, and with what.
    pub function: FunctionCall<'a>,
}

/// A function and its arguments.
#[derive(Debug, Serialize)]
pub struct FunctionCall<'a> {
    /// Its name.
    pub name: &'a str,
    /// JSON.
    pub arguments: &'a str,
}

/// How likely the tokens of a text were.
#[derive(Debug, Serialize)]
pub struct Logprobs<'a> {
    /// Its tokens.
    pub content: Vec<TokenLogprob<'a>>,
    /// Always null.
    pub refusal: Option<()>,
}

/// How likely a token was.
#[derive(Debug, Serialize)]
pub struct TokenLogprob<'a> {
    /// The token.
    #[serde(flatten)]
    pub token: LikelyToken<'a>,
    /// The likeliest ones in its place, likeliest first.
    pub top_logprobs: Vec<LikelyToken<'a>>,
}

/// A token and how likely it was.
#[derive(Debug, Serialize)]
pub struct LikelyToken<'a> {
    /// Its text; replacement characters where it is part of a character.
    pub token: Cow<'a, str>,
    /// Natural logarithm of its probability; -9999 for impossible ones.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> LikelyToken<'a> {
    /// A token of these bytes.
    pub fn new(bytes: &'a [u8], logprob: f32) -> Self {
        Self {
            token: String::from_utf8_lossy(bytes),
            // JSON has no infinity; OpenAI writes this.
            logprob: logprob.max(-9999.0),
            bytes,
        }
    }
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the conversation, images included.
    pub prompt_tokens: usize,
    /// Tokens generated, the closing one included.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
    /// What the prompt's tokens are.
    pub prompt_tokens_details: PromptTokensDetails,
    /// What the completion's tokens are.
    pub completion_tokens_details: CompletionTokensDetails,
}

impl Usage {
    /// The usage of an answer whose prompt has `image_tokens` among its tokens.
    pub fn new(prompt_tokens: usize, image_tokens: usize, completion_tokens: usize) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: 0,
                image_tokens,
                text_tokens: prompt_tokens.saturating_sub(image_tokens),
                audio_tokens: 0,
            },
            completion_tokens_details: CompletionTokensDetails::default(),
        }
    }

    /// The same, of whose completion `tokens` were thought and not said.
    #[must_use]
    pub fn with_reasoning(mut self, tokens: usize) -> Self {
        self.completion_tokens_details.reasoning_tokens = tokens;
        self
    }
}

/// What the prompt's tokens are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PromptTokensDetails {
    /// Tokens that were not computed again; none are kept between requests.
    pub cached_tokens: usize,
    /// Tokens of images.
    pub image_tokens: usize,
    /// The others.
    pub text_tokens: usize,
    /// 0
    pub audio_tokens: usize,
}

/// What the completion's tokens are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CompletionTokensDetails {
    /// Tokens thought and not said.
    pub reasoning_tokens: usize,
    /// 0
    pub audio_tokens: usize,
    /// 0
    pub accepted_prediction_tokens: usize,
    /// 0
    pub rejected_prediction_tokens: usize,
}

/// A model, as `GET /v1/models` lists it.
#[derive(Debug, Serialize)]
pub struct Model<'a> {
    /// The name clients use.
    pub id: &'a str,
    /// `model`
    pub object: &'static str,
    /// Seconds since 1970 at which this server started.
    pub created: u64,
    /// `porthole`
    pub owned_by: &'static str,
}

/// The answer to `GET /v1/models`.
#[derive(Debug, Serialize)]
pub struct ModelList<'a> {
    /// `list`
    pub object: &'static str,
    /// The models.
    pub data: Vec<Model<'a>>,
}

/// The answer to `POST /v1/tokens`.
#[derive(Debug, Serialize)]
pub struct TokenResponse<'a, R: Serialize> {
    /// `token`
    pub object: &'static str,
    /// The token, for the `Authorization` header.
    pub token: &'a str,
    /// `Bearer`
    pub token_type: &'static str,
    /// Seconds since 1970.
    pub expires_at: u64,
    /// What it may do.
    pub rights: &'a R,
}

/// The one shape of every error.
#[derive(Debug, Serialize)]
pub struct ErrorBody<'a> {
    /// The error.
    pub error: ErrorObject<'a>,
}

/// An error, as clients see it.
#[derive(Debug, Serialize)]
pub struct ErrorObject<'a> {
    /// A sentence for people.
    pub message: &'a str,
    /// Its class, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The field at fault.
    pub param: Option<&'a str>,
    /// A word for programs.
    pub code: Option<&'a str>,
    /// What the header of this name says, for streams whose head has gone out.
    #[serde(rename = "x-should-retry", skip_serializing_if = "Option::is_none")]
    pub should_retry: Option<bool>,
}

/// The answer to a dry run: what a request would come to.
#[derive(Debug, Serialize)]
pub struct DryRun<'a> {
    /// `chat.completion.dry_run`
    pub object: &'static str,
    /// The model's name as the client called it.
    pub model: &'a str,
    /// Tokens of the prompt, images included.
    pub prompt_tokens: usize,
    /// What they are.
    pub prompt_tokens_details: PromptTokensDetails,
    /// The longest answer that the context has room for, in tokens.
    pub max_completion_tokens: usize,
    /// The parts of the messages, in order; what the model's template adds is in none of them.
    pub parts: Vec<DryRunPart>,
    /// The prompt's tokens, where they were asked for; an image is one placeholder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<Vec<u32>>,
    /// What is left to the caller; null where nothing is limited.
    pub limits: DryRunLimits,
}

/// What a part of a message comes to.
#[derive(Debug, Serialize)]
pub struct DryRunPart {
    /// The message's place.
    pub message: usize,
    /// The part's place in it.
    pub part: usize,
    /// Its tokens, counted by itself.
    pub tokens: usize,
    /// What it is.
    #[serde(flatten)]
    pub kind: DryRunKind,
}

/// What a part is.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DryRunKind {
    /// Text.
    Text,
    /// An image, of this size in pixels as the model would see it.
    ImageUrl {
        /// Width.
        width: u32,
        /// Height.
        height: u32,
    },
}

/// What is left to a caller a minute.
#[derive(Debug, Serialize)]
pub struct DryRunLimits {
    /// Requests.
    pub requests: Option<DryRunLimit>,
    /// Tokens.
    pub tokens: Option<DryRunLimit>,
}

/// A limit, as in the `x-ratelimit-*` headers.
#[derive(Debug, Serialize)]
pub struct DryRunLimit {
    /// The limit a minute.
    pub limit: u64,
    /// What may be used now.
    pub remaining: u64,
    /// Until all of it is there again: `120ms`, `6m0s`.
    pub reset: String,
}
