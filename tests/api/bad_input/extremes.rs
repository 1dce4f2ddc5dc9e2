//! What is absurdly long, many or deep.

use serde_json::json;

use super::{Case, TYPE, UNKNOWN, VALUE};

/// As much of a long key as an error shows.
const SHOWN_KEY: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

fn field(code: &'static str, param: &'static str, json: &str) -> Case {
    Case::field(&(code, param, "")).with(json)
}

impl Case {
    /// The same with this in place of the row's piece, which was empty.
    fn with(mut self, json: &str) -> Self {
        self.body.truncate(self.body.len() - 1);
        self.body.push_str(json);
        self.body.push('}');
        self
    }
}

/// Objects inside one another.
fn nested(levels: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

fn list(item: &str, count: usize) -> String {
    format!("[{}]", vec![item; count].join(","))
}

fn tool(name: &str, parameters: &str) -> String {
    format!(r#"{{"type":"function","function":{{"name":"{name}","parameters":{parameters}}}}}"#)
}

fn schema(schema: &str) -> String {
    format!(
        r#""response_format":{{"type":"json_schema","json_schema":{{"name":"a","schema":{schema}}}}}"#
    )
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = bodies();
    cases.extend(sampling());
    cases.extend(definitions());
    cases.extend(messages());
    cases
}

fn bodies() -> Vec<Case> {
    let broken = |body: String| Case {
        status: 400,
        code: "invalid_json",
        param: None,
        body,
    };
    let long_key = format!("\"{}\":1", "k".repeat(100_000));
    vec![
        broken("[".repeat(100_000)),
        broken(r#"{"a":"#.repeat(100_000)),
        broken(format!(r#"{{"metadata":{}}}"#, nested(200))),
        broken(format!(r#"{{"model":"{}"#, "m".repeat(100_000))),
        broken(format!(r#"{{"seed":{}}}"#, "9".repeat(10_000))),
        field(UNKNOWN, SHOWN_KEY, &long_key),
        Case {
            status: 404,
            code: "model_not_found",
            param: Some("model"),
            body: json!({"model": "m".repeat(100_000), "messages": [{"role": "user", "content": "x"}]})
                .to_string(),
        },
    ]
}

fn sampling() -> Vec<Case> {
    let stops = |item: &str, count| format!("\"stop\":{}", list(item, count));
    let biases = (0..1025).map(|id| format!("\"{id}\":1"));
    let biases = biases.collect::<Vec<_>>().join(",");
    let long = "s".repeat(1025);
    let digits = format!("\"{}\":1", "1".repeat(100_000));
    vec![
        field(VALUE, "stop", &stops("\"a\"", 10_000)),
        field(VALUE, "stop", &stops("1", 10_000)),
        field(VALUE, "stop", &format!("\"stop\":\"{long}\"")),
        field(VALUE, "stop", &stops(&format!("\"{long}\""), 2)),
        field(TYPE, "stop", &format!("\"stop\":{}", nested(100))),
        field(VALUE, "logit_bias", &format!("\"logit_bias\":{{{biases}}}")),
        field(VALUE, "logit_bias", &format!("\"logit_bias\":{{{digits}}}")),
        field(
            TYPE,
            "temperature",
            &format!("\"temperature\":{}", list("1", 10_000)),
        ),
        field(
            VALUE,
            "reasoning_effort",
            &format!("\"reasoning_effort\":\"{long}\""),
        ),
        field(
            VALUE,
            "service_tier",
            &format!("\"service_tier\":\"{long}\""),
        ),
    ]
}

fn definitions() -> Vec<Case> {
    let tools = |tools: &str| format!("\"tools\":{tools}");
    let long = "d".repeat(300_000);
    let large = format!(r#"{{"description":"{long}"}}"#);
    let names = (0..129).map(|i| tool(&format!("f{i}"), "{}"));
    let many = names.collect::<Vec<_>>().join(",");
    let half = format!(r#"{{"description":"{}"}}"#, "d".repeat(150_000));
    let both = format!("\"tools\":[{}],{}", tool("f", &half), schema(&half));
    let name = "n".repeat(65);
    vec![
        field(VALUE, "tools", &tools(&format!("[{many}]"))),
        field(VALUE, "tools", &tools(&list("{}", 10_000))),
        field(
            VALUE,
            "tools[0].function.name",
            &tools(&format!("[{}]", tool(&name, "{}"))),
        ),
        field(
            VALUE,
            "tools[0].function.parameters",
            &tools(&format!("[{}]", tool("f", &nested(65)))),
        ),
        field(
            VALUE,
            "tools[0].function.parameters",
            &tools(&format!("[{}]", tool("f", &large))),
        ),
        field(
            VALUE,
            "response_format.json_schema.schema",
            &schema(&nested(65)),
        ),
        field(VALUE, "response_format.json_schema.schema", &schema(&large)),
        field(VALUE, "response_format.json_schema.schema", &both),
        field(
            VALUE,
            "response_format.json_schema.name",
            &format!(
                r#""response_format":{{"type":"json_schema","json_schema":{{"name":"{name}","schema":{{}}}}}}"#
            ),
        ),
        field(
            VALUE,
            "response_format.type",
            &format!(r#""response_format":{{"type":"{long}"}}"#),
        ),
    ]
}

fn messages() -> Vec<Case> {
    let messages = |code, param, json: String| {
        let body = format!(r#"{{"model":"demo","messages":{json}}}"#);
        Case {
            status: 400,
            code,
            param: Some(param),
            body,
        }
    };
    let call = r#"{"id":"c","type":"function","function":{"name":"f","arguments":""}}"#;
    let calls = list(call, 129);
    let long = "i".repeat(257);
    vec![
        messages(
            VALUE,
            "messages",
            list(r#"{"role":"user","content":"x"}"#, 4097),
        ),
        messages(VALUE, "messages", list("1", 100_000)),
        messages(
            VALUE,
            "messages[0].content",
            format!(
                r#"[{{"role":"user","content":{}}}]"#,
                list(r#"{"type":"text","text":""}"#, 4097)
            ),
        ),
        messages(
            VALUE,
            "messages[0].tool_calls",
            format!(r#"[{{"role":"assistant","tool_calls":{calls}}}]"#),
        ),
        messages(
            VALUE,
            "messages[0].tool_call_id",
            format!(r#"[{{"role":"tool","tool_call_id":"{long}","content":"x"}}]"#),
        ),
        messages(
            VALUE,
            "messages[0].role",
            format!(r#"[{{"role":"{long}","content":"x"}}]"#),
        ),
        messages(
            VALUE,
            "messages[0].content[0].type",
            format!(r#"[{{"role":"user","content":[{{"type":"{long}"}}]}}]"#),
        ),
        messages(
            TYPE,
            "messages[0].content",
            format!(r#"[{{"role":"user","content":{}}}]"#, nested(100)),
        ),
    ]
}
