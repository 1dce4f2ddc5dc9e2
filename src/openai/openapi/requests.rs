//! Bodies of requests, but for conversations.

use serde_json::{Value, json};

use super::schema::{
    Named, any, bounded, closed, closed_but_null, count, ignored, integers, list, maybe,
    nothing_but, numbers, of, open, reference, text, texts, unless, without_effect,
};
use crate::openai::{
    completions::{MAX_CHOICES, MAX_LOGPROBS},
    fields,
    predict::MAX_INPUTS,
    sampling::{
        MAX_BIAS, MAX_BIASES, MAX_REPETITION_PENALTY, MAX_STOP_BYTES, MAX_STOPS, PENALTY,
        PROBABILITY, TEMPERATURE,
    },
};

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("CompletionRequest", completion()),
        ("PredictRequest", predict()),
        ("TokenRequest", token()),
    ]
}

/// How to choose tokens, in the fields that the text routes share.
pub(super) fn sampling() -> Vec<(&'static str, Value)> {
    let stop = texts(1, MAX_STOP_BYTES);
    let bias = json!({
        "type": "object",
        "maxProperties": MAX_BIASES,
        "propertyNames": { "pattern": "^(0|[1-9][0-9]{0,9})$" },
        "additionalProperties": numbers(&(-MAX_BIAS..=MAX_BIAS)),
    });
    let seed = json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX });
    vec![
        ("temperature", maybe(numbers(&TEMPERATURE))),
        ("top_p", maybe(numbers(&PROBABILITY))),
        ("top_k", maybe(count())),
        ("min_p", maybe(numbers(&PROBABILITY))),
        ("presence_penalty", maybe(numbers(&PENALTY))),
        ("frequency_penalty", maybe(numbers(&PENALTY))),
        (
            "repetition_penalty",
            maybe(json!({
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": MAX_REPETITION_PENALTY,
            })),
        ),
        ("logit_bias", maybe(bias)),
        ("seed", maybe(seed)),
        (
            "stop",
            maybe(any([stop.clone(), bounded(stop, 0, MAX_STOPS)])),
        ),
    ]
}

/// Options of a stream are for streams.
pub(super) fn streamed() -> Value {
    let stream = open(&["stream"], &[("stream", json!({ "const": true }))]);
    unless("stream_options", json!([null]), stream)
}

pub(super) fn stream_options() -> Value {
    maybe(closed_but_null(
        &[],
        &[
            ("include_usage", maybe(of("boolean"))),
            ("include_obfuscation", ignored(of("boolean"))),
        ],
    ))
}

fn completion() -> Value {
    let id = json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
    let ids = json!({ "type": "array", "items": id, "minItems": 1 });
    let several = any([text(), ids.clone()]);
    let prompt = any([text(), ids, bounded(several, 1, MAX_CHOICES)]);
    let choices = || maybe(integers(1..=MAX_CHOICES));
    let mut fields = vec![
        ("model", text()),
        ("prompt", prompt),
        ("max_tokens", maybe(integers(1..=usize::MAX))),
        ("n", choices()),
        ("best_of", choices()),
        ("echo", maybe(of("boolean"))),
        ("logprobs", maybe(integers(0..=MAX_LOGPROBS))),
        ("stream", maybe(of("boolean"))),
        ("stream_options", stream_options()),
        ("user", without_effect(fields::shape("user"))),
        ("suffix", nothing_but(json!(["", null]))),
    ];
    fields.extend(sampling());
    let mut request = closed_but_null(&["model", "prompt"], &fields);
    // What is echoed is text, and has no log probabilities.
    let texts = any([text(), list(text())]);
    let echoed = open(&[], &[("logprobs", of("null")), ("prompt", texts)]);
    request["allOf"] = json!([streamed(), unless("echo", json!([null, false]), echoed)]);
    request
}

fn predict() -> Value {
    let image = closed_but_null(
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
        ],
    );
    let words = closed_but_null(&["text"], &[("text", text())]);
    let mut parameters = vec![
        ("max_tokens", maybe(integers(1..=usize::MAX))),
        ("max_completion_tokens", maybe(integers(1..=usize::MAX))),
    ];
    parameters.extend(sampling());
    closed_but_null(
        &["inputs"],
        &[
            ("inputs", bounded(any([image, words]), 1, MAX_INPUTS)),
            ("parameters", maybe(closed_but_null(&[], &parameters))),
        ],
    )
}

fn token() -> Value {
    closed(
        &[],
        &[
            ("minutes", maybe(integers(1..=usize::MAX))),
            ("models", maybe(list(text()))),
            ("limits", reference("Limits")),
            ("max_images", maybe(count())),
            ("max_image_pixels", maybe(count())),
            ("origin", maybe(text())),
            ("subject", maybe(text())),
        ],
    )
}
