//! The body of `POST /v1/responses`, parsed into a type that cannot be wrong.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    fields::{FIELDS, nothing},
    input,
    text::{self, ReasoningConfig, TextConfig},
    tools::{self, Choice, FunctionTool},
};
use crate::openai::{
    InvalidRequest,
    fields::{Rule, check_accepted},
    json::Json,
    message::{Message, Part, Role},
    read,
    request::{ServiceTier, parse_tier},
    sampling::{MAX_TOP_LOGPROBS, PROBABILITY, TEMPERATURE},
    schema::Definitions,
};

/// A request for one response.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponsesRequest {
    /// The model's name as the client calls it.
    pub model: String,
    /// The conversation, the instructions first; never empty.
    pub turns: Vec<Message>,
    /// What the conversation begins with.
    pub instructions: Option<String>,
    /// Longest answer, in tokens, thoughts included; at least 1.
    pub max_output_tokens: Option<usize>,
    /// 0 (greedy) to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// What the model may call; names are unique.
    pub tools: Vec<FunctionTool>,
    /// Whether it must or must not.
    pub tool_choice: Choice,
    /// Several calls in one answer are allowed.
    pub parallel_tool_calls: bool,
    /// The form of the answer.
    pub text: TextConfig,
    /// How the model thinks.
    pub reasoning: ReasoningConfig,
    /// Tell how likely each token was, and so many others beside it.
    pub logprobs: Option<usize>,
    /// Server-sent events instead of one JSON document.
    pub stream: bool,
    /// How urgent it is.
    pub service_tier: ServiceTier,
    /// What the answer repeats.
    pub labels: Labels,
    /// Fields that were accepted without effect.
    pub ignored: Vec<&'static str>,
}

/// Fields that only the client reads again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels {
    /// Texts under names.
    pub metadata: Map<String, Value>,
    /// The end user, in the old field.
    pub user: Option<String>,
    /// The end user, in the new one.
    pub safety_identifier: Option<String>,
    /// Which requests begin alike.
    pub prompt_cache_key: Option<String>,
}

#[derive(Default)]
struct Draft {
    model: Option<String>,
    input: Option<Vec<Message>>,
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    tools: Vec<FunctionTool>,
    tool_choice: Choice,
    parallel_tool_calls: Option<bool>,
    text: TextConfig,
    reasoning: ReasoningConfig,
    include_logprobs: bool,
    top_logprobs: usize,
    stream: bool,
    has_stream_options: bool,
    service_tier: ServiceTier,
    labels: Labels,
    ignored: Vec<&'static str>,
    definitions: Definitions,
}

impl ResponsesRequest {
    /// Parses and checks a body. Image data is not copied: it stays a slice of `body`.
    ///
    /// # Errors
    /// The first fault found, with the field it is in.
    pub fn parse(body: &Bytes) -> Result<Self, InvalidRequest> {
        let mut draft = Draft::default();
        for (key, value) in read::root(body)? {
            let known = FIELDS.iter().find(|(name, _)| *name == key);
            match known {
                _ if value.is_null() && key != "model" && key != "input" => {}
                Some((name, _)) if nothing(name).iter().any(|it| value == *it) => {}
                Some((_, Rule::Honoured)) => draft.set(body, &key, value)?,
                Some((name, Rule::Accepted)) => draft.accept(name, value)?,
                Some((name, Rule::Refused)) => return Err(read::unsupported(*name)),
                None => return Err(read::unknown("", &key)),
            }
        }
        draft.finish()
    }
}

impl Draft {
    fn set(&mut self, body: &Bytes, key: &str, value: Json<'_>) -> Result<(), InvalidRequest> {
        match key {
            "model" => self.model = Some(read::text(key, value)?.into_owned()),
            "input" => self.input = Some(input::parse(body, value, &mut self.ignored)?),
            "instructions" => self.instructions = Some(read::text(key, value)?.into_owned()),
            "max_output_tokens" => {
                self.max_output_tokens = Some(read::integer(key, &value, 1..=usize::MAX)?);
            }
            "temperature" => self.temperature = Some(read::number(key, &value, TEMPERATURE)?),
            "top_p" => self.top_p = Some(read::number(key, &value, PROBABILITY)?),
            "tools" => self.tools = tools::parse(value, &mut self.definitions)?,
            "tool_choice" => self.tool_choice = tools::parse_choice(value)?,
            "parallel_tool_calls" => self.parallel_tool_calls = Some(read::boolean(key, &value)?),
            "text" => {
                self.text = text::parse_text(value, &mut self.definitions)?;
                self.ignored
                    .extend(self.text.verbosity.map(|_| "text.verbosity"));
            }
            "reasoning" => self.reasoning = text::parse_reasoning(value, &mut self.ignored)?,
            "include" => self.include_logprobs = text::parse_include(value, &mut self.ignored)?,
            "top_logprobs" => self.top_logprobs = read::integer(key, &value, 0..=MAX_TOP_LOGPROBS)?,
            "stream" => self.stream = read::boolean(key, &value)?,
            "stream_options" => self.stream_options(value)?,
            "service_tier" => self.service_tier = parse_tier(key, &value)?,
            "metadata" => self.labels.metadata = text::parse_metadata(value)?,
            _ => {}
        }
        Ok(())
    }

    fn accept(&mut self, name: &'static str, value: Json<'_>) -> Result<(), InvalidRequest> {
        let label = match name {
            "user" => &mut self.labels.user,
            "safety_identifier" => &mut self.labels.safety_identifier,
            "prompt_cache_key" => &mut self.labels.prompt_cache_key,
            _ => {
                self.ignored.push(name);
                return check_accepted(name, value);
            }
        };
        *label = Some(read::text(name, value)?.into_owned());
        self.ignored.push(name);
        Ok(())
    }

    fn stream_options(&mut self, value: Json<'_>) -> Result<(), InvalidRequest> {
        for (key, value) in read::object("stream_options", value)? {
            match key.as_ref() {
                _ if value.is_null() => {}
                "include_obfuscation" => {
                    read::boolean(&read::field("stream_options", &key), &value)?;
                    self.ignored.push("stream_options.include_obfuscation");
                }
                _ => return Err(read::unknown("stream_options", &key)),
            }
        }
        self.has_stream_options = true;
        Ok(())
    }

    fn finish(self) -> Result<ResponsesRequest, InvalidRequest> {
        let model = self.model.ok_or_else(|| read::missing("model"))?;
        let input = self.input.ok_or_else(|| read::missing("input"))?;
        if self.has_stream_options && !self.stream {
            let rule = "it is only allowed when 'stream' is true";
            return Err(InvalidRequest::wrong_value("stream_options", rule));
        }
        self.tool_choice.check(&self.tools)?;
        let instructions = self.instructions.clone();
        let first = instructions.map(|text| Message::new(Role::System, vec![Part::Text(text)]));
        let logprobs = self.include_logprobs || self.top_logprobs > 0;
        Ok(ResponsesRequest {
            model,
            turns: first.into_iter().chain(input).collect(),
            instructions: self.instructions,
            max_output_tokens: self.max_output_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            tools: self.tools,
            tool_choice: self.tool_choice,
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            text: self.text,
            reasoning: self.reasoning,
            logprobs: logprobs.then_some(self.top_logprobs),
            stream: self.stream,
            service_tier: self.service_tier,
            labels: self.labels,
            ignored: self.ignored,
        })
    }
}
