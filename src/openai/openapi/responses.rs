//! Bodies of requests for responses. Which fields one may have follows the table of
//! `openai::responses::fields`.

use serde_json::{Value, json};

use super::{
    requests::streamed,
    schema::{
        Named, any, bounded, closed, closed_but_null, ignored, integers, is, list, maybe, name,
        nothing_but, numbers, of, open, reference, refused, text, unless, url, without_effect,
        words,
    },
};
use crate::openai::{
    fields::{self, Rule, VERBOSITIES},
    message::{DETAILS, MAX_ITEMS},
    read,
    request::{EFFORTS, TIERS},
    responses::{
        fields::{FIELDS, nothing},
        input::THOUGHT_ID,
        text as form,
    },
    sampling::{MAX_TOP_LOGPROBS, PROBABILITY, TEMPERATURE},
    tools::MAX_TOOLS,
};

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("ResponsesRequest", request()),
        ("ResponsesItem", item()),
        ("ResponsesText", words_part()),
        ("ResponsesImage", image_part()),
        ("ResponsesTool", tool()),
        ("ResponsesToolChoice", choice()),
        ("ResponsesTextFormat", format()),
    ]
}

fn request() -> Value {
    let mut properties = honoured();
    for (name, rule) in FIELDS {
        match rule {
            Rule::Honoured => {}
            Rule::Accepted => properties.push((name, without_effect(fields::shape(name)))),
            Rule::Refused => properties.push((name, refused(nothing(name)))),
        }
    }
    let mut request = closed_but_null(&["model", "input"], &properties);
    let tools = json!({ "type": "array", "minItems": 1 });
    request["allOf"] = json!([
        streamed(),
        unless(
            "tool_choice",
            json!([null, "none", "auto"]),
            open(&["tools"], &[("tools", tools)])
        ),
    ]);
    request
}

fn honoured() -> Vec<Named> {
    let items = bounded(reference("ResponsesItem"), 1, MAX_ITEMS);
    let tools = bounded(reference("ResponsesTool"), 0, MAX_TOOLS);
    let obfuscation = ("include_obfuscation", ignored(of("boolean")));
    let form = closed_but_null(
        &[],
        &[
            ("format", maybe(reference("ResponsesTextFormat"))),
            ("verbosity", ignored(words(VERBOSITIES))),
        ],
    );
    vec![
        ("model", text()),
        ("input", any([text(), items])),
        ("instructions", maybe(text())),
        ("max_output_tokens", maybe(integers(1..=usize::MAX))),
        ("temperature", maybe(numbers(&TEMPERATURE))),
        ("top_p", maybe(numbers(&PROBABILITY))),
        ("tools", maybe(tools)),
        ("tool_choice", maybe(reference("ResponsesToolChoice"))),
        ("parallel_tool_calls", maybe(of("boolean"))),
        ("text", maybe(form)),
        ("reasoning", maybe(reasoning())),
        ("include", maybe(list(words(form::INCLUDABLE)))),
        ("top_logprobs", maybe(integers(0..=MAX_TOP_LOGPROBS))),
        ("stream", maybe(of("boolean"))),
        (
            "stream_options",
            maybe(closed_but_null(&[], &[obfuscation])),
        ),
        ("service_tier", maybe(words(TIERS))),
        ("metadata", maybe(metadata())),
    ]
}

fn reasoning() -> Value {
    let summary = || ignored(words(form::SUMMARIES));
    closed_but_null(
        &[],
        &[
            ("effort", maybe(words(EFFORTS))),
            ("summary", summary()),
            ("generate_summary", summary()),
            ("context", ignored(words(form::CONTEXTS))),
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

/// An item that SDKs send back as it came, with what items of answers carry.
fn with_bookkeeping(required: &[&str], mut fields: Vec<Named>) -> Value {
    let any_value = ["id", "status", "phase"].map(|field| (field, json!({})));
    fields.extend(any_value);
    closed_but_null(required, &fields)
}

fn item() -> Value {
    let said = |kinds: &[&str]| {
        let parts = any(kinds.iter().map(|kind| reference(kind)));
        any([text(), bounded(parts, 1, MAX_ITEMS)])
    };
    let seen = || said(&["ResponsesText", "ResponsesImage"]);
    let message = |roles: &[&str], content| {
        let fields = vec![
            ("type", is("message")),
            ("role", words(roles)),
            ("content", content),
        ];
        with_bookkeeping(&["role", "content"], fields)
    };
    let call = vec![
        ("type", is("function_call")),
        ("call_id", text()),
        ("name", text()),
        ("arguments", text()),
    ];
    let output = vec![
        ("type", is("function_call_output")),
        ("call_id", text()),
        ("output", seen()),
    ];
    let mut thought = open(&["type"], &[("type", is("reasoning"))]);
    thought["description"] = "Accepted without effect.".into();
    let id = json!({ "type": "string", "pattern": format!("^{THOUGHT_ID}") });
    let mut thought_before = closed_but_null(
        &["type", "id"],
        &[("type", is("item_reference")), ("id", id)],
    );
    thought_before["description"] =
        "Accepted without effect: thoughts are not shown to the model. No other item can be referred to.".into();
    any([
        message(&["user"], seen()),
        message(
            &["assistant", "system", "developer"],
            said(&["ResponsesText"]),
        ),
        with_bookkeeping(&["type", "call_id", "name", "arguments"], call),
        with_bookkeeping(&["type", "call_id", "output"], output),
        thought,
        thought_before,
    ])
}

fn words_part() -> Value {
    closed_but_null(
        &["type", "text"],
        &[
            ("type", words(&["input_text", "output_text"])),
            ("text", text()),
            ("annotations", json!({})),
            ("logprobs", json!({})),
            ("prompt_cache_breakpoint", json!({})),
        ],
    )
}

fn image_part() -> Value {
    closed_but_null(
        &["type", "image_url"],
        &[
            ("type", is("input_image")),
            ("image_url", url()),
            ("detail", maybe(words(DETAILS))),
            ("prompt_cache_breakpoint", json!({})),
        ],
    )
}

fn tool() -> Value {
    closed_but_null(
        &["type", "name"],
        &[
            ("type", is("function")),
            ("name", name(read::MAX_NAME)),
            ("description", maybe(text())),
            ("parameters", maybe(of("object"))),
            ("strict", maybe(of("boolean"))),
            ("defer_loading", nothing_but(json!([false, null]))),
            ("async", nothing_but(json!([false, null]))),
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
            ("tools", bounded(one(), 1, MAX_TOOLS)),
        ],
    );
    any([words(&["none", "auto", "required"]), one(), allowed])
}

fn format() -> Value {
    let plain = closed_but_null(&["type"], &[("type", words(&["text", "json_object"]))]);
    let schema = closed_but_null(
        &["type", "name", "schema"],
        &[
            ("type", is("json_schema")),
            ("name", name(read::MAX_NAME)),
            ("description", maybe(text())),
            ("schema", of("object")),
            ("strict", maybe(of("boolean"))),
        ],
    );
    any([plain, schema])
}
