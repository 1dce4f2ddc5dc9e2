//! The items of a request's `input`, as turns.

use std::borrow::Cow;

use bytes::Bytes;

use crate::openai::{
    InvalidRequest,
    json::Json,
    message::{Detail, ImageUrl, MAX_ITEMS, Message, Part, Role, ToolCall},
    read,
};

/// What the ids of thoughts begin with.
pub const THOUGHT_ID: &str = "rs_";

/// Items that OpenAI's own tools leave behind.
const FOREIGN: &[&str] = &[
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter_call",
    "compaction",
    "computer_call",
    "computer_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "file_search_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
];
const KNOWN: &[&str] = &[
    "message",
    "function_call",
    "function_call_output",
    "reasoning",
    "item_reference",
];

/// The turns, in order; never none. What was dropped goes into `ignored`.
pub(super) fn parse(
    body: &Bytes,
    value: Json<'_>,
    ignored: &mut Vec<&'static str>,
) -> Result<Vec<Message>, InvalidRequest> {
    let items = match value {
        Json::String(text) => {
            let text = Part::Text(text.into_owned());
            return Ok(vec![Message::new(Role::User, vec![text])]);
        }
        Json::Array(_) => read::array("input", value, "items", 1..=MAX_ITEMS)?,
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => {
            return Err(InvalidRequest::wrong_type(
                "input",
                "a string or an array of items",
                &value,
            ));
        }
    };
    let mut turns = Vec::with_capacity(items.len());
    for (i, item) in items.into_iter().enumerate() {
        let at = format!("input[{i}]");
        let entries = read::object(&at, item)?;
        match kind(&at, &entries)?.as_ref() {
            "message" => message(body, &at, entries, &mut turns)?,
            "function_call" => call(&at, entries, &mut turns)?,
            "function_call_output" => output(body, &at, entries, &mut turns)?,
            kind => {
                if kind == "item_reference" {
                    reference(&at, entries)?;
                }
                if !ignored.contains(&"input.reasoning") {
                    ignored.push("input.reasoning");
                }
            }
        }
    }
    if turns.is_empty() {
        let rule = "expected at least one message, function call or output";
        return Err(InvalidRequest::wrong_value("input", rule));
    }
    Ok(turns)
}

/// The item's type; `message` where none is given.
fn kind<'a>(at: &str, entries: &read::Entries<'a>) -> Result<Cow<'a, str>, InvalidRequest> {
    let param = format!("{at}.type");
    let found = entries.iter().find(|(key, _)| key == "type");
    let kind = match found.map(|(_, value)| value) {
        None => Cow::Borrowed("message"),
        Some(value) => read::text(&param, value.clone())?,
    };
    match kind.as_ref() {
        known if KNOWN.contains(&known) => Ok(kind),
        foreign if FOREIGN.contains(&foreign) => Err(InvalidRequest::new(
            "unsupported_value",
            param,
            format!("Items of type '{foreign}' are not supported by this server."),
        )),
        _ => {
            let rule = format!("supported values are '{}'", KNOWN.join("', '"));
            Err(InvalidRequest::wrong_value(&param, &rule))
        }
    }
}

/// A reference to an item that is not here. Of thoughts nothing is lost: they would be dropped.
fn reference(at: &str, entries: read::Entries<'_>) -> Result<(), InvalidRequest> {
    let param = format!("{at}.id");
    let mut id = None;
    for (key, value) in entries {
        match key.as_ref() {
            "type" => {}
            "id" => id = Some(read::text(&param, value)?),
            _ if value.is_null() => {}
            _ => return Err(read::unknown(at, &key)),
        }
    }
    let id = id.ok_or_else(|| read::missing(&param))?;
    if id.starts_with(THOUGHT_ID) {
        return Ok(());
    }
    let message = format!(
        "There is no item '{}': this server stores none, so they cannot be referred to. Send the item \
         itself; with 'store: false' SDKs do so.",
        read::shown(&id)
    );
    Err(InvalidRequest::new("item_not_found", param, message))
}

/// What items of answers carry, sent back as they came.
fn is_bookkeeping(key: &str) -> bool {
    matches!(key, "type" | "id" | "status" | "phase")
}

fn message(
    body: &Bytes,
    at: &str,
    entries: read::Entries<'_>,
    turns: &mut Vec<Message>,
) -> Result<(), InvalidRequest> {
    const ROLES: &[&str] = &["user", "assistant", "system", "developer"];
    let (mut role, mut content) = (None, None);
    for (key, value) in entries {
        match key.as_ref() {
            "role" => {
                role = Some(match read::one_of(&format!("{at}.role"), &value, ROLES)? {
                    "user" => Role::User,
                    "assistant" => Role::Assistant,
                    _ => Role::System,
                });
            }
            "content" => content = Some(value),
            key if value.is_null() || is_bookkeeping(key) => {}
            _ => return Err(read::unknown(at, &key)),
        }
    }
    let role = role.ok_or_else(|| read::missing(format!("{at}.role")))?;
    let param = format!("{at}.content");
    let content = content.ok_or_else(|| read::missing(&param))?;
    let parts = parts(body, &param, content, role)?;
    turns.push(Message::new(role, parts));
    Ok(())
}

fn call(
    at: &str,
    entries: read::Entries<'_>,
    turns: &mut Vec<Message>,
) -> Result<(), InvalidRequest> {
    let (mut id, mut name, mut arguments) = (None, None, None);
    for (key, value) in entries {
        let param = read::field(at, &key);
        match key.as_ref() {
            "call_id" => id = Some(read::text(&param, value)?.into_owned()),
            "name" => name = Some(read::text(&param, value)?.into_owned()),
            "arguments" => arguments = Some(read::text(&param, value)?.into_owned()),
            key if value.is_null() || is_bookkeeping(key) => {}
            _ => return Err(read::unknown(at, &key)),
        }
    }
    let call = ToolCall {
        id: id.ok_or_else(|| read::missing(format!("{at}.call_id")))?,
        name: name.ok_or_else(|| read::missing(format!("{at}.name")))?,
        arguments: arguments.ok_or_else(|| read::missing(format!("{at}.arguments")))?,
    };
    // A turn is what a model said and called before it was answered; here its items stand apart.
    match turns.last_mut() {
        Some(turn) if turn.role == Role::Assistant => turn.calls.push(call),
        _ => turns.push(Message {
            calls: vec![call],
            ..Message::new(Role::Assistant, Vec::new())
        }),
    }
    Ok(())
}

fn output(
    body: &Bytes,
    at: &str,
    entries: read::Entries<'_>,
    turns: &mut Vec<Message>,
) -> Result<(), InvalidRequest> {
    let (mut id, mut output) = (None, None);
    let id_at = format!("{at}.call_id");
    for (key, value) in entries {
        match key.as_ref() {
            "call_id" => id = Some(read::text(&id_at, value)?.into_owned()),
            "output" => output = Some(value),
            key if value.is_null() || is_bookkeeping(key) => {}
            _ => return Err(read::unknown(at, &key)),
        }
    }
    let id = id.ok_or_else(|| read::missing(&id_at))?;
    let mut calls = turns.iter().flat_map(|turn| &turn.calls);
    if !calls.any(|call| call.id == id) {
        let rule = "there is no function call with this id before it";
        return Err(InvalidRequest::wrong_value(&id_at, rule));
    }
    let param = format!("{at}.output");
    let output = output.ok_or_else(|| read::missing(&param))?;
    turns.push(Message {
        call_id: Some(id),
        ..Message::new(Role::Tool, parts(body, &param, output, Role::Tool)?)
    });
    Ok(())
}

fn parts(body: &Bytes, at: &str, value: Json<'_>, role: Role) -> Result<Vec<Part>, InvalidRequest> {
    match value {
        Json::String(text) => Ok(vec![Part::Text(text.into_owned())]),
        Json::Array(_) => {
            let items = read::array(at, value, "items", 1..=MAX_ITEMS)?
                .into_iter()
                .enumerate();
            let parts = items.map(|(i, item)| part(body, &format!("{at}[{i}]"), item, role));
            parts.collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => {
            let expected = "a string or an array of parts";
            Err(InvalidRequest::wrong_type(at, expected, &value))
        }
    }
}

fn part(body: &Bytes, at: &str, value: Json<'_>, role: Role) -> Result<Part, InvalidRequest> {
    let mut entries = read::object(at, value)?;
    let param = format!("{at}.type");
    let place = entries.iter().position(|(key, _)| key == "type");
    let place = place.ok_or_else(|| read::missing(&param))?;
    let kind = read::text(&param, entries.remove(place).1)?;
    // A hint for a prompt cache; it cannot change the answer.
    entries.retain(|(key, _)| key != "prompt_cache_breakpoint");
    match kind.as_ref() {
        "input_text" | "output_text" => text(at, entries),
        "input_image" if matches!(role, Role::System | Role::Assistant) => {
            let rule = "images stand in messages of the user and in outputs of functions";
            Err(InvalidRequest::wrong_value(&param, rule))
        }
        "input_image" => image(body, at, entries),
        "input_file" | "input_audio" | "refusal" => Err(InvalidRequest::new(
            "unsupported_value",
            param,
            format!("Parts of type '{kind}' are not supported by this server."),
        )),
        _ => {
            let rule = "supported values are 'input_text', 'output_text' and 'input_image'";
            Err(InvalidRequest::wrong_value(&param, rule))
        }
    }
}

fn text(at: &str, entries: read::Entries<'_>) -> Result<Part, InvalidRequest> {
    let mut text = None;
    for (key, value) in entries {
        match key.as_ref() {
            "text" => text = Some(read::text(&format!("{at}.text"), value)?.into_owned()),
            // What parts of answers carry, sent back as it came.
            "annotations" | "logprobs" => {}
            _ if value.is_null() => {}
            _ => return Err(read::unknown(at, &key)),
        }
    }
    text.map(Part::Text)
        .ok_or_else(|| read::missing(format!("{at}.text")))
}

fn image(body: &Bytes, at: &str, entries: read::Entries<'_>) -> Result<Part, InvalidRequest> {
    let param = format!("{at}.image_url");
    let mut url = None;
    let mut detail = Detail::Auto;
    for (key, value) in entries {
        match key.as_ref() {
            _ if value.is_null() => {}
            "image_url" => url = Some(read::text(&param, value)?),
            "detail" => detail = Detail::read(&format!("{at}.detail"), &value)?,
            "file_id" => {
                let message = "This server stores no files: send the image as 'image_url'.";
                let param = format!("{at}.file_id");
                return Err(InvalidRequest::new("unsupported_parameter", param, message));
            }
            _ => return Err(read::unknown(at, &key)),
        }
    }
    let url = match url.ok_or_else(|| read::missing(&param))? {
        Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    Ok(Part::Image(ImageUrl { url, detail, param }))
}
