//! The messages of a request: turns of text and image parts, and calls of tools.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use std::collections::HashSet;

use bytes::Bytes;

use super::{InvalidRequest, ignored::Ignored, json::Json, part, read, tools};

/// Most messages in one request, and most parts in one message.
pub const MAX_ITEMS: usize = 4096;
/// Most calls in one message: as many as there can be tools.
pub const MAX_CALLS: usize = tools::MAX_TOOLS;
/// Longest id of a call, in bytes.
pub const MAX_ID: usize = 256;
/// OpenAI's words for how many pixels of an image the model shall see.
pub const DETAILS: &[&str] = &["auto", "low", "high", "original"];

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `system`, or `developer`, its newer name.
    System,
    /// `user`
    User,
    /// `assistant`
    Assistant,
    /// `tool`
    Tool,
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said and shown, in order.
    pub parts: Vec<Part>,
    /// What an assistant called.
    pub calls: Vec<ToolCall>,
    /// Which call a tool answers.
    pub call_id: Option<String>,
}

impl Message {
    /// A message that neither calls nor answers a call.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self {
            role,
            parts,
            calls: Vec::new(),
            call_id: None,
        }
    }
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// `call_...`
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// An image, by reference.
    Image(ImageUrl),
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageUrl {
    /// The whole URL. A `data:` URL is a slice of the request's body wherever the body spells it
    /// without escapes.
    pub url: Bytes,
    /// How much of it the model shall see.
    pub detail: Detail,
    /// Its place in the request, for error messages.
    pub param: String,
}

/// How many pixels of an image the model shall see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// A small budget.
    Low,
    /// The default budget.
    Auto,
    /// The largest budget.
    High,
}

impl Detail {
    /// One of [`DETAILS`].
    pub(super) fn read(param: &str, value: &Json<'_>) -> Result<Self, InvalidRequest> {
        Ok(match read::one_of(param, value, DETAILS)? {
            "low" => Self::Low,
            "auto" => Self::Auto,
            // `original` asks for no shrinking; the largest budget is the most there is.
            _ => Self::High,
        })
    }
}

pub(super) fn parse_messages(
    body: &Bytes,
    value: Json<'_>,
    ignored: &mut Ignored,
) -> Result<Vec<Message>, InvalidRequest> {
    let items = read::array("messages", value, "messages", 1..=MAX_ITEMS)?;
    let mut known_calls = HashSet::new();
    let mut messages = Vec::with_capacity(items.len());
    for (i, item) in items.into_iter().enumerate() {
        let at = format!("messages[{i}]");
        let message = Draft::read(&at, item, ignored)?.finish(body, &at, ignored)?;
        if let Some(id) = &message.call_id
            && !known_calls.contains(id)
        {
            let rule = "no message of the assistant before it has a call with this id";
            return Err(InvalidRequest::wrong_value(
                &format!("{at}.tool_call_id"),
                rule,
            ));
        }
        known_calls.extend(message.calls.iter().map(|call| call.id.clone()));
        messages.push(message);
    }
    Ok(messages)
}

/// The fields of a message, before it is known which of them its role has.
struct Draft<'a> {
    role: Role,
    content: Option<Json<'a>>,
    refusal: Option<String>,
    calls: Vec<ToolCall>,
    call_id: Option<String>,
}

impl<'a> Draft<'a> {
    fn read(at: &str, value: Json<'a>, ignored: &mut Ignored) -> Result<Self, InvalidRequest> {
        let entries = read::object(at, value)?;
        let role_at = format!("{at}.role");
        let role = entries.iter().find(|(key, _)| key == "role");
        let (_, role) = role.ok_or_else(|| read::missing(&role_at))?;
        let mut draft = Self {
            role: parse_role(&role_at, role)?,
            content: None,
            refusal: None,
            calls: Vec::new(),
            call_id: None,
        };
        for (key, value) in entries {
            draft.set(at, &key, value, ignored)?;
        }
        Ok(draft)
    }

    fn set(
        &mut self,
        at: &str,
        key: &str,
        value: Json<'a>,
        ignored: &mut Ignored,
    ) -> Result<(), InvalidRequest> {
        let param = format!("{at}.{}", read::shown(key));
        let is_assistant = self.role == Role::Assistant;
        match key {
            "role" => {}
            "content" => self.content = Some(value),
            // What an SDK's response message carries, sent back as it came: nothing is asked for.
            _ if asks_for_nothing(&value) => {}
            "name" => {
                read::text(&param, value)?;
                ignored.add("messages.name");
            }
            "refusal" if is_assistant => {
                self.refusal = Some(read::text(&param, value)?.into_owned());
            }
            // Templates leave the thoughts of earlier turns out.
            "reasoning_content" if is_assistant => {
                read::text(&param, value)?;
                ignored.add("messages.reasoning_content");
            }
            "tool_calls" if is_assistant => self.calls = parse_calls(&param, value)?,
            "tool_call_id" if self.role == Role::Tool => self.call_id = Some(id(&param, value)?),
            "tool_calls" | "refusal" | "reasoning_content" => {
                let rule = "only messages of the role 'assistant' have it";
                return Err(InvalidRequest::wrong_value(&param, rule));
            }
            "tool_call_id" => {
                let rule = "only messages of the role 'tool' have it";
                return Err(InvalidRequest::wrong_value(&param, rule));
            }
            "function_call" | "audio" | "annotations" => return Err(unsupported_field(key, param)),
            _ => return Err(read::unknown(at, key)),
        }
        Ok(())
    }

    fn finish(
        self,
        body: &Bytes,
        at: &str,
        ignored: &mut Ignored,
    ) -> Result<Message, InvalidRequest> {
        let content_at = format!("{at}.content");
        let mut parts = match self.content {
            None | Some(Json::Null) if self.calls.is_empty() && self.refusal.is_none() => {
                return Err(read::missing(&content_at));
            }
            None | Some(Json::Null) => Vec::new(),
            Some(Json::String(text)) => vec![Part::Text(text.into_owned())],
            Some(Json::Array(items)) => {
                part::parse_parts(body, &content_at, self.role, items, ignored)?
            }
            Some(other) => {
                let expected = "a string or an array of parts";
                return Err(InvalidRequest::wrong_type(&content_at, expected, &other));
            }
        };
        parts.extend(self.refusal.map(Part::Text));
        if self.role == Role::Tool && self.call_id.is_none() {
            return Err(read::missing(format!("{at}.tool_call_id")));
        }
        Ok(Message {
            role: self.role,
            parts,
            calls: self.calls,
            call_id: self.call_id,
        })
    }
}

fn asks_for_nothing(value: &Json<'_>) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => false,
    }
}

fn unsupported_field(key: &str, param: String) -> InvalidRequest {
    let instead = match key {
        "function_call" => "; use 'tool_calls'",
        _ => "",
    };
    let message = format!("'{param}' is not supported by this server{instead}.");
    InvalidRequest::new("unsupported_parameter", param, message)
}

fn parse_role(at: &str, value: &Json<'_>) -> Result<Role, InvalidRequest> {
    let roles = ["system", "developer", "user", "assistant", "tool"];
    if matches!(value, Json::String(name) if name == "function") {
        let message = "The role 'function' is not supported by this server; use 'tool'.";
        return Err(InvalidRequest::new("unsupported_value", at, message));
    }
    Ok(match read::one_of(at, value, &roles)? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => Role::System,
    })
}

fn id(param: &str, value: Json<'_>) -> Result<String, InvalidRequest> {
    let id = read::text(param, value)?;
    if (1..=MAX_ID).contains(&id.len()) {
        return Ok(id.into_owned());
    }
    let rule = format!("expected an id of 1 to {MAX_ID} bytes");
    Err(InvalidRequest::wrong_value(param, &rule))
}

fn parse_calls(at: &str, value: Json<'_>) -> Result<Vec<ToolCall>, InvalidRequest> {
    let calls = read::array(at, value, "calls", 0..=MAX_CALLS)?;
    let calls = calls.into_iter().enumerate();
    calls
        .map(|(i, call)| parse_call(&format!("{at}[{i}]"), call))
        .collect()
}

fn parse_call(at: &str, value: Json<'_>) -> Result<ToolCall, InvalidRequest> {
    let entries = read::object(at, value)?;
    tools::check_kind(at, &entries, &["function"])?;
    let mut call_id = None;
    let mut function = None;
    for (key, value) in entries {
        match key.as_ref() {
            "type" => {}
            "id" => call_id = Some(id(&format!("{at}.id"), value)?),
            "function" => function = Some(value),
            // Put together from a stream, a call may still have its place.
            "index" if matches!(value, Json::Number(_)) => {}
            _ if value.is_null() => {}
            _ => return Err(read::unknown(at, &key)),
        }
    }
    let id = call_id.ok_or_else(|| read::missing(format!("{at}.id")))?;
    let at = format!("{at}.function");
    let function = function.ok_or_else(|| read::missing(&at))?;
    let mut name = None;
    let mut arguments = None;
    for (key, value) in read::object(&at, function)? {
        let param = format!("{at}.{}", read::shown(&key));
        match key.as_ref() {
            "name" => name = Some(read::name(&param, value)?),
            "arguments" => arguments = Some(read::text(&param, value)?.into_owned()),
            _ if value.is_null() => {}
            _ => return Err(read::unknown(&at, &key)),
        }
    }
    Ok(ToolCall {
        id,
        name: name.ok_or_else(|| read::missing(format!("{at}.name")))?,
        arguments: arguments.ok_or_else(|| read::missing(format!("{at}.arguments")))?,
    })
}
