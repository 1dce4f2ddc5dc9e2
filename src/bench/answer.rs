//! What of an answer is counted.

use std::time::Duration;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::sse::Event;

/// A good answer. Times are since the start of the point.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The first output came.
    pub first: Option<Duration>,
    /// The last output came.
    pub last: Option<Duration>,
    /// All of it was there.
    pub end: Duration,
    /// Between an output and the one before, microseconds.
    pub gaps: Vec<u32>,
    /// Events that held output.
    pub events: u64,
    /// What the server counted.
    pub usage: Option<Usage>,
    /// `[DONE]` came.
    pub done: bool,
    /// Why the model ended.
    pub finish_reason: Option<String>,
}

/// What the server counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, images included.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// More about the prompt.
    #[serde(default)]
    pub prompt_tokens_details: Option<PromptDetails>,
}

/// More about the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct PromptDetails {
    /// Tokens that came from a cache.
    #[serde(default)]
    pub cached_tokens: Option<u64>,
}

impl Usage {
    /// Prompt tokens that came from a cache.
    pub fn cached(&self) -> u64 {
        let details = self.prompt_tokens_details;
        details.and_then(|d| d.cached_tokens).unwrap_or(0)
    }
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failures are counted by: `http_429`, `timeout`, `stream_cut`, ...
    pub kind: String,
    /// In words, the server's where it has any.
    pub message: String,
}

impl Failure {
    /// Of this kind, in these words.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: plain(&message.into(), 300),
        }
    }

    /// An error that the server described as OpenAI does; `at` is where it came.
    pub fn described(at: &str, body: &str) -> Self {
        let value: Value = serde_json::from_str(body).unwrap_or_default();
        let error = value.get("error").unwrap_or(&value);
        let words = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let code = words(&error["code"]).or_else(|| words(&error["type"]));
        // It names a line of the report: nothing long or strange.
        let code = code.filter(|code| {
            code.len() <= 64
                && code
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        });
        let kind = code.map_or_else(|| at.to_string(), |code| format!("{at} {code}"));
        let message = words(&error["message"]).or_else(|| words(error));
        Self::new(kind, message.unwrap_or_else(|| body.to_string()))
    }
}

/// Text of a stranger, fit for a terminal: without control characters, and cut.
pub(super) fn plain(text: &str, most: usize) -> String {
    let text = text.trim().chars().take(most);
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Output>,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// What a model says, under any of the names that servers have for it.
#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<IgnoredAny>>,
}

impl Output {
    fn is_any(&self) -> bool {
        let texts = [
            &self.content,
            &self.reasoning_content,
            &self.reasoning,
            &self.refusal,
        ];
        texts.into_iter().flatten().any(|text| !text.is_empty())
            || self.tool_calls.as_ref().is_some_and(|c| !c.is_empty())
    }
}

impl Answer {
    /// Takes in an event of a stream that came at `now`; true when it was the last.
    ///
    /// # Errors
    /// It is an error, or nothing that this protocol has.
    pub fn take(&mut self, event: &Event, now: Duration) -> Result<bool, Failure> {
        if event.data.trim() == "[DONE]" {
            self.done = true;
            return Ok(true);
        }
        if event.name == "error" {
            return Err(Failure::described("error_event", &event.data));
        }
        let chunk: Chunk = serde_json::from_str(&event.data)
            .map_err(|e| Failure::new("bad_event", format!("{e}: {}", event.data)))?;
        if chunk.error.is_some() {
            return Err(Failure::described("error_event", &event.data));
        }
        self.usage = chunk.usage.or(self.usage);
        let choices = chunk.choices.unwrap_or_default();
        let says = |choice: &Choice| choice.delta.as_ref().is_some_and(Output::is_any);
        if choices.iter().any(says) {
            self.output(now);
        }
        let reason = choices.into_iter().find_map(|choice| choice.finish_reason);
        self.finish_reason = reason.or(self.finish_reason.take());
        Ok(false)
    }

    fn output(&mut self, now: Duration) {
        if let Some(last) = self.last {
            let gap = now.saturating_sub(last).as_micros();
            self.gaps.push(u32::try_from(gap).unwrap_or(u32::MAX));
        }
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.events += 1;
    }

    /// The stream has ended at `now`.
    ///
    /// # Errors
    /// It was cut off: neither `[DONE]` nor a finish reason came.
    pub fn ended(mut self, now: Duration) -> Result<Self, Failure> {
        if !self.done && self.finish_reason.is_none() {
            let said = format!("after {} events with output", self.events);
            return Err(Failure::new("stream_cut", said));
        }
        self.end = now;
        Ok(self)
    }

    /// An answer that came whole at `now`.
    ///
    /// # Errors
    /// It is none.
    pub fn whole(body: &[u8], now: Duration) -> Result<Self, Failure> {
        let chunk: Chunk = serde_json::from_slice(body)
            .map_err(|e| Failure::new("bad_answer", format!("{e}: {}", lossy(body))))?;
        if chunk.error.is_some() {
            return Err(Failure::described("error_body", &lossy(body)));
        }
        let choices = chunk.choices.unwrap_or_default();
        if choices.is_empty() {
            return Err(Failure::new("bad_answer", lossy(body)));
        }
        Ok(Self {
            end: now,
            usage: chunk.usage,
            finish_reason: choices.into_iter().find_map(|c| c.finish_reason),
            ..Self::default()
        })
    }

    /// Output tokens by the server's count, or the events where it counts none.
    pub fn output_tokens(&self) -> u64 {
        self.usage.map_or(self.events, |u| u.completion_tokens)
    }

    /// Mean time per output token after the first.
    pub fn time_per_output_token(&self) -> Option<Duration> {
        let further = u32::try_from(self.output_tokens()).ok()?.checked_sub(1)?;
        let took = self.last?.checked_sub(self.first?)?;
        // All in one event: it cannot be told apart.
        (further > 0 && self.events > 1).then(|| took / further)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
