//! What clients get: completions, chunks, models, errors.

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
    /// One choice.
    pub choices: [Choice<'a>; 1],
    /// Tokens read and written.
    pub usage: Usage,
}

/// One answer.
#[derive(Debug, Serialize)]
pub struct Choice<'a> {
    /// 0
    pub index: u32,
    /// What the model said.
    pub message: AssistantMessage<'a>,
    /// Always null: log probabilities are not offered.
    pub logprobs: Option<()>,
    /// `stop` or `length`.
    pub finish_reason: &'static str,
}

/// What the model said.
#[derive(Debug, Serialize)]
pub struct AssistantMessage<'a> {
    /// `assistant`
    pub role: &'static str,
    /// The text.
    pub content: &'a str,
    /// Always null.
    pub refusal: Option<()>,
    /// Always empty.
    pub annotations: [(); 0],
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
    /// 0
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
}
