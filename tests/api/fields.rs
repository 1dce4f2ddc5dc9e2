//! The table of request fields: what it says is what happens, and what docs/api.md says.

use porthole::{
    engine::SamplingParams,
    openai::fields::{FIELDS, Field, Rule},
};
use serde_json::{Value, json};

use super::{
    fake_engine::fake_server,
    helpers::{header, user},
};

/// A good body for each field.
pub fn good_bodies() -> Vec<Value> {
    let rows = FIELDS.iter().filter(|field| field.rule != Rule::Refused);
    rows.map(|field| with(&good(field.name))).collect()
}

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
    let mut expected = "| field | | | shown by |\n|---|---|---|---|\n".to_string();
    for field in FIELDS {
        let rule = format!("{:?}", field.rule).to_lowercase();
        let Field {
            name, says, test, ..
        } = field;
        expected += &format!("| `{name}` | {rule} | {says} | `{test}` |\n");
    }
    assert_eq!(
        table, expected,
        "docs/api.md should have this table:\n{expected}"
    );
}

/// A row's test is there, and speaks of the field.
#[test]
fn every_row_is_shown_by_a_test() {
    for field in FIELDS {
        let (file, function) = field.test.split_once("::").unwrap();
        let code = std::fs::read_to_string(file).unwrap();
        let begins = |line: &str| {
            let begin = line.trim_start().trim_start_matches("async ");
            let rest = begin.strip_prefix("fn ").or(begin.strip_prefix("def "));
            rest.and_then(|rest| rest.strip_prefix(function))
                .is_some_and(|rest| rest.starts_with('('))
        };
        assert!(code.lines().any(begins), "{} is not there", field.test);
        let word = |text: &str| {
            text.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == field.name)
        };
        assert!(word(&code), "{file} does not speak of {}", field.name);
    }
}

/// Objects inside one another.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({"a": inner}))
}

/// Bodies that use what they may to the full.
pub fn bodies_within_the_bounds() -> Vec<Value> {
    let biases: serde_json::Map<_, _> = (0..1000).map(|id| (id.to_string(), json!(100))).collect();
    let tool = |name: String| json!({"type": "function", "function": {"name": name, "parameters": nested(64)}});
    let tools: Vec<Value> = (0..128).map(|i| tool(format!("{i:_>64}"))).collect();
    let schema = json!({"description": "d".repeat(200 << 10)});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    let fields = [
        json!({"max_completion_tokens": 1_000_000_000_u64}),
        json!({"max_tokens": u64::MAX, "max_completion_tokens": u64::MAX}),
        json!({"temperature": 2, "top_p": 1, "min_p": 1, "top_k": 0, "repetition_penalty": 2}),
        json!({"temperature": 0, "top_p": 0, "presence_penalty": 2, "frequency_penalty": -2}),
        json!({"seed": i64::MAX}),
        json!({"seed": i64::MIN}),
        json!({"n": 16}),
        json!({"stop": ["s".repeat(1024), "b", "c", "d"]}),
        json!({"stop": []}),
        json!({"logit_bias": biases}),
        json!({"logit_bias": {}}),
        json!({"top_logprobs": 0}),
        json!({"tools": tools}),
        json!({"tools": [], "tool_choice": "none", "functions": [], "function_call": "auto"}),
        json!({"tool_choice": "auto", "modalities": ["text"]}),
        json!({"response_format": format}),
        json!({"n": 2.0, "max_tokens": 16.0, "seed": 4.0, "top_k": 1e1, "top_logprobs": 2.0, "logprobs": true}),
    ];
    fields.iter().map(with).collect()
}

#[tokio::test]
async fn what_is_just_within_the_bounds_is_let_in() {
    let (server, engine) = fake_server();
    for body in bodies_within_the_bounds() {
        let (status, json) = server.ask(&body).await;
        assert_eq!(status, 200, "{body}: {json}");
    }
    let asked = engine.asked.lock().unwrap();
    let seeds = asked.iter().filter_map(|asked| asked.sampling.seed);
    assert_eq!(seeds.collect::<Vec<_>>(), [i64::MAX as u64, 1 << 63, 4, 5]);
    let last = &asked[asked.len() - 1].sampling;
    let whole = (last.max_tokens, last.top_k, last.logprobs);
    assert_eq!(whole, (Some(16), Some(10), Some(2)));
    let all = asked.iter().map(|asked| asked.sampling.logit_bias.len());
    assert_eq!(all.max(), Some(1000));
}

#[tokio::test]
async fn sampling_reaches_the_engine_as_sent() {
    let (server, engine) = fake_server();
    let more = json!({
        "temperature": 0.5, "top_p": 0.25, "top_k": 7, "min_p": 0.125, "presence_penalty": 1.5,
        "frequency_penalty": -0.5, "repetition_penalty": 1.25, "logit_bias": {"9": -100, "3": 0.5},
        "seed": 11, "max_tokens": 5, "stop": "END", "logprobs": true, "top_logprobs": 4,
    });
    let (status, json) = server.ask(&with(&more)).await;
    assert_eq!(status, 200, "{json}");
    let mut sampling = engine.asked.lock().unwrap()[0].sampling.clone();
    sampling.logit_bias.sort_by_key(|(id, _)| *id);
    let expected = SamplingParams {
        temperature: Some(0.5),
        top_p: Some(0.25),
        top_k: Some(7),
        min_p: Some(0.125),
        presence_penalty: 1.5,
        frequency_penalty: -0.5,
        repetition_penalty: Some(1.25),
        logit_bias: vec![(3, 0.5), (9, -100.0)],
        seed: Some(11),
        max_tokens: Some(5),
        stop: vec!["END".into()],
        logprobs: Some(4),
    };
    assert_eq!(sampling, expected);
}

#[tokio::test]
async fn what_has_no_effect_inside_of_a_field_is_named_too() {
    let (server, _) = fake_server();
    let messages = json!([
        {"role": "assistant", "content": "a", "reasoning_content": "b", "name": "c"},
        {"role": "user", "name": "d", "content": [
            {"type": "text", "text": "e", "prompt_cache_breakpoint": {}}]},
    ]);
    let more = json!({"messages": messages, "parallel_tool_calls": true, "user": "f"});
    let response = server.chat(&with(&more)).await;
    assert_eq!(response.status(), 200);
    let mut ignored: Vec<_> = header(&response, "x-porthole-ignored")
        .split(", ")
        .collect();
    ignored.sort_unstable();
    assert_eq!(
        ignored,
        [
            "messages.content.prompt_cache_breakpoint",
            "messages.name",
            "messages.reasoning_content",
            "parallel_tool_calls",
            "user",
        ]
    );
}
