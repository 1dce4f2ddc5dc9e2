//! Answers, but for chat completions; all their fields are always there unless noted.

use serde_json::{Value, json};

use super::schema::{Named, any, closed, count, is, list, maybe, of, open, reference, text, words};

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("Error", error()),
        ("Completion", completion()),
        ("Prediction", prediction()),
        ("Response", response()),
        ("ResponseItem", item()),
        ("ResponseEvent", event()),
        ("ResponseLogprobs", logprobs()),
        ("Model", model()),
        (
            "ModelList",
            whole(vec![
                ("object", is("list")),
                ("data", list(reference("Model"))),
            ]),
        ),
        ("Token", token()),
        ("Rights", rights()),
        ("Limits", limits()),
        (
            "Health",
            whole(vec![("status", is("ok")), ("version", text())]),
        ),
        (
            "Ready",
            whole(vec![
                ("status", is("ready")),
                ("model", text()),
                ("sequences_at_once", count()),
            ]),
        ),
        (
            "OpenApi",
            open(&["openapi", "info", "paths"], &[("openapi", text())]),
        ),
    ]
}

/// An object that has exactly these fields.
fn whole(fields: Vec<Named>) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    closed(&names, &fields)
}

fn error() -> Value {
    let error = whole(vec![
        ("message", text()),
        ("type", text()),
        ("param", maybe(text())),
        ("code", maybe(text())),
    ]);
    whole(vec![("error", error)])
}

fn model() -> Value {
    whole(vec![
        ("id", text()),
        ("object", is("model")),
        ("created", count()),
        ("owned_by", text()),
    ])
}

fn completion() -> Value {
    let likely = json!({ "type": "object", "additionalProperties": of("number") });
    let logprobs = whole(vec![
        ("tokens", list(text())),
        ("token_logprobs", list(of("number"))),
        ("top_logprobs", maybe(list(likely))),
        ("text_offset", list(count())),
    ]);
    let choice = whole(vec![
        ("text", text()),
        ("index", count()),
        ("logprobs", maybe(logprobs)),
        (
            "finish_reason",
            maybe(words(&["stop", "length", "tool_calls"])),
        ),
    ]);
    let required = [
        "id",
        "object",
        "created",
        "model",
        "system_fingerprint",
        "choices",
    ];
    closed(
        &required,
        &[
            ("id", text()),
            ("object", is("text_completion")),
            ("created", count()),
            ("model", text()),
            ("system_fingerprint", text()),
            ("choices", list(choice)),
            ("usage", maybe(reference("Usage"))),
        ],
    )
}

fn prediction() -> Value {
    let output = whole(vec![("text", text())]);
    whole(vec![("outputs", list(output))])
}

fn response() -> Value {
    let mut fields = vec![
        ("id", text()),
        ("object", is("response")),
        ("created_at", count()),
        ("completed_at", maybe(count())),
        (
            "status",
            words(&["in_progress", "completed", "incomplete", "failed"]),
        ),
        ("model", text()),
        ("output", list(reference("ResponseItem"))),
        ("usage", maybe(response_usage())),
        (
            "error",
            maybe(whole(vec![("code", text()), ("message", text())])),
        ),
        (
            "incomplete_details",
            maybe(whole(vec![("reason", is("max_output_tokens"))])),
        ),
    ];
    fields.extend(told_back());
    whole(fields)
}

/// Fields that repeat the request.
fn told_back() -> Vec<Named> {
    vec![
        ("background", json!({ "const": false })),
        ("instructions", maybe(text())),
        ("max_output_tokens", maybe(count())),
        ("max_tool_calls", of("null")),
        ("metadata", of("object")),
        ("parallel_tool_calls", of("boolean")),
        ("previous_response_id", of("null")),
        ("prompt_cache_key", maybe(text())),
        (
            "reasoning",
            whole(vec![("effort", maybe(text())), ("summary", maybe(text()))]),
        ),
        ("safety_identifier", maybe(text())),
        ("service_tier", words(&["default", "flex", "priority"])),
        ("store", json!({ "const": false })),
        ("temperature", maybe(of("number"))),
        (
            "text",
            whole(vec![
                ("format", reference("ResponsesTextFormat")),
                ("verbosity", maybe(text())),
            ]),
        ),
        ("tool_choice", reference("ResponsesToolChoice")),
        ("tools", list(reference("ResponsesTool"))),
        ("top_logprobs", count()),
        ("top_p", maybe(of("number"))),
        ("truncation", is("disabled")),
        ("user", maybe(text())),
    ]
}

fn response_usage() -> Value {
    let read = whole(vec![
        ("cached_tokens", count()),
        ("cache_write_tokens", count()),
    ]);
    let written = whole(vec![("reasoning_tokens", count())]);
    whole(vec![
        ("input_tokens", count()),
        ("input_tokens_details", read),
        ("output_tokens", count()),
        ("output_tokens_details", written),
        ("total_tokens", count()),
    ])
}

fn item() -> Value {
    let status = || words(&["in_progress", "completed", "incomplete"]);
    let said = whole(vec![
        ("type", is("output_text")),
        ("text", text()),
        ("annotations", list(json!({}))),
        ("logprobs", reference("ResponseLogprobs")),
    ]);
    let thought = whole(vec![("type", is("reasoning_text")), ("text", text())]);
    let message = vec![
        ("type", is("message")),
        ("id", text()),
        ("role", is("assistant")),
        ("content", list(said)),
        ("status", status()),
    ];
    let reasoning = vec![
        ("type", is("reasoning")),
        ("id", text()),
        ("summary", list(json!({}))),
        ("content", list(thought)),
        ("encrypted_content", of("null")),
        ("status", status()),
    ];
    let call = vec![
        ("type", is("function_call")),
        ("id", text()),
        ("call_id", text()),
        ("name", text()),
        ("arguments", text()),
        ("status", status()),
    ];
    any([whole(message), whole(reasoning), whole(call)])
}

fn logprobs() -> Value {
    let token = || {
        vec![
            ("token", text()),
            ("bytes", list(count())),
            ("logprob", of("number")),
        ]
    };
    let mut with_tops = token();
    with_tops.push(("top_logprobs", list(whole(token()))));
    list(whole(with_tops))
}

/// An event of a response's stream.
fn event() -> Value {
    const KINDS: &[&str] = &[
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "error",
    ];
    let part = open(
        &["type", "text"],
        &[
            ("type", words(&["output_text", "reasoning_text"])),
            ("text", text()),
        ],
    );
    closed(
        &["type", "sequence_number"],
        &[
            ("type", words(KINDS)),
            ("sequence_number", count()),
            ("response", reference("Response")),
            ("item", reference("ResponseItem")),
            ("part", part),
            ("item_id", text()),
            ("output_index", count()),
            ("content_index", count()),
            ("delta", text()),
            ("text", text()),
            ("name", text()),
            ("arguments", text()),
            ("logprobs", reference("ResponseLogprobs")),
            ("code", maybe(text())),
            ("message", text()),
            ("param", maybe(text())),
        ],
    )
}

fn token() -> Value {
    whole(vec![
        ("object", is("token")),
        ("token", text()),
        ("token_type", is("Bearer")),
        ("expires_at", count()),
        ("rights", reference("Rights")),
    ])
}

fn rights() -> Value {
    let of_models = json!({ "type": "object", "additionalProperties": reference("Limits") });
    closed(
        &[],
        &[
            ("models", list(text())),
            ("origins", list(text())),
            ("networks", list(text())),
            ("roles", list(words(&["mint_tokens", "priority"]))),
            ("max_image_pixels", count()),
            ("max_images", count()),
            ("limits", reference("Limits")),
            ("model_limits", of_models),
        ],
    )
}

fn limits() -> Value {
    const FIELDS: [&str; 7] = [
        "requests_per_minute",
        "tokens_per_minute",
        "concurrent_requests",
        "image_pixels_per_minute",
        "tokens_per_day",
        "tokens_per_month",
        "tokens_total",
    ];
    closed(&[], &FIELDS.map(|field| (field, maybe(count()))))
}
