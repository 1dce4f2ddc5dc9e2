//! The messages of a request: turns of text and image parts.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use std::borrow::Cow;

use bytes::Bytes;

use super::{InvalidRequest, json::Json};

/// Most messages in one request, and most parts in one message.
const MAX_ITEMS: usize = 4096;

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

pub(super) fn parse_messages(
    body: &Bytes,
    value: Json<'_>,
) -> Result<Vec<Message>, InvalidRequest> {
    let Json::Array(items) = value else {
        return Err(InvalidRequest::wrong_type("messages", "an array", &value));
    };
    if items.is_empty() || items.len() > MAX_ITEMS {
        let rule = format!(
            "expected 1 to {MAX_ITEMS} messages, but got {}",
            items.len()
        );
        return Err(InvalidRequest::wrong_value("messages", &rule));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| parse_message(body, &format!("messages[{i}]"), item))
        .collect()
}

fn parse_message(body: &Bytes, at: &str, value: Json<'_>) -> Result<Message, InvalidRequest> {
    let Json::Object(entries) = value else {
        return Err(InvalidRequest::wrong_type(at, "an object", &value));
    };
    let mut role = None;
    let mut content = None;
    for (key, value) in entries {
        match key.as_ref() {
            "role" => role = Some(parse_role(&format!("{at}.role"), &value)?),
            "content" => content = Some(value),
            // What an SDK's response message carries, sent back as it came: nothing is asked for.
            "name" if matches!(value, Json::String(_) | Json::Null) => {}
            _ if asks_for_nothing(&value) => {}
            "tool_calls" | "function_call" | "audio" | "refusal" | "tool_call_id" => {
                let param = format!("{at}.{key}");
                let message = format!("'{param}' is not supported by this server.");
                return Err(InvalidRequest::new("unsupported_parameter", param, message));
            }
            _ => return Err(unknown(at, &key)),
        }
    }
    let role = role.ok_or_else(|| missing(&format!("{at}.role")))?;
    let content_at = format!("{at}.content");
    let parts = match content {
        None | Some(Json::Null) => return Err(missing(&content_at)),
        Some(Json::String(text)) => vec![Part::Text(text.into_owned())],
        Some(Json::Array(items)) => parse_parts(body, &content_at, items)?,
        Some(other) => {
            return Err(InvalidRequest::wrong_type(
                &content_at,
                "a string or an array of parts",
                &other,
            ));
        }
    };
    Ok(Message { role, parts })
}

fn asks_for_nothing(value: &Json<'_>) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => false,
    }
}

fn parse_role(at: &str, value: &Json<'_>) -> Result<Role, InvalidRequest> {
    let Json::String(name) = value else {
        return Err(InvalidRequest::wrong_type(at, "a string", value));
    };
    match name.as_ref() {
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" | "function" => Err(InvalidRequest::new(
            "unsupported_value",
            at,
            format!("The role '{name}' is not supported by this server."),
        )),
        _ => Err(InvalidRequest::wrong_value(
            at,
            "supported values are 'system', 'developer', 'user' and 'assistant'",
        )),
    }
}

fn parse_parts(body: &Bytes, at: &str, items: Vec<Json<'_>>) -> Result<Vec<Part>, InvalidRequest> {
    if items.is_empty() || items.len() > MAX_ITEMS {
        let rule = format!("expected 1 to {MAX_ITEMS} parts, but got {}", items.len());
        return Err(InvalidRequest::wrong_value(at, &rule));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| parse_part(body, &format!("{at}[{i}]"), item))
        .collect()
}

fn parse_part(body: &Bytes, at: &str, value: Json<'_>) -> Result<Part, InvalidRequest> {
    let Json::Object(entries) = value else {
        return Err(InvalidRequest::wrong_type(at, "an object", &value));
    };
    let mut kind = None;
    let mut payload = Vec::new();
    for (key, value) in entries {
        match key.as_ref() {
            "type" => match value {
                Json::String(name) => kind = Some(name),
                other => {
                    return Err(InvalidRequest::wrong_type(
                        &format!("{at}.type"),
                        "a string",
                        &other,
                    ));
                }
            },
            // A hint for a prompt cache; it cannot change the answer.
            "prompt_cache_breakpoint" => {}
            _ => payload.push((key, value)),
        }
    }
    let kind = kind.ok_or_else(|| missing(&format!("{at}.type")))?;
    match kind.as_ref() {
        "text" => match only(at, "text", payload)? {
            Json::String(text) => Ok(Part::Text(text.into_owned())),
            other => Err(InvalidRequest::wrong_type(
                &format!("{at}.text"),
                "a string",
                &other,
            )),
        },
        "image_url" => parse_image_url(
            body,
            &format!("{at}.image_url"),
            only(at, "image_url", payload)?,
        ),
        "input_audio" | "file" | "refusal" => Err(InvalidRequest::new(
            "unsupported_value",
            format!("{at}.type"),
            format!("Parts of type '{kind}' are not supported by this server."),
        )),
        _ => Err(InvalidRequest::wrong_value(
            &format!("{at}.type"),
            "supported values are 'text' and 'image_url'",
        )),
    }
}

/// The one field that a part of its type has.
fn only<'a>(
    at: &str,
    name: &str,
    payload: Vec<(Cow<'a, str>, Json<'a>)>,
) -> Result<Json<'a>, InvalidRequest> {
    let mut found = None;
    for (key, value) in payload {
        if key == name {
            found = Some(value);
        } else if !value.is_null() {
            return Err(unknown(at, &key));
        }
    }
    found.ok_or_else(|| missing(&format!("{at}.{name}")))
}

fn parse_image_url(body: &Bytes, at: &str, value: Json<'_>) -> Result<Part, InvalidRequest> {
    let Json::Object(entries) = value else {
        return Err(InvalidRequest::wrong_type(at, "an object", &value));
    };
    let mut url = None;
    let mut detail = Detail::Auto;
    for (key, value) in entries {
        match (key.as_ref(), value) {
            ("url", Json::String(text)) => url = Some(text),
            ("url", other) => {
                return Err(InvalidRequest::wrong_type(
                    &format!("{at}.url"),
                    "a string",
                    &other,
                ));
            }
            ("detail", Json::Null) => {}
            ("detail", Json::String(name)) => {
                detail = match name.as_ref() {
                    "low" => Detail::Low,
                    "auto" => Detail::Auto,
                    // `original` asks for no shrinking; the largest budget is the most there is.
                    "high" | "original" => Detail::High,
                    _ => {
                        return Err(InvalidRequest::wrong_value(
                            &format!("{at}.detail"),
                            "supported values are 'auto', 'low', 'high' and 'original'",
                        ));
                    }
                }
            }
            ("detail", other) => {
                return Err(InvalidRequest::wrong_type(
                    &format!("{at}.detail"),
                    "a string",
                    &other,
                ));
            }
            (_, Json::Null) => {}
            _ => return Err(unknown(at, &key)),
        }
    }
    let param = format!("{at}.url");
    let url = match url.ok_or_else(|| missing(&param))? {
        Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    Ok(Part::Image(ImageUrl { url, detail, param }))
}

fn missing(param: &str) -> InvalidRequest {
    InvalidRequest::new(
        "missing_required_parameter",
        param,
        format!("Missing required parameter: '{param}'."),
    )
}

fn unknown(at: &str, key: &str) -> InvalidRequest {
    let key: String = key.chars().take(64).collect();
    let param = format!("{at}.{key}");
    let message = format!("Unknown parameter: '{param}'.");
    InvalidRequest::new("unknown_parameter", param, message)
}
