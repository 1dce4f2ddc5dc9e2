//! Chat completions. Which fields a request may have follows the table of `openai::fields`.

use serde_json::{Value, json};

use super::{
    requests::{sampling, stream_options, streamed},
    schema::{
        Named, any, bounded, closed, closed_but_null, count, ignored, integers, is, list, maybe,
        name, of, open, reference, refused, text, unless, without_effect, words,
    },
};
use crate::openai::{
    fields::{self, FIELDS, Rule},
    message::MAX_ITEMS,
    read,
    request::{EFFORTS, MAX_ANSWERS, TIERS},
    sampling::MAX_TOP_LOGPROBS,
    tools::MAX_TOOLS,
};

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("ChatCompletionRequest", request()),
        ("ChatTool", tool()),
        ("ChatCompletion", completion()),
        ("ChatCompletionChunk", chunk()),
        ("Usage", usage()),
    ]
}

fn request() -> Value {
    let mut known = honoured();
    known.extend(sampling());
    let mut properties = Vec::new();
    for field in FIELDS {
        let schema = match field.rule {
            Rule::Honoured => {
                let schema = known.iter().find(|(known, _)| *known == field.name);
                schema.map_or_else(|| json!({}), |(_, schema)| schema.clone())
            }
            Rule::Accepted => without_effect(fields::shape(field.name)),
            Rule::Refused => refused(fields::nothing(field.name)),
        };
        properties.push((field.name, schema));
    }
    let mut request = closed(&["model", "messages"], &properties);
    let logprobs = open(&["logprobs"], &[("logprobs", json!({ "const": true }))]);
    let tools = json!({ "type": "array", "minItems": 1 });
    request["allOf"] = json!([
        streamed(),
        unless("top_logprobs", json!([null, 0]), logprobs),
        unless(
            "tool_choice",
            json!([null, "none", "auto"]),
            open(&["tools"], &[("tools", tools)])
        ),
    ]);
    request
}

fn honoured() -> Vec<Named> {
    vec![
        ("model", text()),
        ("messages", bounded(reference("ChatMessage"), 1, MAX_ITEMS)),
        ("max_tokens", maybe(integers(1..=usize::MAX))),
        ("max_completion_tokens", maybe(integers(1..=usize::MAX))),
        ("n", maybe(integers(1..=MAX_ANSWERS))),
        ("stream", maybe(of("boolean"))),
        ("stream_options", stream_options()),
        ("logprobs", maybe(of("boolean"))),
        ("top_logprobs", maybe(integers(0..=MAX_TOP_LOGPROBS))),
        ("response_format", maybe(format())),
        ("tools", maybe(bounded(reference("ChatTool"), 0, MAX_TOOLS))),
        ("tool_choice", maybe(choice())),
        ("parallel_tool_calls", maybe(of("boolean"))),
        ("reasoning_effort", maybe(words(EFFORTS))),
        ("service_tier", maybe(words(TIERS))),
    ]
}

fn choice() -> Value {
    let function = closed(&["name"], &[("name", name(read::MAX_NAME))]);
    let named = closed_but_null(
        &["type", "function"],
        &[("type", is("function")), ("function", function)],
    );
    let allowed = closed(
        &["mode", "tools"],
        &[
            ("mode", words(&["auto", "required"])),
            ("tools", bounded(named.clone(), 1, MAX_TOOLS)),
        ],
    );
    any([
        words(&["none", "auto", "required"]),
        named,
        closed(
            &["type", "allowed_tools"],
            &[("type", is("allowed_tools")), ("allowed_tools", allowed)],
        ),
    ])
}

fn format() -> Value {
    let schema = closed_but_null(
        &["name", "schema"],
        &[
            ("name", name(read::MAX_NAME)),
            ("description", ignored(text())),
            ("schema", of("object")),
            ("strict", maybe(of("boolean"))),
        ],
    );
    any([
        closed_but_null(&["type"], &[("type", words(&["text", "json_object"]))]),
        closed_but_null(
            &["type", "json_schema"],
            &[("type", is("json_schema")), ("json_schema", schema)],
        ),
    ])
}

fn tool() -> Value {
    let function = closed_but_null(
        &["name"],
        &[
            ("name", name(read::MAX_NAME)),
            ("description", maybe(text())),
            ("parameters", maybe(of("object"))),
            ("strict", maybe(of("boolean"))),
        ],
    );
    closed_but_null(
        &["type", "function"],
        &[("type", is("function")), ("function", function)],
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
