//! The contract of `POST /v1/responses`.

pub mod wrong;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures::StreamExt;
use porthole::{
    caller::{Limits, Rights},
    engine::{Effort, Format, Part, Role, ToolChoice},
    state::EngineState,
};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    auth::guarded,
    fake_engine::{FakeEngine, fake_server},
    helpers::{TestServer, config, data_url, header, png, start},
};

const PATH: &str = "/v1/responses";

pub async fn post(server: &TestServer, path: &str, body: &Value) -> Response {
    let request = server.client.post(format!("{}{path}", server.base));
    request.json(body).send().await.unwrap()
}

/// Status and JSON of an answer.
pub async fn ask(server: &TestServer, path: &str, body: &Value) -> (u16, Value) {
    let response = post(server, path, body).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

/// A fault: status, code, param.
pub type Fault = (u16, &'static str, Option<&'static str>);

/// Each body earns its fault, in the one error shape, and the engine is never asked.
pub async fn all_are_refused(path: &str, wrong: Vec<(Fault, Value)>) {
    let (server, engine) = fake_server();
    for ((status, code, param), body) in wrong {
        let (got, json) = ask(&server, path, &body).await;
        assert_eq!(got, status, "{body}: {json}");
        let error = &json["error"];
        assert_eq!(error["code"], code, "{body}: {json}");
        assert_eq!(error["param"], json!(param), "{body}: {json}");
        assert!(
            error["message"].as_str().is_some_and(|m| m.len() > 10),
            "{json}"
        );
        assert_eq!(error["type"], "invalid_request_error");
    }
    assert_eq!(engine.times_asked(), 0);
}

/// Without a key 401; with one of two requests a minute the limit is told, and then holds.
pub async fn the_doors_hold(path: &str, body: &Value) {
    let guarded = guarded();
    let response = post(&guarded.server, path, body).await;
    assert_eq!(response.status(), 401);
    let rights = Rights {
        limits: Limits {
            requests_per_minute: Some(2),
            ..Limits::default()
        },
        ..Rights::default()
    };
    let key = guarded.keys.create("k", None, &rights).unwrap();
    tokio::time::sleep(Duration::from_millis(900)).await;
    let url = format!("{}{path}", guarded.server.base);
    for expected in [200, 200, 429] {
        let request = guarded.server.client.post(&url).bearer_auth(key.expose());
        let response = request.json(body).send().await.unwrap();
        assert_eq!(response.status(), expected);
        assert_eq!(header(&response, "x-ratelimit-limit-requests"), "2");
    }
}

/// The events of a stream, each checked to be named and numbered as it should be.
pub fn events(text: &str) -> Vec<Value> {
    let mut events = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.is_empty()) {
        if block.starts_with(':') {
            continue;
        }
        let (name, data) = block.split_once('\n').unwrap();
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(
            Some(event["type"].as_str().unwrap()),
            name.strip_prefix("event: ")
        );
        assert_eq!(event["sequence_number"], events.len());
        events.push(event);
    }
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

fn asking(text: &str) -> Value {
    json!({"model": "demo", "input": text})
}

#[tokio::test]
async fn a_plain_answer_has_every_key_that_sdks_need() {
    let (server, _) = fake_server();
    let response = post(&server, PATH, &asking("hello there")).await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("x-porthole-ignored"));
    let mut json: Value = response.json().await.unwrap();
    let output = &mut json["output"][0];
    assert!(output["id"].as_str().unwrap().starts_with("msg_"));
    output["id"] = json!("msg");
    assert!(json["id"].as_str().unwrap().starts_with("resp_"));
    assert!(json["created_at"].as_u64().unwrap() > 1_700_000_000);
    assert!(json["completed_at"].as_u64() >= json["created_at"].as_u64());
    for key in ["id", "created_at", "completed_at"] {
        json[key] = Value::Null;
    }
    let output = json!([{
        "id": "msg", "type": "message", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "hello there", "annotations": [], "logprobs": []}],
    }]);
    let usage = json!({
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 13,
    });
    assert_eq!(
        (json["output"].take(), json["usage"].take()),
        (output, usage)
    );
    let expected = r#"{
        "id": null, "object": "response", "created_at": null, "completed_at": null,
        "status": "completed", "background": false, "error": null, "incomplete_details": null,
        "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "metadata": {},
        "model": "demo", "parallel_tool_calls": true, "previous_response_id": null,
        "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null},
        "safety_identifier": null, "service_tier": "default", "store": false, "temperature": null,
        "text": {"format": {"type": "text"}, "verbosity": null}, "tool_choice": "auto", "tools": [],
        "top_logprobs": 0, "top_p": null, "truncation": "disabled", "user": null,
        "output": null, "usage": null
    }"#;
    let expected: Value = serde_json::from_str(expected).unwrap();
    assert_eq!(json, expected);
}

#[tokio::test]
async fn a_stream_has_the_events_that_sdks_build_an_answer_from() {
    let (server, _) = fake_server();
    let mut body = asking("say \"hi\"");
    body["stream"] = json!(true);
    let response = post(&server, PATH, &body).await;
    assert!(header(&response, "content-type").starts_with("text/event-stream"));
    assert_eq!(header(&response, "x-accel-buffering"), "no");
    let events = events(&response.text().await.unwrap());
    assert_eq!(
        kinds(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!(events[0]["response"]["status"], "in_progress");
    assert_eq!(events[0]["response"]["output"], json!([]));
    assert_eq!(events[0]["response"]["usage"], Value::Null);
    let delta = &events[4];
    assert_eq!(
        (
            &delta["delta"],
            &delta["logprobs"],
            &delta["output_index"],
            &delta["content_index"]
        ),
        (&json!("say "), &json!([]), &json!(0), &json!(0))
    );
    assert_eq!(delta["item_id"], events[2]["item"]["id"]);
    assert_eq!(events[6]["text"], "say \"hi\"");
    let last = &events[9]["response"];
    assert_eq!(last["status"], "completed");
    assert_eq!(last["output"][0], events[8]["item"]);
    assert_eq!(last["output"][0]["content"][0], events[7]["part"]);
    assert_eq!(last["usage"]["total_tokens"], 13);
    assert_eq!(last["id"], events[0]["response"]["id"]);
}

#[tokio::test]
async fn a_whole_conversation_reaches_the_engine_as_turns() {
    let (server, engine) = fake_server();
    let image = data_url(&png(64, 64, [9, 9, 9]));
    let body = json!({
        "model": "demo", "instructions": "be brief", "max_output_tokens": 7, "temperature": 0.5,
        "top_p": 0.25, "top_logprobs": 3, "include": ["message.output_text.logprobs"],
        "parallel_tool_calls": false, "reasoning": {"effort": "low"},
        "tools": [{"type": "function", "name": "look", "description": "d", "strict": true,
            "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}],
        "tool_choice": {"type": "allowed_tools", "mode": "auto",
            "tools": [{"type": "function", "name": "look"}]},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "input": [
            {"role": "developer", "content": "more"},
            {"role": "user", "content": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": image, "detail": "low"},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "I look", "annotations": [], "logprobs": []},
            ]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look",
                "arguments": "{}", "status": "completed"},
            {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "a cat"},
            {"type": "function_call_output", "call_id": "call_2", "output": [
                {"type": "input_image", "image_url": image},
                {"type": "input_text", "text": "so"},
            ]},
        ],
    });
    let response = post(&server, PATH, &body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "x-porthole-ignored"), "input.reasoning");
    let json: Value = response.json().await.unwrap();
    for key in [
        "instructions",
        "temperature",
        "top_p",
        "tool_choice",
        "max_output_tokens",
        "tools",
    ] {
        assert_eq!(json[key], body[key], "{key}");
    }
    let asked = engine.asked.lock().unwrap()[0].clone();
    let roles: Vec<Role> = asked.turns.iter().map(|turn| turn.role).collect();
    use Role::{Assistant, System, Tool, User};
    assert_eq!(roles, [System, System, User, Assistant, Tool, Tool]);
    let calls = &asked.turns[3].calls;
    assert_eq!(
        (calls.len(), calls[1].id.as_str(), calls[1].name.as_str()),
        (2, "call_2", "look")
    );
    assert_eq!(asked.turns[4].call_id.as_deref(), Some("call_1"));
    assert!(matches!(asked.turns[5].parts[0], Part::Image((64, 64))));
    assert_eq!(asked.images.len(), 2);
    let inquiry = asked.inquiry;
    assert_eq!(inquiry.effort, Some(Effort::Tokens(1024)));
    assert_eq!(
        inquiry.format,
        Format::JsonSchema(json!({"type": "object"}))
    );
    assert!(inquiry.tools.one_at_most);
    assert_eq!(
        inquiry.tools.choice,
        ToolChoice::AllowedAuto(vec!["look".into()])
    );
    let function = &inquiry.tools.tools[0].definition["function"];
    assert_eq!(function["parameters"], body["tools"][0]["parameters"]);
    let sampling = asked.sampling;
    assert_eq!(
        (
            sampling.temperature,
            sampling.top_p,
            sampling.max_tokens,
            sampling.logprobs
        ),
        (Some(0.5), Some(0.25), Some(7), Some(3))
    );
}

#[tokio::test]
async fn fields_without_effect_are_named_and_some_are_told_back() {
    let (server, _) = fake_server();
    let mut body = asking("hi");
    let extra = json!({
        "store": true, "user": "u", "safety_identifier": "s", "prompt_cache_key": "p",
        "metadata": {"a": "b"}, "text": {"verbosity": "low"}, "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"], "max_tool_calls": 3, "truncation": "disabled",
        "background": false, "previous_response_id": null,
    });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    let response = post(&server, PATH, &body).await;
    assert_eq!(response.status(), 200);
    let named = header(&response, "x-porthole-ignored");
    let mut named: Vec<&str> = named.split(", ").collect();
    named.sort_unstable();
    let expected = [
        "include",
        "max_tool_calls",
        "prompt_cache_key",
        "reasoning.summary",
        "safety_identifier",
        "store",
        "text.verbosity",
        "user",
    ];
    assert_eq!(named, expected);
    let json: Value = response.json().await.unwrap();
    assert_eq!(
        json["store"], false,
        "nothing is stored, whatever was asked"
    );
    for key in ["user", "safety_identifier", "prompt_cache_key", "metadata"] {
        assert_eq!(json[key], body[key], "{key}");
    }
}

#[tokio::test]
async fn an_early_failure_is_a_status_and_a_late_one_ends_the_stream() {
    let (server, _) = fake_server();
    let (status, json) = ask(&server, PATH, &asking("refuse")).await;
    let error = &json["error"];
    assert_eq!(
        (status, &error["code"], &error["param"]),
        (400, &json!("context_length_exceeded"), &json!("input"))
    );
    for stream in [false, true] {
        let mut body = asking("fail at once");
        body["stream"] = json!(stream);
        let (status, json) = ask(&server, PATH, &body).await;
        assert_eq!(
            (status, &json["error"]["code"]),
            (500, &json!("engine_failed"))
        );
    }
    let mut body = asking("fail");
    body["stream"] = json!(true);
    let text = post(&server, PATH, &body).await.text().await.unwrap();
    assert!(!text.contains("secret"));
    let events = events(&text);
    let [.., error, failed] = &events[..] else {
        panic!("{text}")
    };
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("engine_failed"))
    );
    assert_eq!(failed["type"], "response.failed");
    assert_eq!(failed["response"]["status"], "failed");
    assert_eq!(failed["response"]["error"]["code"], "server_error");
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_and_ends_with_its_client() {
    let mut config = config();
    config.server.keep_alive_interval = 1;
    let engine = FakeEngine::new();
    let server = start(config, EngineState::Loaded(engine.clone()));
    let mut response = asking("mute");
    let mut completion = json!({"model": "demo", "prompt": "mute"});
    for (path, body) in [(PATH, &mut response), ("/v1/completions", &mut completion)] {
        body["stream"] = json!(true);
        let mut stream = post(&server, path, body).await.bytes_stream();
        let mut text = String::new();
        while !text.contains(": keep-alive\n\n") {
            let bytes = timeout(Duration::from_secs(5), stream.next()).await;
            text.push_str(std::str::from_utf8(&bytes.unwrap().unwrap().unwrap()).unwrap());
        }
        assert_eq!(engine.running.load(Ordering::SeqCst), 1);
        drop(stream);
        let started = Instant::now();
        while engine.running.load(Ordering::SeqCst) != 0 {
            assert!(started.elapsed() < Duration::from_secs(4), "{path} runs on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn keys_and_limits_hold_here_too() {
    the_doors_hold(PATH, &asking("hello")).await;
}

#[tokio::test]
async fn wrong_bodies_are_refused_by_name() {
    all_are_refused(PATH, wrong::bodies()).await;
    all_are_refused(PATH, wrong::bombs()).await;
}
