//! The body of `POST /v1/chat/completions`, parsed into a type that cannot be wrong.

use bytes::Bytes;

use super::{
    InvalidRequest,
    fields::{self, Rule, field},
    format::{self, ResponseFormat},
    ignored::Ignored,
    json::Json,
    message::{Message, parse_messages},
    read,
    sampling::{Sampling, SamplingDraft},
    schema::Definitions,
    tools::{Tools, ToolsDraft},
};

/// Most answers to one request.
pub const MAX_ANSWERS: usize = 16;

/// A request for chat completions.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatCompletionRequest {
    /// The model's name as the client calls it.
    pub model: String,
    /// The conversation; never empty.
    pub messages: Vec<Message>,
    /// Answers wanted; at least 1.
    pub answers: usize,
    /// How tokens are chosen, and when an answer ends.
    pub sampling: Sampling,
    /// The form that the answer must have.
    pub format: ResponseFormat,
    /// What the model may call.
    pub tools: Tools,
    /// How long to think; the model's own way where none is given.
    pub effort: Option<ReasoningEffort>,
    /// Server-sent events instead of one JSON document.
    pub stream: bool,
    /// End the stream with a chunk that has the usage.
    pub include_usage: bool,
    /// How urgent it is.
    pub service_tier: ServiceTier,
    /// Fields that were accepted without effect.
    pub ignored: Ignored,
}

/// How urgent a request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServiceTier {
    /// As others: `auto`, `default`, `scale`.
    #[default]
    Default,
    /// After others.
    Flex,
    /// Before others, where the credential allows it.
    Priority,
}

/// How long a model may think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasoningEffort {
    /// Not at all.
    None,
    /// Very shortly.
    Minimal,
    /// Shortly.
    Low,
    /// Some time.
    Medium,
    /// Long.
    High,
    /// As long as it takes: `xhigh`, `max`.
    Max,
}

/// OpenAI's words for how long to think.
pub const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// OpenAI's words for how urgent a request is.
pub const TIERS: &[&str] = &["auto", "default", "flex", "scale", "priority"];

impl ReasoningEffort {
    /// What one of [`EFFORTS`] means.
    pub fn of(word: &str) -> Self {
        match word {
            "none" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            _ => Self::Max,
        }
    }
}

impl ChatCompletionRequest {
    /// Parses and checks a body. Image data is not copied: it stays a slice of `body`.
    ///
    /// # Errors
    /// The first fault found, with the field it is in.
    pub fn parse(body: &Bytes) -> Result<Self, InvalidRequest> {
        let mut draft = Draft::default();
        for (key, value) in read::root(body)? {
            let field = field(&key).ok_or_else(|| read::unknown("", &key))?;
            match field.rule {
                _ if value.is_null() && key != "model" && key != "messages" => {}
                Rule::Honoured => draft.set(body, field.name, value)?,
                Rule::Accepted => {
                    fields::check_accepted(field.name, value)?;
                    draft.ignored.add(field.name);
                }
                Rule::Refused if fields::nothing(field.name).iter().any(|it| value == *it) => {}
                Rule::Refused => return Err(fields::refusal(field)),
            }
        }
        draft.finish()
    }
}

#[derive(Default)]
struct Draft {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    answers: Option<usize>,
    sampling: SamplingDraft,
    format: ResponseFormat,
    tools: ToolsDraft,
    definitions: Definitions,
    effort: Option<ReasoningEffort>,
    stream: bool,
    include_usage: Option<bool>,
    service_tier: ServiceTier,
    ignored: Ignored,
}

impl Draft {
    fn set(&mut self, body: &Bytes, key: &str, value: Json<'_>) -> Result<(), InvalidRequest> {
        if self.sampling.set(key, key, &value)? {
            return Ok(());
        }
        let Some(value) = self.tools.set(key, value, &mut self.definitions)? else {
            return Ok(());
        };
        match key {
            "model" => self.model = Some(read::text(key, value)?.into_owned()),
            "messages" => self.messages = Some(parse_messages(body, value, &mut self.ignored)?),
            "n" => self.answers = Some(read::integer(key, &value, 1..=MAX_ANSWERS)?),
            "response_format" => {
                self.format = format::parse(value, &mut self.definitions, &mut self.ignored)?;
            }
            "reasoning_effort" => {
                self.effort = Some(ReasoningEffort::of(read::one_of(key, &value, EFFORTS)?))
            }
            "stream" => self.stream = read::boolean(key, &value)?,
            "stream_options" => self.include_usage = Some(self.stream_options(value)?),
            "service_tier" => self.service_tier = parse_tier(key, &value)?,
            // The table has no row that is honoured and not here: a test walks it.
            _ => return Err(read::unknown("", key)),
        }
        Ok(())
    }

    fn stream_options(&mut self, value: Json<'_>) -> Result<bool, InvalidRequest> {
        const AT: &str = "stream_options";
        let mut include_usage = false;
        for (key, value) in read::object(AT, value)? {
            let param = format!("{AT}.{}", read::shown(&key));
            match key.as_ref() {
                _ if value.is_null() => {}
                "include_usage" => include_usage = read::boolean(&param, &value)?,
                "include_obfuscation" => {
                    read::boolean(&param, &value)?;
                    self.ignored.add("stream_options.include_obfuscation");
                }
                _ => return Err(read::unknown(AT, &key)),
            }
        }
        Ok(include_usage)
    }

    fn finish(self) -> Result<ChatCompletionRequest, InvalidRequest> {
        if self.include_usage.is_some() && !self.stream {
            let rule = "it is only allowed when 'stream' is true";
            return Err(InvalidRequest::wrong_value("stream_options", rule));
        }
        let mut ignored = self.ignored;
        let sampling = self.sampling.finish("")?;
        if self.format != ResponseFormat::Text && !sampling.stop.is_empty() {
            ignored.add("stop");
        }
        Ok(ChatCompletionRequest {
            model: self.model.ok_or_else(|| read::missing("model"))?,
            messages: self.messages.ok_or_else(|| read::missing("messages"))?,
            answers: self.answers.unwrap_or(1),
            sampling,
            format: self.format,
            tools: self.tools.finish(&mut ignored)?,
            effort: self.effort,
            stream: self.stream,
            include_usage: self.include_usage.unwrap_or(false),
            service_tier: self.service_tier,
            ignored,
        })
    }
}

pub(super) fn parse_tier(param: &str, value: &Json<'_>) -> Result<ServiceTier, InvalidRequest> {
    Ok(match read::one_of(param, value, TIERS)? {
        "flex" => ServiceTier::Flex,
        "priority" => ServiceTier::Priority,
        _ => ServiceTier::Default,
    })
}
