//! The table of request fields: what it says is what happens, and what docs/api.md says.

use porthole::openai::fields::{FIELDS, Rule};
use serde_json::{Value, json};

use super::{
    fake_engine::fake_server,
    helpers::{header, user},
};

/// A good value of a field, with what else it needs.
fn good(field: &str) -> Value {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    match field {
        "model" => json!({"model": "demo"}),
        "messages" => json!({"messages": [{"role": "user", "content": "hi"}]}),
        "temperature" | "top_p" | "min_p" => json!({field: 0.5}),
        "presence_penalty" | "frequency_penalty" => json!({field: -1.5}),
        "repetition_penalty" => json!({field: 1.1}),
        "top_k" | "n" | "max_completion_tokens" | "max_tokens" => json!({field: 2}),
        "logit_bias" => json!({field: {"7": -100, "8": 1.5}}),
        "seed" => json!({field: -1}),
        "stop" => json!({field: ["a", "b"]}),
        "logprobs" => json!({field: true}),
        "top_logprobs" => json!({field: 20, "logprobs": true}),
        "response_format" => json!({field: {"type": "json_object"}}),
        "tools" => json!({field: tools}),
        "tool_choice" => json!({field: "required", "tools": tools}),
        "parallel_tool_calls" => json!({field: false, "tools": tools}),
        "reasoning_effort" => json!({field: "low"}),
        "stream" => json!({field: true}),
        "stream_options" => json!({field: {"include_usage": true}, "stream": true}),
        "service_tier" => json!({field: "flex"}),
        "user" | "safety_identifier" | "prompt_cache_key" => json!({field: "x"}),
        "prompt_cache_retention" => json!({field: "24h"}),
        "metadata" => json!({field: {"a": "b"}}),
        "prompt_cache_options" => json!({field: {}}),
        "store" => json!({field: true}),
        "prediction" => json!({field: {"type": "content", "content": "x"}}),
        "verbosity" => json!({field: "low"}),
        "modalities" => json!({field: ["text", "audio"]}),
        "audio" => json!({field: {"voice": "alloy", "format": "mp3"}}),
        "moderation" | "web_search_options" => json!({field: {}}),
        "functions" => json!({field: [{"name": "f"}]}),
        "function_call" => json!({field: {"name": "f"}}),
        other => panic!("the row '{other}' is new: give it a value here"),
    }
}

fn with(more: &Value) -> Value {
    let mut body = user("hi");
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[tokio::test]
async fn every_row_is_what_happens() {
    let (server, engine) = fake_server();
    for field in FIELDS {
        let name = field.name;
        let response = server.chat(&with(&good(name))).await;
        let status = response.status().as_u16();
        let ignored = header(&response, "x-porthole-ignored").to_string();
        let body = response.text().await.unwrap();
        match field.rule {
            Rule::Honoured => {
                assert_eq!((status, ignored.as_str()), (200, ""), "{name}: {body}");
            }
            Rule::Accepted => {
                assert_eq!((status, ignored.as_str()), (200, name), "{name}: {body}");
            }
            Rule::Refused => {
                let error: Value = serde_json::from_str(&body).unwrap();
                let error = &error["error"];
                let got = (status, error["param"].as_str(), error["code"].as_str());
                assert_eq!(
                    got,
                    (400, Some(name), Some("unsupported_parameter")),
                    "{body}"
                );
            }
        }
    }
    let refused = FIELDS.iter().filter(|field| field.rule == Rule::Refused);
    let answers = FIELDS.len() - refused.count() + 1;
    assert_eq!(engine.times_asked(), answers, "n = 2 asks twice");
}

#[tokio::test]
async fn null_is_the_same_as_absent_and_nonsense_is_refused_by_name() {
    let (server, _) = fake_server();
    for field in FIELDS {
        let name = field.name;
        let is_needed = matches!(name, "model" | "messages");
        let (status, json) = server.ask(&with(&json!({name: null}))).await;
        assert_eq!(status == 200, !is_needed, "{name}: null: {json}");
        let nonsense = json!([[1]]);
        let (status, json) = server.ask(&with(&json!({name: nonsense}))).await;
        assert_eq!(status, 400, "{name}: {json}");
        let param = json["error"]["param"].as_str().unwrap();
        assert!(param.starts_with(name), "{name}: {json}");
    }
}

#[test]
fn no_field_has_two_rows() {
    for (i, field) in FIELDS.iter().enumerate() {
        assert!(
            FIELDS[..i].iter().all(|before| before.name != field.name),
            "{}",
            field.name
        );
    }
}

#[test]
fn the_page_has_the_table() {
    let page = std::fs::read_to_string("docs/api.md").unwrap();
    let begin = "<!-- the table of src/openai/fields.rs -->\n";
    let (_, rest) = page.split_once(begin).unwrap();
    let (table, _) = rest.split_once("<!-- its end -->").unwrap();
    let mut expected = "| field | | |\n|---|---|---|\n".to_string();
    for field in FIELDS {
        let rule = format!("{:?}", field.rule).to_lowercase();
        expected += &format!("| `{}` | {rule} | {} |\n", field.name, field.says);
    }
    assert_eq!(
        table, expected,
        "docs/api.md should have this table:\n{expected}"
    );
}
