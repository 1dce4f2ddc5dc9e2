//! What becomes of each request field, in one table.
//!
//! A field is honoured; or it cannot change the answer and is accepted (and told in the
//! `x-porthole-ignored` header); or it asks for what this server cannot do and is refused by name.
//! A refused field is still welcome with the value that asks for nothing, since SDKs send defaults.

use super::json::Json;

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Changes the answer as documented.
    Honoured,
    /// Cannot change the answer; its name goes into `x-porthole-ignored`.
    Accepted,
    /// Refused, unless its value asks for nothing.
    Refused,
}

/// Every top-level field of chat completions (OpenAI's API reference, 2026) and its rule.
pub const FIELDS: &[(&str, Rule)] = &[
    ("model", Rule::Honoured),
    ("messages", Rule::Honoured),
    ("temperature", Rule::Honoured),
    ("top_p", Rule::Honoured),
    ("max_completion_tokens", Rule::Honoured),
    ("max_tokens", Rule::Honoured),
    ("stop", Rule::Honoured),
    ("stream", Rule::Honoured),
    ("stream_options", Rule::Honoured),
    ("user", Rule::Accepted),
    ("safety_identifier", Rule::Accepted),
    ("metadata", Rule::Accepted),
    ("store", Rule::Accepted),
    ("service_tier", Rule::Honoured),
    ("prompt_cache_key", Rule::Accepted),
    ("prompt_cache_options", Rule::Accepted),
    ("prompt_cache_retention", Rule::Accepted),
    ("prediction", Rule::Accepted),
    ("verbosity", Rule::Accepted),
    ("parallel_tool_calls", Rule::Accepted),
    ("n", Rule::Refused),
    ("seed", Rule::Refused),
    ("logprobs", Rule::Refused),
    ("top_logprobs", Rule::Refused),
    ("logit_bias", Rule::Refused),
    ("presence_penalty", Rule::Refused),
    ("frequency_penalty", Rule::Refused),
    ("response_format", Rule::Refused),
    ("tools", Rule::Refused),
    ("tool_choice", Rule::Refused),
    ("reasoning_effort", Rule::Refused),
    ("modalities", Rule::Refused),
    ("audio", Rule::Refused),
    ("moderation", Rule::Refused),
    ("web_search_options", Rule::Refused),
    ("functions", Rule::Refused),
    ("function_call", Rule::Refused),
];

/// The rule of a field; `None` for one that OpenAI does not have either.
pub fn rule(field: &str) -> Option<Rule> {
    FIELDS
        .iter()
        .find(|(name, _)| *name == field)
        .map(|(_, rule)| *rule)
}

/// Whether a refused field's value asks for nothing that differs from leaving it out.
pub fn asks_for_nothing(field: &str, value: &Json<'_>) -> bool {
    let is_text = |value: &Json<'_>, text: &str| matches!(value, Json::String(s) if s == text);
    match field {
        "n" => matches!(value, Json::Number(n) if n.as_u64() == Some(1)),
        "logprobs" => matches!(value, Json::Bool(false)),
        "top_logprobs" | "presence_penalty" | "frequency_penalty" => {
            matches!(value, Json::Number(n) if n.as_f64() == Some(0.0))
        }
        "logit_bias" => matches!(value, Json::Object(entries) if entries.is_empty()),
        "tools" | "functions" => matches!(value, Json::Array(items) if items.is_empty()),
        "tool_choice" | "function_call" => is_text(value, "none") || is_text(value, "auto"),
        "reasoning_effort" => is_text(value, "none"),
        "response_format" => {
            matches!(value, Json::Object(entries)
                if entries.len() == 1 && entries[0].0 == "type" && is_text(&entries[0].1, "text"))
        }
        "modalities" => {
            matches!(value, Json::Array(items) if items.len() == 1 && is_text(&items[0], "text"))
        }
        _ => false,
    }
}
