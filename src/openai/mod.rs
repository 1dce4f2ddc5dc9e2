//! The wire vocabulary of OpenAI's chat completions: what clients send and what they get.

pub mod completions;
pub mod fields;
pub mod format;
pub mod ignored;
pub mod json;
pub mod message;
pub mod openapi;
mod part;
pub mod predict;
pub(crate) mod read;
pub mod request;
pub mod response;
pub mod responses;
pub mod sampling;
mod schema;
pub mod tools;

/// Why a request body was refused: what the client is told, and where in its body the fault is.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRequest {
    /// A sentence for the client.
    pub message: String,
    /// The field at fault, such as `messages[0].content[1].image_url.url`.
    pub param: Option<String>,
    /// A word for programs, such as `invalid_type`.
    pub code: &'static str,
}

impl InvalidRequest {
    /// A fault at `param`.
    pub fn new(code: &'static str, param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            param: Some(param.into()),
            code,
        }
    }

    pub(crate) fn wrong_type(param: &str, expected: &str, got: &json::Json<'_>) -> Self {
        let message = format!(
            "Invalid type for '{param}': expected {expected}, but got {}.",
            got.kind()
        );
        Self::new("invalid_type", param, message)
    }

    pub(crate) fn wrong_value(param: &str, rule: &str) -> Self {
        Self::new(
            "invalid_value",
            param,
            format!("Invalid value for '{param}': {rule}."),
        )
    }
}
