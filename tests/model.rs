//! The truth on the real engine: the demo model through HTTP, against the answers of transformers,
//! alone and under load, and everything that is known to kill or corrupt the engine.

#[path = "api/helpers.rs"]
mod helpers;

#[path = "model/answers.rs"]
mod answers;
#[path = "model/faults.rs"]
mod faults;
#[path = "model/fidelity.rs"]
mod fidelity;
#[path = "model/hostile.rs"]
mod hostile;
#[path = "model/replicas.rs"]
mod replicas;

use std::{path::Path, sync::Arc};

use helpers::{TestServer, config, data_url, start_with};
use porthole::{
    config::ModelConfig, engine::mistral::MistralEngine, metrics::Metrics, state::EngineState,
};
use serde_json::{Value, json};

/// A server on an engine of its own.
async fn server() -> (TestServer, Arc<MistralEngine>) {
    server_with(ModelConfig::default()).await
}

async fn server_with(model: ModelConfig) -> (TestServer, Arc<MistralEngine>) {
    let metrics = Arc::new(Metrics::default());
    let engine = Arc::new(MistralEngine::load(model, metrics.clone()).await.unwrap());
    (
        start_with(config(), metrics, EngineState::Loaded(engine.clone())),
        engine,
    )
}

/// A reference case: a request, and what transformers answers.
#[derive(Clone)]
struct Case {
    id: u64,
    body: Value,
    answer: String,
    prompt_tokens: u64,
    completion_tokens: u64,
    image_tokens: u64,
}

/// All reference cases.
fn cases() -> Vec<Case> {
    let folder = Path::new("models/demo");
    let file: Value =
        serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap().iter();
    cases.map(|case| as_case(folder, case)).collect()
}

fn as_case(folder: &Path, case: &Value) -> Case {
    let mut images = case["images"].as_array().unwrap().iter();
    let mut messages = case["messages"].clone();
    for message in messages.as_array_mut().unwrap() {
        for part in message["content"].as_array_mut().into_iter().flatten() {
            if part["type"] == "image" {
                let image =
                    std::fs::read(folder.join(images.next().unwrap().as_str().unwrap())).unwrap();
                *part = json!({"type": "image_url", "image_url": {"url": data_url(&image)}});
            }
        }
    }
    let grid_tokens = |grid: &Value| {
        grid.as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap())
            .product::<u64>()
            / 4
    };
    Case {
        id: case["id"].as_u64().unwrap(),
        body: json!({
            "model": "demo", "temperature": 0, "messages": messages, "tools": case["tools"],
        }),
        answer: case["answer"].as_str().unwrap().to_string(),
        prompt_tokens: case["prompt_tokens"].as_u64().unwrap(),
        completion_tokens: case["completion_tokens"].as_u64().unwrap(),
        image_tokens: case["image_grid_thw"]
            .as_array()
            .unwrap()
            .iter()
            .map(grid_tokens)
            .sum(),
    }
}

/// What the model wrote, calls in its own spelling.
fn words(message: &Value) -> String {
    let mut words = message["content"].as_str().unwrap_or("").to_string();
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let (name, arguments) = (&call["function"]["name"], &call["function"]["arguments"]);
        let arguments = arguments.as_str().unwrap();
        words +=
            &format!("<tool_call>\n{{\"name\": {name}, \"arguments\": {arguments}}}\n</tool_call>");
    }
    words
}

/// The message that a stream's deltas make.
fn message_of(chunks: &[Value]) -> Value {
    let mut content = String::new();
    let mut calls: Vec<(String, String)> = Vec::new();
    for chunk in chunks {
        let delta = &chunk["choices"][0]["delta"];
        content += delta["content"].as_str().unwrap_or("");
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            if let Some(name) = function["name"].as_str() {
                calls.push((name.into(), String::new()));
            }
            let index = call["index"].as_u64().unwrap() as usize;
            calls[index].1 += function["arguments"].as_str().unwrap_or("");
        }
    }
    let calls = calls
        .into_iter()
        .map(|(name, arguments)| json!({"function": {"name": name, "arguments": arguments}}));
    json!({"content": content, "tool_calls": calls.collect::<Vec<_>>()})
}

fn streamed(body: &Value) -> Value {
    let mut body = body.clone();
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    body
}
