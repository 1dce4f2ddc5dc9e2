//! Chat completions. Which fields a request may have follows the table of `openai::fields`.

use serde_json::{Value, json};

use super::{
    requests::{sampling, stream_options},
    schema::{
        Named, any, bounded, closed, count, ignored, integers, is, list, maybe, name, of, open,
        reference, text, words,
    },
};
use crate::openai::fields::{FIELDS, Rule};

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("ChatCompletionRequest", request()),
        ("ChatMessage", message()),
        ("ChatTool", tool()),
        ("ChatCompletion", completion()),
        ("ChatCompletionChunk", chunk()),
        ("Usage", usage()),
    ]
}

fn request() -> Value {
    let mut known = fields();
    known.extend(sampling());
    let mut fields = Vec::new();
    for field in FIELDS {
        let schema = known.iter().find(|(known, _)| *known == field.name);
        let schema = schema.map(|(_, schema)| schema.clone());
        match field.rule {
            Rule::Honoured => fields.push((field.name, schema.unwrap_or_else(|| json!({})))),
            Rule::Accepted => {
                let described = json!({ "description": "Accepted without effect." });
                fields.push((field.name, schema.unwrap_or(described)));
            }
            Rule::Refused => fields.push((
                field.name,
                json!({
                    "description": "Refused, unless it asks for nothing.",
                }),
            )),
        }
    }
    closed(&["model", "messages"], &fields)
}

fn fields() -> Vec<Named> {
    let function = closed(&["name"], &[("name", name(64))]);
    let named = closed(
        &["type", "function"],
        &[("type", is("function")), ("function", function)],
    );
    let allowed = closed(
        &["mode", "tools"],
        &[
            ("mode", words(&["auto", "required"])),
            ("tools", list(named.clone())),
        ],
    );
    let choice = any([
        words(&["none", "auto", "required"]),
        named,
        closed(
            &["type", "allowed_tools"],
            &[("type", is("allowed_tools")), ("allowed_tools", allowed)],
        ),
    ]);
    let efforts = crate::openai::request::EFFORTS;
    vec![
        ("model", text()),
        ("messages", bounded(reference("ChatMessage"), 1, 4096)),
        ("max_tokens", maybe(integers(1, None))),
        ("max_completion_tokens", maybe(integers(1, None))),
        ("n", maybe(integers(1, None))),
        ("stream", maybe(of("boolean"))),
        ("stream_options", stream_options()),
        ("logprobs", maybe(of("boolean"))),
        ("top_logprobs", maybe(integers(0, Some(20)))),
        ("response_format", maybe(format())),
        ("tools", maybe(list(reference("ChatTool")))),
        ("tool_choice", maybe(choice)),
        ("parallel_tool_calls", maybe(of("boolean"))),
        ("reasoning_effort", maybe(words(efforts))),
        (
            "service_tier",
            maybe(words(&["auto", "default", "flex", "scale", "priority"])),
        ),
    ]
}

fn format() -> Value {
    let schema = closed(
        &["name"],
        &[
            ("name", text()),
            ("description", maybe(text())),
            ("schema", maybe(of("object"))),
            ("strict", maybe(of("boolean"))),
        ],
    );
    any([
        closed(&["type"], &[("type", words(&["text", "json_object"]))]),
        closed(
            &["type", "json_schema"],
            &[("type", is("json_schema")), ("json_schema", schema)],
        ),
    ])
}

fn tool() -> Value {
    let function = closed(
        &["name"],
        &[
            ("name", name(64)),
            ("description", maybe(text())),
            ("parameters", maybe(of("object"))),
            ("strict", maybe(of("boolean"))),
        ],
    );
    closed(
        &["type", "function"],
        &[("type", is("function")), ("function", function)],
    )
}

fn message() -> Value {
    let words_part = closed(
        &["type", "text"],
        &[
            ("type", is("text")),
            ("text", text()),
            ("prompt_cache_breakpoint", json!({})),
        ],
    );
    let url = closed(
        &["url"],
        &[
            ("url", text()),
            ("detail", maybe(words(&["auto", "low", "high", "original"]))),
        ],
    );
    let image_part = closed(
        &["type", "image_url"],
        &[
            ("type", is("image_url")),
            ("image_url", url),
            ("prompt_cache_breakpoint", json!({})),
        ],
    );
    let content = any([
        text(),
        bounded(any([words_part, image_part]), 1, 4096),
        of("null"),
    ]);
    let function = closed(
        &["name", "arguments"],
        &[("name", text()), ("arguments", text())],
    );
    let call = closed(
        &["id", "type", "function"],
        &[
            ("id", text()),
            ("type", is("function")),
            ("function", function),
        ],
    );
    // Open, since SDKs send messages of answers back with all that they carry.
    open(
        &["role"],
        &[
            (
                "role",
                words(&["system", "developer", "user", "assistant", "tool"]),
            ),
            ("content", content),
            ("name", ignored(text())),
            ("tool_calls", maybe(list(call))),
            ("tool_call_id", maybe(text())),
        ],
    )
}

fn completion() -> Value {
    let message = open(
        &["role", "content", "refusal"],
        &[
            ("role", is("assistant")),
            ("content", maybe(text())),
            ("refusal", of("null")),
            ("tool_calls", maybe(list(of("object")))),
        ],
    );
    let choice = open(
        &["index", "message", "logprobs", "finish_reason"],
        &[
            ("index", count()),
            ("message", message),
            ("logprobs", maybe(of("object"))),
            ("finish_reason", words(&["stop", "length", "tool_calls"])),
        ],
    );
    answer("chat.completion", choice, reference("Usage"))
}

fn chunk() -> Value {
    let delta = open(
        &[],
        &[("role", is("assistant")), ("content", maybe(text()))],
    );
    let choice = open(
        &["index", "delta", "finish_reason"],
        &[
            ("index", count()),
            ("delta", delta),
            ("logprobs", maybe(of("object"))),
            (
                "finish_reason",
                maybe(words(&["stop", "length", "tool_calls"])),
            ),
        ],
    );
    answer("chat.completion.chunk", choice, maybe(reference("Usage")))
}

fn answer(object: &str, choice: Value, usage: Value) -> Value {
    open(
        &["id", "object", "created", "model", "choices"],
        &[
            ("id", text()),
            ("object", is(object)),
            ("created", count()),
            ("model", text()),
            ("system_fingerprint", maybe(text())),
            (
                "service_tier",
                maybe(words(&["default", "flex", "priority"])),
            ),
            ("choices", list(choice)),
            ("usage", usage),
        ],
    )
}

fn usage() -> Value {
    let counts = |fields: &[&'static str]| {
        let properties: Vec<Named> = fields.iter().map(|field| (*field, count())).collect();
        closed(fields, &properties)
    };
    const PROMPT: &[&str] = &[
        "cached_tokens",
        "image_tokens",
        "text_tokens",
        "audio_tokens",
    ];
    const COMPLETION: &[&str] = &[
        "reasoning_tokens",
        "audio_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
    ];
    let required = [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
    ];
    closed(
        &required,
        &[
            ("prompt_tokens", count()),
            ("completion_tokens", count()),
            ("total_tokens", count()),
            ("prompt_tokens_details", counts(PROMPT)),
            ("completion_tokens_details", counts(COMPLETION)),
        ],
    )
}
