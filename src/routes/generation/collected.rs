//! Events put together again: the first of them, or all.

use std::time::Duration;

use futures::{StreamExt, stream};

use super::Answers;
use crate::{
    engine::{EngineError, Event, FinishReason, TokenLogprob, TokenUsage, ToolCall},
    error::ApiError,
};

/// How long the head of a streaming response waits for the first event, so that an early failure is
/// a real status code.
const FIRST_EVENT: Duration = Duration::from_secs(1);

/// Waits a moment for the first event, so that an early error is an error response.
///
/// # Errors
/// That error.
pub async fn first_event(mut events: Answers) -> Result<Answers, ApiError> {
    match tokio::time::timeout(FIRST_EVENT, events.next()).await {
        Ok(Some(first)) => {
            let first = first?;
            Ok(Box::pin(stream::once(async { Ok(first) }).chain(events)))
        }
        Ok(None) => Err(EngineError::Failed("no events came".into()).into()),
        Err(_) => Ok(events),
    }
}

/// A whole answer.
#[derive(Debug, Default)]
pub struct Collected {
    /// What it says.
    pub text: String,
    /// What it thought before.
    pub reasoning: String,
    /// What it calls.
    pub calls: Vec<ToolCall>,
    /// The tokens of the text, where they were asked for.
    pub tokens: Vec<TokenLogprob>,
    /// Why it ended; `None` while it has not.
    pub reason: Option<FinishReason>,
}

impl Collected {
    /// Adds an event.
    pub fn add(&mut self, event: Event) {
        match event {
            Event::Text { text, tokens } => {
                self.text.push_str(&text);
                self.tokens.extend(tokens);
            }
            Event::Reasoning(text) => self.reasoning.push_str(&text),
            Event::Call { id, name, .. } => self.calls.push(ToolCall {
                id,
                name,
                arguments: String::new(),
            }),
            Event::Arguments { index, text } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments.push_str(&text);
                }
            }
            Event::Finished { reason, .. } => self.reason = Some(reason),
        }
    }
}

/// The whole answers, and what they cost together.
///
/// # Errors
/// Whatever breaks one off.
pub async fn collect(
    mut events: Answers,
    answers: usize,
) -> Result<(Vec<Collected>, TokenUsage), ApiError> {
    let mut collected: Vec<Collected> = (0..answers).map(|_| Collected::default()).collect();
    let mut total: Option<TokenUsage> = None;
    while let Some(event) = events.next().await {
        let (index, event) = event?;
        if let Event::Finished { usage, .. } = &event {
            total = Some(total.map_or(*usage, |before| before.and(*usage)));
        }
        if let Some(answer) = collected.get_mut(index) {
            answer.add(event);
        }
    }
    match total {
        Some(total) if collected.iter().all(|answer| answer.reason.is_some()) => {
            Ok((collected, total))
        }
        _ => Err(EngineError::Failed("the events broke off".into()).into()),
    }
}
