//! The body of `POST /v1/chat/completions`, parsed into a type that cannot be wrong.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use bytes::Bytes;

use super::{
    InvalidRequest,
    fields::{Rule, asks_for_nothing, rule},
    json::Json,
    message::{Message, parse_messages},
};

/// Most stop sequences, as OpenAI has it.
const MAX_STOPS: usize = 4;
/// Longest stop sequence, in bytes: text is held back until it cannot become one.
const MAX_STOP_BYTES: usize = 1024;

/// A request for one chat completion.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatCompletionRequest {
    /// The model's name as the client calls it.
    pub model: String,
    /// The conversation; never empty.
    pub messages: Vec<Message>,
    /// 0 (greedy) to 2; the model's default where none is given.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// Longest answer, in tokens; at least 1.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Server-sent events instead of one JSON document.
    pub stream: bool,
    /// End the stream with a chunk that has the usage.
    pub include_usage: bool,
    /// How urgent it is.
    pub service_tier: ServiceTier,
    /// Fields that were accepted without effect.
    pub ignored: Vec<&'static str>,
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

impl ChatCompletionRequest {
    /// Parses and checks a body. Image data is not copied: it stays a slice of `body`.
    ///
    /// # Errors
    /// The first fault found, with the field it is in.
    pub fn parse(body: &Bytes) -> Result<Self, InvalidRequest> {
        let root: Json<'_> = serde_json::from_slice(body).map_err(|e| InvalidRequest {
            message: format!("We could not parse the JSON body of your request: {e}."),
            param: None,
            code: "invalid_json",
        })?;
        let Json::Object(entries) = root else {
            return Err(InvalidRequest {
                message: format!("The body must be a JSON object, but is {}.", root.kind()),
                param: None,
                code: "invalid_type",
            });
        };
        let mut draft = Draft::default();
        for (key, value) in entries {
            match rule(&key) {
                _ if value.is_null() && key != "model" && key != "messages" => {}
                Some(Rule::Honoured) => draft.set(body, &key, value)?,
                Some(Rule::Accepted) => draft.ignored.extend(
                    super::fields::FIELDS
                        .iter()
                        .map(|(name, _)| *name)
                        .find(|name| *name == key),
                ),
                Some(Rule::Refused) if asks_for_nothing(&key, &value) => {}
                Some(Rule::Refused) => {
                    let message =
                        format!("Unsupported parameter: '{key}' is not supported by this server.");
                    return Err(InvalidRequest::new("unsupported_parameter", key, message));
                }
                None => {
                    let key: String = key.chars().take(64).collect();
                    let message = format!("Unknown parameter: '{key}'.");
                    return Err(InvalidRequest::new("unknown_parameter", key, message));
                }
            }
        }
        draft.finish()
    }
}

#[derive(Default)]
struct Draft {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    stop: Vec<String>,
    stream: bool,
    include_usage: Option<bool>,
    service_tier: ServiceTier,
    ignored: Vec<&'static str>,
}

impl Draft {
    fn set(&mut self, body: &Bytes, key: &str, value: Json<'_>) -> Result<(), InvalidRequest> {
        match key {
            "model" => self.model = Some(parse_text(key, value)?),
            "messages" => self.messages = Some(parse_messages(body, value)?),
            "temperature" => self.temperature = Some(parse_number(key, &value, 2.0)?),
            "top_p" => self.top_p = Some(parse_number(key, &value, 1.0)?),
            "max_tokens" => self.max_tokens = Some(parse_count(key, &value)?),
            "max_completion_tokens" => self.max_completion_tokens = Some(parse_count(key, &value)?),
            "stop" => self.stop = parse_stop(value)?,
            "stream" => self.stream = parse_bool(key, &value)?,
            "stream_options" => self.include_usage = Some(self.parse_stream_options(value)?),
            "service_tier" => self.service_tier = parse_tier(value)?,
            _ => {}
        }
        Ok(())
    }

    fn parse_stream_options(&mut self, value: Json<'_>) -> Result<bool, InvalidRequest> {
        let Json::Object(entries) = value else {
            return Err(InvalidRequest::wrong_type(
                "stream_options",
                "an object",
                &value,
            ));
        };
        let mut include_usage = false;
        for (key, value) in entries {
            let param = format!(
                "stream_options.{}",
                key.chars().take(64).collect::<String>()
            );
            match key.as_ref() {
                _ if value.is_null() => {}
                "include_usage" => include_usage = parse_bool(&param, &value)?,
                "include_obfuscation" => {
                    parse_bool(&param, &value)?;
                    self.ignored.push("stream_options.include_obfuscation");
                }
                _ => {
                    let message = format!("Unknown parameter: '{param}'.");
                    return Err(InvalidRequest::new("unknown_parameter", param, message));
                }
            }
        }
        Ok(include_usage)
    }

    fn finish(self) -> Result<ChatCompletionRequest, InvalidRequest> {
        let missing = |param: &str| {
            let message = format!("Missing required parameter: '{param}'.");
            InvalidRequest::new("missing_required_parameter", param, message)
        };
        if self.include_usage.is_some() && !self.stream {
            let rule = "it is only allowed when 'stream' is true";
            return Err(InvalidRequest::wrong_value("stream_options", rule));
        }
        if let (Some(a), Some(b)) = (self.max_tokens, self.max_completion_tokens)
            && a != b
        {
            let rule = "it contradicts 'max_completion_tokens'; set only one of them";
            return Err(InvalidRequest::wrong_value("max_tokens", rule));
        }
        Ok(ChatCompletionRequest {
            model: self.model.ok_or_else(|| missing("model"))?,
            messages: self.messages.ok_or_else(|| missing("messages"))?,
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            stop: self.stop,
            stream: self.stream,
            include_usage: self.include_usage.unwrap_or(false),
            service_tier: self.service_tier,
            ignored: self.ignored,
        })
    }
}

fn parse_text(param: &str, value: Json<'_>) -> Result<String, InvalidRequest> {
    match value {
        Json::String(text) => Ok(text.into_owned()),
        other => Err(InvalidRequest::wrong_type(param, "a string", &other)),
    }
}

fn parse_bool(param: &str, value: &Json<'_>) -> Result<bool, InvalidRequest> {
    match value {
        Json::Bool(value) => Ok(*value),
        other => Err(InvalidRequest::wrong_type(param, "a boolean", other)),
    }
}

fn parse_number(param: &str, value: &Json<'_>, max: f64) -> Result<f64, InvalidRequest> {
    let Json::Number(number) = value else {
        return Err(InvalidRequest::wrong_type(param, "a number", value));
    };
    match number.as_f64() {
        Some(number) if (0.0..=max).contains(&number) => Ok(number),
        _ => Err(InvalidRequest::wrong_value(
            param,
            &format!("expected a number from 0 to {max}"),
        )),
    }
}

fn parse_count(param: &str, value: &Json<'_>) -> Result<usize, InvalidRequest> {
    let Json::Number(number) = value else {
        return Err(InvalidRequest::wrong_type(param, "an integer", value));
    };
    match number.as_u64().and_then(|n| usize::try_from(n).ok()) {
        Some(count) if count >= 1 => Ok(count),
        _ => Err(InvalidRequest::wrong_value(
            param,
            "expected an integer of at least 1",
        )),
    }
}

fn parse_tier(value: Json<'_>) -> Result<ServiceTier, InvalidRequest> {
    match parse_text("service_tier", value)?.as_str() {
        "auto" | "default" | "scale" => Ok(ServiceTier::Default),
        "flex" => Ok(ServiceTier::Flex),
        "priority" => Ok(ServiceTier::Priority),
        _ => Err(InvalidRequest::wrong_value(
            "service_tier",
            "expected one of auto, default, flex, scale, priority",
        )),
    }
}

fn parse_stop(value: Json<'_>) -> Result<Vec<String>, InvalidRequest> {
    let items = match value {
        Json::String(text) => vec![Json::String(text)],
        Json::Array(items) => items,
        other => {
            return Err(InvalidRequest::wrong_type(
                "stop",
                "a string or an array of strings",
                &other,
            ));
        }
    };
    if items.len() > MAX_STOPS {
        return Err(InvalidRequest::wrong_value(
            "stop",
            &format!("expected at most {MAX_STOPS} sequences"),
        ));
    }
    items
        .into_iter()
        .map(|item| match item {
            Json::String(text) if !text.is_empty() && text.len() <= MAX_STOP_BYTES => {
                Ok(text.into_owned())
            }
            Json::String(_) => Err(InvalidRequest::wrong_value(
                "stop",
                &format!("expected sequences of 1 to {MAX_STOP_BYTES} bytes"),
            )),
            other => Err(InvalidRequest::wrong_type(
                "stop",
                "a string or an array of strings",
                &other,
            )),
        })
        .collect()
}
