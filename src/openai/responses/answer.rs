//! The response object and the items of its output.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::request::{Labels, ResponsesRequest};

/// What a response tells all the time, from its first event to its last.
#[derive(Debug, Clone, Serialize)]
pub struct Head {
    /// `resp_...`
    pub id: String,
    /// `response`
    pub object: &'static str,
    /// Seconds since 1970.
    pub created_at: u64,
    /// The model's name as the client called it.
    pub model: String,
    /// Always false.
    pub background: bool,
    /// As asked for.
    pub instructions: Option<String>,
    /// As asked for.
    pub max_output_tokens: Option<usize>,
    /// Always null: there are no hosted tools.
    pub max_tool_calls: Option<()>,
    /// As asked for.
    pub metadata: Map<String, Value>,
    /// As asked for.
    pub parallel_tool_calls: bool,
    /// Always null: nothing is stored.
    pub previous_response_id: Option<()>,
    /// As asked for.
    pub prompt_cache_key: Option<String>,
    /// Effort and summary as asked for.
    pub reasoning: Value,
    /// As asked for.
    pub safety_identifier: Option<String>,
    /// The tier it is served in.
    pub service_tier: &'static str,
    /// Always false.
    pub store: bool,
    /// As asked for; null for the model's default.
    pub temperature: Option<f64>,
    /// The form of the answer, as asked for.
    pub text: Value,
    /// As asked for.
    pub tool_choice: Value,
    /// As asked for.
    pub tools: Vec<Value>,
    /// As asked for.
    pub top_logprobs: usize,
    /// As asked for; null for the model's default.
    pub top_p: Option<f64>,
    /// Always `disabled`: a prompt that does not fit is refused.
    pub truncation: &'static str,
    /// As asked for.
    pub user: Option<String>,
}

impl Head {
    /// What the answer to `request` tells.
    pub fn new(
        id: String,
        created_at: u64,
        request: &ResponsesRequest,
        tier: &'static str,
    ) -> Self {
        let Labels {
            metadata,
            user,
            safety_identifier,
            prompt_cache_key,
        } = request.labels.clone();
        let tools = request.tools.iter().map(|tool| tool.flat()).collect();
        Self {
            id,
            object: "response",
            created_at,
            model: request.model.clone(),
            background: false,
            instructions: request.instructions.clone(),
            max_output_tokens: request.max_output_tokens,
            max_tool_calls: None,
            metadata,
            parallel_tool_calls: request.parallel_tool_calls,
            previous_response_id: None,
            prompt_cache_key,
            reasoning: json!({
                "effort": request.reasoning.effort,
                "summary": request.reasoning.summary,
            }),
            safety_identifier,
            service_tier: tier,
            store: false,
            temperature: request.temperature,
            text: json!({
                "format": request.text.format.json(),
                "verbosity": request.text.verbosity,
            }),
            tool_choice: request.tool_choice.json(),
            tools,
            top_logprobs: request.logprobs.unwrap_or(0),
            top_p: request.top_p,
            truncation: "disabled",
            user,
        }
    }
}

/// A response, or how far it has come.
#[derive(Debug, Serialize)]
pub struct Response<'a> {
    /// What it tells all the time.
    #[serde(flatten)]
    pub head: &'a Head,
    /// How far it has come.
    pub status: Status,
    /// Seconds since 1970, where it is complete.
    pub completed_at: Option<u64>,
    /// Why it failed.
    pub error: Option<Failure>,
    /// Why it is incomplete.
    pub incomplete_details: Option<Incomplete>,
    /// What the model thought, said and called.
    pub output: &'a [Item],
    /// Tokens read and written, at its end.
    pub usage: Option<Usage>,
}

/// How far a response or an item has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// More comes.
    InProgress,
    /// It is whole.
    Completed,
    /// It was cut off by a limit.
    Incomplete,
    /// It broke off.
    Failed,
}

/// Why a response failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// `server_error`
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// Why a response is incomplete.
#[derive(Debug, Serialize)]
pub struct Incomplete {
    /// `max_output_tokens`
    pub reason: &'static str,
}

/// An item of the output.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    /// What the model thought.
    Reasoning {
        /// `rs_...`
        id: String,
        /// Always empty: thoughts are shown as they are.
        summary: [(); 0],
        /// The thoughts.
        content: Vec<Content>,
        /// Always null.
        encrypted_content: Option<()>,
        /// How far it has come.
        status: Status,
    },
    /// What it said.
    Message {
        /// `msg_...`
        id: String,
        /// `assistant`
        role: &'static str,
        /// The text.
        content: Vec<Content>,
        /// How far it has come.
        status: Status,
    },
    /// What it called.
    FunctionCall {
        /// `fc_...`
        id: String,
        /// What the function's output names.
        call_id: String,
        /// The function.
        name: String,
        /// JSON.
        arguments: String,
        /// How far it has come.
        status: Status,
    },
}

impl Item {
    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Reasoning { id, .. }
            | Self::Message { id, .. }
            | Self::FunctionCall { id, .. } => id,
        }
    }

    /// Thoughts that begin.
    pub fn reasoning() -> Self {
        Self::Reasoning {
            id: fresh_id("rs"),
            summary: [],
            content: Vec::new(),
            encrypted_content: None,
            status: Status::InProgress,
        }
    }

    /// Text that begins.
    pub fn message() -> Self {
        Self::Message {
            id: fresh_id("msg"),
            role: "assistant",
            content: Vec::new(),
            status: Status::InProgress,
        }
    }

    /// A call that begins.
    pub fn call(call_id: String, name: String) -> Self {
        Self::FunctionCall {
            id: fresh_id("fc"),
            call_id,
            name,
            arguments: String::new(),
            status: Status::InProgress,
        }
    }

    /// The item at its end: what it says, or a call's arguments.
    #[must_use]
    pub fn ended(mut self, text: String, logprobs: Vec<Logprob>, at_end: Status) -> Self {
        match &mut self {
            Self::Reasoning {
                content, status, ..
            } => {
                content.push(Content::ReasoningText { text });
                *status = at_end;
            }
            Self::Message {
                content, status, ..
            } => {
                content.push(Content::said(text, logprobs));
                *status = at_end;
            }
            Self::FunctionCall {
                arguments, status, ..
            } => {
                *arguments = text;
                *status = at_end;
            }
        }
        self
    }
}

/// A part of an item.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// What was said.
    OutputText {
        /// The text.
        text: String,
        /// Always empty.
        annotations: [(); 0],
        /// How likely its tokens were, where that was asked for.
        logprobs: Vec<Logprob>,
    },
    /// What was thought.
    ReasoningText {
        /// The text.
        text: String,
    },
}

impl Content {
    /// What was said.
    pub fn said(text: String, logprobs: Vec<Logprob>) -> Self {
        Self::OutputText {
            text,
            annotations: [],
            logprobs,
        }
    }
}

/// How likely a token was.
#[derive(Debug, Clone, Serialize)]
pub struct Logprob {
    /// The token; what is not text in it is shown as U+FFFD.
    pub token: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens in its place.
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token that might have been.
#[derive(Debug, Clone, Serialize)]
pub struct TopLogprob {
    /// The token; what is not text in it is shown as U+FFFD.
    pub token: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Of the conversation, images included.
    pub input_tokens: usize,
    /// What they are.
    pub input_tokens_details: InputDetails,
    /// Generated, the closing one included.
    pub output_tokens: usize,
    /// What they are.
    pub output_tokens_details: OutputDetails,
    /// Both.
    pub total_tokens: usize,
}

impl Usage {
    /// Tokens of an answer, `reasoning` of them thoughts.
    pub fn new(input_tokens: usize, output_tokens: usize, reasoning_tokens: usize) -> Self {
        Self {
            input_tokens,
            input_tokens_details: InputDetails::default(),
            output_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens },
            total_tokens: input_tokens + output_tokens,
        }
    }
}

/// What the tokens read are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct InputDetails {
    /// Tokens that were not computed again; none are kept between requests.
    pub cached_tokens: usize,
    /// Tokens that were kept for later.
    pub cache_write_tokens: usize,
}

/// What the tokens written are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OutputDetails {
    /// Thought and not said.
    pub reasoning_tokens: usize,
}

/// An id that nothing else has.
pub fn fresh_id(kind: &str) -> String {
    format!("{kind}_{}", uuid::Uuid::new_v4().simple())
}
