//! What becomes of each field of `POST /v1/responses`, in one table (see `openai::fields`).

use serde_json::{Value, json};

use crate::openai::fields::Rule;

/// Every top-level field (OpenAI's API reference, 2026) and its rule.
pub const FIELDS: &[(&str, Rule)] = &[
    ("model", Rule::Honoured),
    ("input", Rule::Honoured),
    ("instructions", Rule::Honoured),
    ("max_output_tokens", Rule::Honoured),
    ("temperature", Rule::Honoured),
    ("top_p", Rule::Honoured),
    ("tools", Rule::Honoured),
    ("tool_choice", Rule::Honoured),
    ("parallel_tool_calls", Rule::Honoured),
    ("text", Rule::Honoured),
    ("reasoning", Rule::Honoured),
    ("include", Rule::Honoured),
    ("top_logprobs", Rule::Honoured),
    ("stream", Rule::Honoured),
    ("stream_options", Rule::Honoured),
    ("service_tier", Rule::Honoured),
    // Given back in the answer.
    ("metadata", Rule::Honoured),
    ("user", Rule::Accepted),
    ("safety_identifier", Rule::Accepted),
    ("prompt_cache_key", Rule::Accepted),
    ("prompt_cache_options", Rule::Accepted),
    ("prompt_cache_retention", Rule::Accepted),
    // Nothing is ever stored.
    ("store", Rule::Accepted),
    // It counts calls of hosted tools, which are refused.
    ("max_tool_calls", Rule::Accepted),
    ("previous_response_id", Rule::Refused),
    ("conversation", Rule::Refused),
    ("background", Rule::Refused),
    ("background_options", Rule::Refused),
    ("prompt", Rule::Refused),
    ("truncation", Rule::Refused),
    ("context_management", Rule::Refused),
    ("moderation", Rule::Refused),
    ("image", Rule::Refused),
    ("access_programs", Rule::Refused),
];

/// The values of a field, besides null, that ask for nothing that differs from leaving it out.
pub fn nothing(name: &str) -> Vec<Value> {
    match name {
        "background" | "store" => vec![json!(false)],
        "truncation" => vec![json!("disabled")],
        "context_management" => vec![json!([])],
        _ => Vec::new(),
    }
}
