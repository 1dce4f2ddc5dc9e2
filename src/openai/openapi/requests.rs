//! Bodies of requests, but for chat completions.

use serde_json::{Value, json};

use super::schema::{
    Named, any, bounded, closed, count, ignored, integers, is, list, maybe, name, nothing_but,
    numbers, of, reference, text, words,
};
use crate::openai::{
    completions::{MAX_CHOICES, MAX_LOGPROBS},
    predict::MAX_INPUTS,
    read,
    responses::{input, request, text as form, tools},
    sampling::{MAX_BIAS, MAX_BIASES, MAX_REPETITION_PENALTY, MAX_STOP_BYTES, MAX_STOPS},
};

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("CompletionRequest", completion()),
        ("PredictRequest", predict()),
        ("TokenRequest", token()),
        ("ResponsesRequest", responses()),
        ("ResponsesItem", item()),
        ("ResponsesContent", content()),
        ("ResponsesTool", tool()),
        ("ResponsesToolChoice", choice()),
        ("ResponsesTextFormat", format()),
    ]
}

/// How to choose tokens, in the fields that the text routes share.
pub(super) fn sampling() -> Vec<(&'static str, Value)> {
    let stop = json!({ "type": "string", "minLength": 1, "maxLength": MAX_STOP_BYTES });
    let bias = json!({
        "type": "object",
        "maxProperties": MAX_BIASES,
        "additionalProperties": numbers(-MAX_BIAS, MAX_BIAS),
    });
    vec![
        ("temperature", maybe(numbers(0.0, 2.0))),
        ("top_p", maybe(numbers(0.0, 1.0))),
        ("top_k", maybe(count())),
        ("min_p", maybe(numbers(0.0, 1.0))),
        ("presence_penalty", maybe(numbers(-2.0, 2.0))),
        ("frequency_penalty", maybe(numbers(-2.0, 2.0))),
        (
            "repetition_penalty",
            maybe(json!({
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": MAX_REPETITION_PENALTY,
            })),
        ),
        ("logit_bias", maybe(bias)),
        ("seed", maybe(of("integer"))),
        (
            "stop",
            maybe(any([stop.clone(), bounded(stop, 0, MAX_STOPS)])),
        ),
    ]
}

pub(super) fn stream_options() -> Value {
    maybe(closed(
        &[],
        &[
            ("include_usage", maybe(of("boolean"))),
            ("include_obfuscation", ignored(of("boolean"))),
        ],
    ))
}

fn completion() -> Value {
    let ids = json!({ "type": "array", "items": count(), "minItems": 1 });
    let several = any([text(), ids.clone()]);
    let prompt = any([text(), ids, bounded(several, 1, MAX_CHOICES)]);
    let choices = || maybe(integers(1, Some(MAX_CHOICES)));
    let mut fields = vec![
        ("model", text()),
        ("prompt", prompt),
        ("max_tokens", maybe(integers(1, None))),
        ("n", choices()),
        ("best_of", choices()),
        ("echo", maybe(of("boolean"))),
        ("logprobs", maybe(integers(0, Some(MAX_LOGPROBS)))),
        ("stream", maybe(of("boolean"))),
        ("stream_options", stream_options()),
        ("user", json!({ "description": "Accepted without effect." })),
        ("suffix", nothing_but(json!(["", null]))),
    ];
    fields.extend(sampling());
    closed(&["model", "prompt"], &fields)
}

fn predict() -> Value {
    let image = closed(
        &["mime_type", "data"],
        &[
            (
                "mime_type",
                json!({ "type": "string", "pattern": "^image/" }),
            ),
            (
                "data",
                json!({ "type": "string", "contentEncoding": "base64" }),
            ),
            ("text", of("null")),
        ],
    );
    let words = closed(
        &["text"],
        &[
            ("text", text()),
            ("mime_type", of("null")),
            ("data", of("null")),
        ],
    );
    let mut parameters = vec![
        ("max_tokens", maybe(integers(1, None))),
        ("max_completion_tokens", maybe(integers(1, None))),
    ];
    parameters.extend(sampling());
    closed(
        &["inputs"],
        &[
            ("inputs", bounded(any([image, words]), 1, MAX_INPUTS)),
            ("parameters", maybe(closed(&[], &parameters))),
        ],
    )
}

fn token() -> Value {
    closed(
        &[],
        &[
            ("minutes", maybe(integers(1, None))),
            ("models", maybe(list(text()))),
            ("limits", reference("Limits")),
            ("max_images", maybe(count())),
            ("max_image_pixels", maybe(count())),
            ("origin", maybe(text())),
            ("subject", maybe(text())),
        ],
    )
}

fn responses() -> Value {
    let mut fields = vec![
        ("model", text()),
        (
            "input",
            any([
                text(),
                bounded(reference("ResponsesItem"), 1, input::MAX_ITEMS),
            ]),
        ),
        ("instructions", maybe(text())),
        ("max_output_tokens", maybe(integers(1, None))),
        ("temperature", maybe(numbers(0.0, 2.0))),
        ("top_p", maybe(numbers(0.0, 1.0))),
        (
            "tools",
            maybe(bounded(reference("ResponsesTool"), 0, tools::MAX_TOOLS)),
        ),
        ("tool_choice", maybe(reference("ResponsesToolChoice"))),
        ("parallel_tool_calls", maybe(of("boolean"))),
        (
            "text",
            maybe(closed(
                &[],
                &[
                    ("format", maybe(reference("ResponsesTextFormat"))),
                    ("verbosity", ignored(words(form::VERBOSITIES))),
                ],
            )),
        ),
        ("reasoning", maybe(reasoning())),
        ("include", maybe(list(words(form::INCLUDABLE)))),
        (
            "top_logprobs",
            maybe(integers(0, Some(request::MAX_LOGPROBS))),
        ),
        ("stream", maybe(of("boolean"))),
        (
            "stream_options",
            maybe(closed(
                &[],
                &[("include_obfuscation", ignored(of("boolean")))],
            )),
        ),
        (
            "service_tier",
            maybe(words(&["auto", "default", "flex", "scale", "priority"])),
        ),
        ("metadata", maybe(metadata())),
    ];
    fields.extend(responses_without_effect());
    closed(&["model", "input"], &fields)
}

fn responses_without_effect() -> Vec<(&'static str, Value)> {
    vec![
        ("user", ignored(text())),
        ("safety_identifier", ignored(text())),
        ("prompt_cache_key", ignored(text())),
        (
            "prompt_cache_options",
            json!({ "description": "Accepted without effect." }),
        ),
        (
            "prompt_cache_retention",
            json!({ "description": "Accepted without effect." }),
        ),
        (
            "max_tool_calls",
            json!({ "description": "Accepted without effect." }),
        ),
        ("store", ignored(of("boolean"))),
        ("background", nothing_but(json!([false, null]))),
        ("truncation", nothing_but(json!(["disabled", null]))),
        ("context_management", nothing_but(json!([[], null]))),
        ("previous_response_id", of("null")),
        ("conversation", of("null")),
        ("background_options", of("null")),
        ("prompt", of("null")),
        ("moderation", of("null")),
        ("image", of("null")),
        ("access_programs", of("null")),
    ]
}

fn reasoning() -> Value {
    let summary = || ignored(words(&["auto", "concise", "detailed"]));
    closed(
        &[],
        &[
            ("effort", maybe(words(crate::openai::request::EFFORTS))),
            ("summary", summary()),
            ("generate_summary", summary()),
            (
                "context",
                ignored(words(&["auto", "current_turn", "all_turns"])),
            ),
            ("mode", nothing_but(json!(["standard", null]))),
        ],
    )
}

fn metadata() -> Value {
    json!({
        "type": "object",
        "maxProperties": form::MAX_METADATA,
        "propertyNames": { "maxLength": form::MAX_METADATA_KEY },
        "additionalProperties": { "type": "string", "maxLength": form::MAX_METADATA_VALUE },
    })
}

/// What items of answers carry, sent back as it came.
fn with_bookkeeping(kind: Value, fields: Vec<(&'static str, Value)>) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("type", kind),
        ("id", json!({})),
        ("status", json!({})),
        ("phase", json!({})),
    ];
    all.extend(fields);
    all
}

fn item() -> Value {
    let said = || {
        any([
            text(),
            bounded(reference("ResponsesContent"), 1, input::MAX_ITEMS),
        ])
    };
    let message = with_bookkeeping(
        is("message"),
        vec![
            ("role", words(&["user", "assistant", "system", "developer"])),
            ("content", said()),
        ],
    );
    let call = with_bookkeeping(
        is("function_call"),
        vec![
            ("call_id", text()),
            ("name", text()),
            ("arguments", text()),
            ("namespace", of("null")),
            ("caller", of("null")),
        ],
    );
    let output = with_bookkeeping(
        is("function_call_output"),
        vec![
            ("call_id", text()),
            ("output", said()),
            ("caller", of("null")),
        ],
    );
    let mut thought = closed(&["type"], &[("type", is("reasoning"))]);
    thought["additionalProperties"] = true.into();
    thought["description"] = "Accepted without effect.".into();
    any([
        closed(&["role", "content"], &message),
        closed(&["type", "call_id", "name", "arguments"], &call),
        closed(&["type", "call_id", "output"], &output),
        thought,
    ])
}

fn content() -> Value {
    let words_of = |kind| {
        closed(
            &["type", "text"],
            &[
                ("type", is(kind)),
                ("text", text()),
                ("annotations", json!({})),
                ("logprobs", json!({})),
                ("prompt_cache_breakpoint", json!({})),
            ],
        )
    };
    let image = closed(
        &["type", "image_url"],
        &[
            ("type", is("input_image")),
            ("image_url", text()),
            ("detail", maybe(words(&["auto", "low", "high", "original"]))),
            ("file_id", of("null")),
            ("prompt_cache_breakpoint", json!({})),
        ],
    );
    any([words_of("input_text"), words_of("output_text"), image])
}

fn tool() -> Value {
    closed(
        &["type", "name"],
        &[
            ("type", is("function")),
            ("name", name(read::MAX_NAME)),
            ("description", maybe(text())),
            ("parameters", maybe(of("object"))),
            ("strict", maybe(of("boolean"))),
            ("defer_loading", nothing_but(json!([false, null]))),
            ("async", nothing_but(json!([false, null]))),
            ("allowed_callers", of("null")),
            ("output_schema", of("null")),
        ],
    )
}

fn choice() -> Value {
    let one = || {
        closed(
            &["type", "name"],
            &[("type", is("function")), ("name", name(read::MAX_NAME))],
        )
    };
    let allowed = closed(
        &["type", "mode", "tools"],
        &[
            ("type", is("allowed_tools")),
            ("mode", words(&["auto", "required"])),
            ("tools", bounded(one(), 1, tools::MAX_TOOLS)),
        ],
    );
    any([words(&["none", "auto", "required"]), one(), allowed])
}

fn format() -> Value {
    let nothing = |kind| {
        let empty = ["name", "description", "schema", "strict"].map(|field| (field, of("null")));
        let mut fields = vec![("type", is(kind))];
        fields.extend(empty);
        closed(&["type"], &fields)
    };
    let schema = closed(
        &["type", "name", "schema"],
        &[
            ("type", is("json_schema")),
            ("name", name(read::MAX_NAME)),
            ("description", maybe(text())),
            ("schema", of("object")),
            ("strict", maybe(of("boolean"))),
        ],
    );
    any([nothing("text"), nothing("json_object"), schema])
}
