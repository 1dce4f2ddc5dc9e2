//! The document at `/openapi.json`, held against what the parsers take and the server answers.

pub(crate) mod validator;

use porthole::openai::{
    completions,
    fields::{self, Rule},
    responses::fields as responses_fields,
};
use serde_json::{Value, json};

use super::{
    auth::guarded,
    fake_engine::fake_server,
    helpers::{TestServer, data_url, parse_stream, png, user},
    responses::{Fault, ask, events, post},
};
use validator::Document;

async fn document(server: &TestServer) -> Document {
    let response = server.get("/openapi.json").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    Document(response.json().await.unwrap())
}

fn names(table: &[(&'static str, Rule)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}

#[tokio::test]
async fn it_is_open_to_all_and_every_reference_in_it_leads_somewhere() {
    let guarded = guarded();
    let document = document(&guarded.server).await;
    assert_eq!(document.0["openapi"], "3.1.0");
    let text = document.0.to_string();
    let mut references = 0;
    for (_, rest) in text
        .match_indices("\"$ref\":\"")
        .map(|(i, m)| text.split_at(i + m.len()))
    {
        let path = rest.split('"').next().unwrap().strip_prefix('#').unwrap();
        assert!(document.0.pointer(path).is_some(), "{path}");
        references += 1;
    }
    assert!(references > 100, "{references}");
}

#[tokio::test]
async fn every_path_in_it_is_served_and_asks_for_a_key_where_it_says_so() {
    let guarded = guarded();
    let document = document(&guarded.server).await;
    let paths = document.0["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 10);
    for (path, operations) in paths {
        let url = format!("{}{}", guarded.server.base, path.replace("{model}", "demo"));
        for (method, operation) in operations.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            let request = guarded.server.client.request(method, &url).json(&json!({}));
            let status = request.send().await.unwrap().status().as_u16();
            let open = operation["security"] == json!([]);
            assert_eq!(status, if open { 200 } else { 401 }, "{path}");
            assert!(
                operation["responses"][status.to_string()].is_object(),
                "{path} {status}"
            );
        }
    }
}

#[tokio::test]
async fn request_schemas_have_the_fields_of_the_parsers_tables() {
    let (server, _) = fake_server();
    let document = document(&server).await;
    for (schema, table) in [
        (
            "ChatCompletionRequest",
            fields::FIELDS.iter().map(|field| field.name).collect(),
        ),
        ("ResponsesRequest", names(responses_fields::FIELDS)),
        ("CompletionRequest", names(completions::FIELDS)),
    ] {
        let schema = document.schema(schema);
        // Of null it is the same as nothing; chat completions refuse even that.
        let others = &schema["additionalProperties"];
        assert!(*others == false || *others == json!({"type": "null"}));
        let properties = schema["properties"].as_object().unwrap();
        let mut described: Vec<&str> = properties.keys().map(String::as_str).collect();
        let mut known: Vec<&str> = table;
        described.sort_unstable();
        known.sort_unstable();
        assert_eq!(described, known);
    }
}

/// Bodies that each use much of what a schema allows.
fn right_bodies() -> Vec<(&'static str, &'static str, Value)> {
    let look = json!({"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": null});
    let sampling = json!({
        "temperature": 0, "top_p": 1, "top_k": 0, "min_p": 0, "presence_penalty": -2,
        "frequency_penalty": 2, "repetition_penalty": 1.5, "logit_bias": {"1": -100}, "seed": -3,
        "stop": ["a", "b"], "max_tokens": 1,
    });
    let mut completion = sampling.clone();
    for (field, value) in [
        ("model", json!("demo")),
        ("prompt", json!(["a", [1]])),
        ("n", json!(2)),
        ("logprobs", json!(5)),
    ] {
        completion[field] = value;
    }
    let chats = [
        super::fields::good_bodies(),
        super::fields::bodies_within_the_bounds(),
        conversations(),
    ];
    let chats = chats.into_iter().flatten();
    let chats = chats.map(|body| ("ChatCompletionRequest", "/v1/chat/completions", body));
    let mut bodies: Vec<_> = chats.collect();
    bodies.extend(other_right_bodies(completion, sampling, look));
    bodies
}

/// Each kind of message, with all that it may have.
fn conversations() -> Vec<Value> {
    let image = json!({"type": "image_url", "image_url": {"url": data_url(&png(64, 64, [1, 2, 3])), "detail": "low"}});
    let words = json!({"type": "text", "text": "a", "prompt_cache_breakpoint": {}});
    let call = json!({"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": ""}});
    let result =
        json!({"role": "tool", "tool_call_id": "c", "content": [words, image], "name": "f"});
    [
        json!([{"role": "developer", "content": "a", "name": "b"}, {"role": "user", "content": [words, image], "annotations": []}]),
        json!([{"role": "assistant", "content": null, "refusal": "no", "audio": null}]),
        json!([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no", "text": null}], "reasoning_content": "b"}]),
        json!([{"role": "assistant", "tool_calls": [call], "function_call": null, "annotations": []}, result]),
    ]
    .map(|messages| json!({"model": "demo", "messages": messages}))
    .into()
}

fn other_right_bodies(
    completion: Value,
    sampling: Value,
    look: Value,
) -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("CompletionRequest", "/v1/completions", completion),
        (
            "CompletionRequest",
            "/v1/completions",
            json!({"model": "demo", "prompt": [3, 4], "stop": "x", "suffix": "", "user": "u", "seed": null}),
        ),
        (
            "PredictRequest",
            "/v1/models/demo:predict",
            json!({"inputs": [{"text": "a"}, {"text": "b", "data": null}], "parameters": sampling}),
        ),
        (
            "PredictRequest",
            "/v1/models/demo:predict",
            json!({"inputs": [{"text": "a"}], "parameters": null}),
        ),
        (
            "ResponsesRequest",
            "/v1/responses",
            json!({
                "model": "demo", "tools": [look], "tool_choice": {"type": "function", "name": "look"},
                "input": [
                    {"type": "reasoning", "id": "rs", "summary": []},
                    {"role": "user", "content": "x", "phase": null},
                    {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}", "id": "fc"},
                    {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "y"}]},
                ],
                "text": {"format": {"type": "json_object"}, "verbosity": "low"},
                "reasoning": {"effort": "high", "summary": "auto", "mode": "standard"},
                "include": ["message.output_text.logprobs"], "top_logprobs": 20, "truncation": "disabled",
                "store": false, "background": false, "metadata": {"k": "v"}, "context_management": [],
            }),
        ),
    ]
}

#[tokio::test]
async fn what_the_schemas_allow_is_taken() {
    let (server, _) = fake_server();
    let document = document(&server).await;
    for (schema, path, body) in right_bodies() {
        document.check(schema, &body).unwrap();
        let response = post(&server, path, &body).await;
        let status = response.status();
        let answer = response.text().await.unwrap();
        assert_eq!(status, 200, "{body}: {answer}");
    }
}

/// What a schema cannot say, because it depends on other fields or on the model.
const BEYOND_SCHEMAS: &[&str] = &[
    "model_not_found",
    "invalid_base64",
    "invalid_image_url",
    "context_length_exceeded",
    "unsupported_image_type",
];

#[tokio::test]
async fn what_the_parsers_refuse_the_schemas_refuse() {
    let (server, _) = fake_server();
    let document = document(&server).await;
    let tables = [
        ("ChatCompletionRequest", super::bad_input::wrong_bodies()),
        ("ResponsesRequest", super::responses::wrong::bodies()),
        ("CompletionRequest", super::completions::wrong_bodies()),
        ("PredictRequest", super::predict::wrong_bodies()),
    ];
    let mut refused = 0;
    for (schema, bodies) in tables {
        for (fault, body) in bodies {
            if depends_on_more(&fault, &body) {
                continue;
            }
            let shown: String = body.to_string().chars().take(300).collect();
            assert!(
                document.check(schema, &body).is_err(),
                "{schema} allows {fault:?}: {shown}"
            );
            refused += 1;
        }
    }
    assert!(refused > 400, "{refused}");
}

fn depends_on_more(&(_, code, param): &Fault, body: &Value) -> bool {
    BEYOND_SCHEMAS.contains(&code)
        // Combinations of fields.
        || matches!(param, Some("n" | "best_of" | "echo")) && body["n"] != json!(0) && body["n"] != json!(17) && body["echo"] != json!(1)
        || param == Some("stream_options")
        || body["tools"].as_array().is_some_and(|tools| tools.len() == 2)
        || body["tool_choice"] == "required"
        || body["tool_choice"]["name"] == "other"
        || param == Some("parameters.max_tokens") && body["parameters"]["max_tokens"] == 1
        || param == Some("max_tokens") && body["max_completion_tokens"].is_u64()
        || param == Some("tool_choice") && body["tools"].is_array()
        // Integers that no float tells apart, and all JSON of a client's schemas together.
        || param.is_some_and(|param| body[param].is_f64() && body[param].as_f64().unwrap().abs() > 9e15)
        || code == "invalid_value" && param.is_some_and(|param| param.ends_with(".parameters") || param.ends_with("_schema.schema"))
        // Of the history.
        || code == "invalid_value" && param.is_some_and(|param| param.ends_with(".tool_call_id")) && body["messages"].as_array().unwrap().iter().any(|message| message["role"] == "tool") && body["messages"][0]["tool_call_id"] != ""
        || matches!(param, Some("input" | "input[0].call_id")) && body["input"][0]["type"].is_string()
        || body["input"][0]["role"] == "assistant"
        // Of the vocabulary.
        || body["prompt"] == json!([1000])
        || param == Some("logit_bias") && body["logit_bias"].as_object().is_some_and(|biases| biases.len() == 1 && biases.keys().all(|id| id.parse::<u64>().is_ok_and(|id| id >= 1000))) || body["parameters"]["logit_bias"].is_object()
}

#[tokio::test]
async fn answers_are_as_the_schemas_say() {
    let (server, _) = fake_server();
    let document = document(&server).await;
    for (path, schema) in [
        ("/v1/models", "ModelList"),
        ("/v1/models/demo", "Model"),
        ("/v1/models/other", "Error"),
        ("/health", "Health"),
        ("/ready", "Ready"),
    ] {
        let json: Value = server.get(path).await.json().await.unwrap();
        document.check(schema, &json).unwrap();
    }
    let response = json!({"model": "demo", "input": "a b"});
    let completion = json!({"model": "demo", "prompt": "a b", "logprobs": 2});
    let prediction = json!({"inputs": [{"text": "a"}]});
    for (path, body, schema) in [
        ("/v1/chat/completions", &user("hi"), "ChatCompletion"),
        ("/v1/responses", &response, "Response"),
        ("/v1/completions", &completion, "Completion"),
        ("/v1/models/demo:predict", &prediction, "Prediction"),
        ("/v1/responses", &json!({}), "Error"),
    ] {
        document
            .check(schema, &ask(&server, path, body).await.1)
            .unwrap();
    }
    // Streams, the one that fails too.
    for text in ["a b", "fail"] {
        let body = json!({"model": "demo", "input": text, "stream": true});
        let stream = post(&server, "/v1/responses", &body)
            .await
            .text()
            .await
            .unwrap();
        for event in events(&stream) {
            document.check("ResponseEvent", &event).unwrap();
        }
    }
    let body = json!({"model": "demo", "prompt": "a b", "stream": true, "stream_options": {"include_usage": true}});
    let stream = post(&server, "/v1/completions", &body)
        .await
        .text()
        .await
        .unwrap();
    let lines = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"));
    for line in lines {
        let chunk = serde_json::from_str(&format!("{{{line}")).unwrap();
        document.check("Completion", &chunk).unwrap();
    }
    let mut body = user("hi");
    body["stream"] = json!(true);
    let stream = server.chat(&body).await.text().await.unwrap();
    for chunk in parse_stream(&stream).chunks {
        document.check("ChatCompletionChunk", &chunk).unwrap();
    }
}
