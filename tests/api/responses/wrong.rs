//! Bodies of `POST /v1/responses` that are wrong, each with its fault.

use serde_json::{Value, json};

use super::{Fault, asking};

fn item(item: Value) -> Value {
    json!({"model": "demo", "input": [item]})
}

fn part(part: Value) -> Value {
    item(json!({"role": "user", "content": [part]}))
}

fn with(field: &str, value: Value) -> Value {
    let mut body = asking("hi");
    body[field] = value;
    body
}

const TYPE: &str = "invalid_type";
const VALUE: &str = "invalid_value";
const MISSING: &str = "missing_required_parameter";
const UNKNOWN: &str = "unknown_parameter";
const PARAMETER: &str = "unsupported_parameter";
const UNSUPPORTED: &str = "unsupported_value";

/// Bodies that are wrong by themselves.
pub fn bodies() -> Vec<(Fault, Value)> {
    let mut wrong = wrong_fields();
    wrong.extend(wrong_items());
    wrong.extend(wrong_tools());
    wrong
}

/// Schemas that are too deep or too large to be compiled, which no schema can say.
pub fn bombs() -> Vec<(Fault, Value)> {
    let mut deep = json!({});
    for _ in 0..70 {
        deep = json!({ "items": deep });
    }
    let large = json!({"enum": ["x".repeat(300 << 10)]});
    let tool = |schema: &Value| json!([{"type": "function", "name": "f", "parameters": schema}]);
    let format =
        |schema: &Value| json!({"format": {"type": "json_schema", "name": "s", "schema": schema}});
    let mut wrong = Vec::new();
    for schema in [deep, large] {
        let of_tool = (400, VALUE, Some("tools[0].parameters"));
        wrong.push((of_tool, with("tools", tool(&schema))));
        let of_format = (400, VALUE, Some("text.format.schema"));
        wrong.push((of_format, with("text", format(&schema))));
    }
    wrong
}

fn wrong_fields() -> Vec<(Fault, Value)> {
    let at = |code, param, field, value| ((400, code, Some(param)), with(field, value));
    let entries: serde_json::Map<_, _> = (0..17).map(|i| (i.to_string(), json!("v"))).collect();
    vec![
        ((400, TYPE, None), json!([])),
        ((400, MISSING, Some("model")), json!({"input": "hi"})),
        ((400, MISSING, Some("input")), json!({"model": "demo"})),
        (
            (404, "model_not_found", Some("model")),
            json!({"model": "gpt", "input": "hi"}),
        ),
        at(TYPE, "model", "model", json!(null)),
        at(TYPE, "input", "input", json!(null)),
        at(TYPE, "input", "input", json!(5)),
        at(VALUE, "input", "input", json!([])),
        at(UNKNOWN, "messages", "messages", json!([])),
        at(UNKNOWN, "seed", "seed", json!(1)),
        at(TYPE, "instructions", "instructions", json!([])),
        at(VALUE, "max_output_tokens", "max_output_tokens", json!(0)),
        at(VALUE, "temperature", "temperature", json!(2.1)),
        at(VALUE, "top_p", "top_p", json!(-0.1)),
        at(VALUE, "top_logprobs", "top_logprobs", json!(21)),
        at(VALUE, "include[0]", "include", json!(["everything"])),
        at(TYPE, "stream", "stream", json!("yes")),
        at(VALUE, "stream_options", "stream_options", json!({})),
        at(VALUE, "service_tier", "service_tier", json!("best")),
        at(TYPE, "store", "store", json!("no")),
        at(TYPE, "user", "user", json!(1)),
        at(TYPE, "metadata.a", "metadata", json!({"a": 1})),
        at(VALUE, "metadata", "metadata", json!(entries)),
        at(
            VALUE,
            "metadata.a",
            "metadata",
            json!({"a": "x".repeat(513)}),
        ),
        at(
            PARAMETER,
            "previous_response_id",
            "previous_response_id",
            json!("resp_1"),
        ),
        at(PARAMETER, "conversation", "conversation", json!("conv_1")),
        at(PARAMETER, "background", "background", json!(true)),
        at(PARAMETER, "prompt", "prompt", json!({"id": "pmpt_1"})),
        at(PARAMETER, "truncation", "truncation", json!("auto")),
        at(PARAMETER, "moderation", "moderation", json!({"model": "m"})),
        at(
            VALUE,
            "reasoning.effort",
            "reasoning",
            json!({"effort": "huge"}),
        ),
        at(
            UNKNOWN,
            "reasoning.budget",
            "reasoning",
            json!({"budget": 1}),
        ),
        at(
            PARAMETER,
            "reasoning.mode",
            "reasoning",
            json!({"mode": "pro"}),
        ),
        at(
            VALUE,
            "text.format.type",
            "text",
            json!({"format": {"type": "grammar"}}),
        ),
        at(MISSING, "text.format.type", "text", json!({"format": {}})),
        at(
            MISSING,
            "text.format.name",
            "text",
            json!({"format": {"type": "json_schema", "schema": {}}}),
        ),
        at(
            MISSING,
            "text.format.schema",
            "text",
            json!({"format": {"type": "json_schema", "name": "n"}}),
        ),
        at(
            VALUE,
            "text.format.name",
            "text",
            json!({"format": {"type": "json_schema", "name": "a b", "schema": {}}}),
        ),
        at(
            UNKNOWN,
            "text.format.schema",
            "text",
            json!({"format": {"type": "text", "schema": {}}}),
        ),
        at(
            VALUE,
            "text.verbosity",
            "text",
            json!({"verbosity": "loud"}),
        ),
    ]
}

fn wrong_items() -> Vec<(Fault, Value)> {
    let at = |code, param, body| ((400, code, Some(param)), body);
    let output = |output: Value| {
        item(json!({"type": "function_call_output", "call_id": "c", "output": output}))
    };
    vec![
        at(TYPE, "input[0]", item(json!("hi"))),
        at(
            "item_not_found",
            "input[0].id",
            item(json!({"type": "item_reference", "id": "msg_1"})),
        ),
        at(
            MISSING,
            "input[0].id",
            item(json!({"type": "item_reference"})),
        ),
        at(
            VALUE,
            "input",
            item(json!({"type": "item_reference", "id": "rs_1"})),
        ),
        at(
            UNSUPPORTED,
            "input[0].type",
            item(json!({"type": "web_search_call", "id": "ws_1"})),
        ),
        at(VALUE, "input[0].type", item(json!({"type": "thing"}))),
        at(
            VALUE,
            "input",
            item(json!({"type": "reasoning", "summary": []})),
        ),
        at(MISSING, "input[0].role", item(json!({"content": "x"}))),
        at(
            VALUE,
            "input[0].role",
            item(json!({"role": "tool", "content": "x"})),
        ),
        at(MISSING, "input[0].content", item(json!({"role": "user"}))),
        at(
            TYPE,
            "input[0].content",
            item(json!({"role": "user", "content": 1})),
        ),
        at(
            VALUE,
            "input[0].content",
            item(json!({"role": "user", "content": []})),
        ),
        at(
            UNKNOWN,
            "input[0].extra",
            item(json!({"role": "user", "content": "x", "extra": 1})),
        ),
        at(
            MISSING,
            "input[0].content[0].type",
            part(json!({"text": "x"})),
        ),
        at(
            VALUE,
            "input[0].content[0].type",
            part(json!({"type": "text", "text": "x"})),
        ),
        at(
            UNSUPPORTED,
            "input[0].content[0].type",
            part(json!({"type": "input_file"})),
        ),
        at(
            MISSING,
            "input[0].content[0].text",
            part(json!({"type": "input_text"})),
        ),
        at(
            MISSING,
            "input[0].content[0].image_url",
            part(json!({"type": "input_image"})),
        ),
        at(
            PARAMETER,
            "input[0].content[0].file_id",
            part(json!({"type": "input_image", "file_id": "f"})),
        ),
        at(
            VALUE,
            "input[0].content[0].detail",
            part(json!({"type": "input_image", "image_url": "data:,", "detail": "max"})),
        ),
        at(
            "invalid_base64",
            "input[0].content[0].image_url",
            part(json!({"type": "input_image", "image_url": "data:;base64,$$"})),
        ),
        at(
            VALUE,
            "input[0].content[0].type",
            item(
                json!({"role": "assistant", "content": [{"type": "input_image", "image_url": "data:,"}]}),
            ),
        ),
        at(
            MISSING,
            "input[0].arguments",
            item(json!({"type": "function_call", "call_id": "c", "name": "f"})),
        ),
        at(VALUE, "input[0].call_id", output(json!("x"))),
    ]
}

fn wrong_tools() -> Vec<(Fault, Value)> {
    let tool = |tool: Value| with("tools", json!([tool]));
    let look = json!({"type": "function", "name": "look", "parameters": {}});
    let choose = |choice: Value| {
        let mut body = with("tools", json!([look]));
        body["tool_choice"] = choice;
        body
    };
    let at = |code, param, body| ((400, code, Some(param)), body);
    vec![
        at(MISSING, "tools[0].type", tool(json!({"name": "f"}))),
        at(
            UNSUPPORTED,
            "tools[0].type",
            tool(json!({"type": "web_search"})),
        ),
        at(VALUE, "tools[0].type", tool(json!({"type": "magic"}))),
        at(MISSING, "tools[0].name", tool(json!({"type": "function"}))),
        at(
            VALUE,
            "tools[0].name",
            tool(json!({"type": "function", "name": "a b"})),
        ),
        at(
            TYPE,
            "tools[0].parameters",
            tool(json!({"type": "function", "name": "f", "parameters": []})),
        ),
        at(
            UNKNOWN,
            "tools[0].function",
            tool(json!({"type": "function", "function": {"name": "f"}})),
        ),
        at(VALUE, "tools[1].name", with("tools", json!([look, look]))),
        at(VALUE, "tool_choice", with("tool_choice", json!("required"))),
        at(VALUE, "tool_choice", choose(json!("always"))),
        at(
            VALUE,
            "tool_choice",
            choose(json!({"type": "function", "name": "other"})),
        ),
        at(
            UNSUPPORTED,
            "tool_choice.type",
            choose(json!({"type": "mcp", "server_label": "s"})),
        ),
        at(
            MISSING,
            "tool_choice.mode",
            choose(
                json!({"type": "allowed_tools", "tools": [{"type": "function", "name": "look"}]}),
            ),
        ),
        at(
            VALUE,
            "tool_choice.tools",
            choose(json!({"type": "allowed_tools", "mode": "auto", "tools": []})),
        ),
    ]
}
