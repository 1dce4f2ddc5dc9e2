//! The messages of a chat: a schema for each role, since each has fields of its own.

use serde_json::{Value, json};

use super::schema::{
    Named, any, bounded, closed_but_nothing, closed_but_null, ignored, is, maybe, name, of, one_of,
    open, reference, texts, url, words,
};
use crate::openai::{
    message::{DETAILS, MAX_CALLS, MAX_ID, MAX_ITEMS},
    read,
};

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("ChatMessage", message()),
        ("ChatSpokenMessage", spoken()),
        ("ChatAssistantMessage", assistant()),
        ("ChatToolMessage", tool()),
        ("ChatToolCall", call()),
        ("ChatTextPart", words_part("text")),
        ("ChatRefusalPart", words_part("refusal")),
        ("ChatImagePart", image_part()),
    ]
}

fn message() -> Value {
    let mut schema = one_of([
        reference("ChatSpokenMessage"),
        reference("ChatAssistantMessage"),
        reference("ChatToolMessage"),
    ]);
    let at = |name: &str| reference(name)["$ref"].clone();
    schema["discriminator"] = json!({
        "propertyName": "role",
        "mapping": {
            "system": at("ChatSpokenMessage"),
            "developer": at("ChatSpokenMessage"),
            "user": at("ChatSpokenMessage"),
            "assistant": at("ChatAssistantMessage"),
            "tool": at("ChatToolMessage"),
        },
    });
    schema
}

/// A string, or parts of these kinds.
fn content(kinds: &[&str]) -> Value {
    let parts = any(kinds.iter().map(|kind| reference(kind)));
    any([of("string"), bounded(parts, 1, MAX_ITEMS)])
}

fn spoken() -> Value {
    closed_but_nothing(
        &["role", "content"],
        &[
            ("role", words(&["system", "developer", "user"])),
            ("content", content(&["ChatTextPart", "ChatImagePart"])),
            ("name", ignored(of("string"))),
        ],
    )
}

fn assistant() -> Value {
    let said = content(&["ChatTextPart", "ChatImagePart", "ChatRefusalPart"]);
    let mut schema = closed_but_nothing(
        &["role"],
        &[
            ("role", is("assistant")),
            ("content", maybe(said.clone())),
            ("name", ignored(of("string"))),
            ("refusal", maybe(of("string"))),
            ("reasoning_content", ignored(of("string"))),
            (
                "tool_calls",
                maybe(bounded(reference("ChatToolCall"), 0, MAX_CALLS)),
            ),
        ],
    );
    // It says, calls or refuses something.
    schema["anyOf"] = json!([
        open(&["content"], &[("content", said)]),
        open(
            &["tool_calls"],
            &[("tool_calls", json!({ "type": "array", "minItems": 1 }))]
        ),
        open(&["refusal"], &[("refusal", of("string"))]),
    ]);
    schema
}

fn tool() -> Value {
    closed_but_nothing(
        &["role", "content", "tool_call_id"],
        &[
            ("role", is("tool")),
            ("content", content(&["ChatTextPart", "ChatImagePart"])),
            ("name", ignored(of("string"))),
            ("tool_call_id", texts(1, MAX_ID)),
        ],
    )
}

fn call() -> Value {
    let function = closed_but_null(
        &["name", "arguments"],
        &[("name", name(read::MAX_NAME)), ("arguments", of("string"))],
    );
    closed_but_null(
        &["id", "type", "function"],
        &[
            ("id", texts(1, MAX_ID)),
            ("type", is("function")),
            ("function", function),
            ("index", maybe(of("number"))),
        ],
    )
}

fn words_part(kind: &'static str) -> Value {
    closed_but_null(
        &["type", kind],
        &[
            ("type", is(kind)),
            (kind, of("string")),
            ("prompt_cache_breakpoint", anything()),
        ],
    )
}

fn image_part() -> Value {
    let url = closed_but_null(
        &["url"],
        &[("url", url()), ("detail", maybe(words(DETAILS)))],
    );
    closed_but_null(
        &["type", "image_url"],
        &[
            ("type", is("image_url")),
            ("image_url", url),
            ("prompt_cache_breakpoint", anything()),
        ],
    )
}

fn anything() -> Value {
    json!({ "description": "Accepted without effect." })
}
