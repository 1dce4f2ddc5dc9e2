//! Bodies that are wrong, each with its status, code and the field at fault; the engine is never
//! asked.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    fake_engine::{FakeEngine, fake_server},
    helpers::{config, start, user},
};
use porthole::state::EngineState;

/// Status, code, param, and the body that earns them.
fn wrong_bodies() -> Vec<(u16, &'static str, Option<&'static str>, String)> {
    let with = |field: &str, value: Value| {
        let mut body = user("hi");
        body[field] = value;
        body.to_string()
    };
    let message = |message: Value| json!({"model": "demo", "messages": [message]}).to_string();
    let part = |part: Value| message(json!({"role": "user", "content": [part]}));
    let url = |url: Value| part(json!({"type": "image_url", "image_url": url}));
    const MESSAGES: Option<&str> = Some("messages");
    const ROLE: Option<&str> = Some("messages[0].role");
    const CONTENT: Option<&str> = Some("messages[0].content");
    const KIND: Option<&str> = Some("messages[0].content[0].type");
    const URL: Option<&str> = Some("messages[0].content[0].image_url.url");
    vec![
        (400, "invalid_json", None, "{".into()),
        (400, "invalid_json", None, String::new()),
        (400, "invalid_json", None, "{\"model\": NaN}".into()),
        (400, "invalid_json", None, "{\"model\": 1e999}".into()),
        (400, "invalid_json", None, "{\"model\": \"\\ud800\"}".into()),
        (
            400,
            "invalid_json",
            None,
            "{\"model\": \"a\", \"model\": \"b\"}".into(),
        ),
        (400, "invalid_json", None, "[".repeat(100_000)),
        (400, "invalid_type", None, "[]".into()),
        (400, "invalid_type", None, "\"text\"".into()),
        (
            400,
            "missing_required_parameter",
            Some("model"),
            json!({"messages": [{"role": "user", "content": "x"}]}).to_string(),
        ),
        (
            400,
            "missing_required_parameter",
            MESSAGES,
            json!({"model": "demo"}).to_string(),
        ),
        (400, "invalid_type", Some("model"), with("model", json!(3))),
        (
            400,
            "invalid_type",
            Some("model"),
            with("model", Value::Null),
        ),
        (
            404,
            "model_not_found",
            Some("model"),
            with("model", json!("gpt-4o")),
        ),
        (400, "invalid_type", MESSAGES, with("messages", json!("hi"))),
        (400, "invalid_type", MESSAGES, with("messages", Value::Null)),
        (400, "invalid_value", MESSAGES, with("messages", json!([]))),
        (
            400,
            "invalid_type",
            Some("messages[0]"),
            with("messages", json!(["hi"])),
        ),
        (
            400,
            "missing_required_parameter",
            ROLE,
            message(json!({"content": "x"})),
        ),
        (
            400,
            "invalid_value",
            ROLE,
            message(json!({"role": "robot", "content": "x"})),
        ),
        (
            400,
            "invalid_type",
            ROLE,
            message(json!({"role": 1, "content": "x"})),
        ),
        (
            400,
            "unsupported_value",
            ROLE,
            message(json!({"role": "tool", "content": "x"})),
        ),
        (
            400,
            "missing_required_parameter",
            CONTENT,
            message(json!({"role": "user"})),
        ),
        (
            400,
            "missing_required_parameter",
            CONTENT,
            message(json!({"role": "user", "content": null})),
        ),
        (
            400,
            "invalid_type",
            CONTENT,
            message(json!({"role": "user", "content": 5})),
        ),
        (
            400,
            "invalid_value",
            CONTENT,
            message(json!({"role": "user", "content": []})),
        ),
        (
            400,
            "unknown_parameter",
            Some("messages[0].foo"),
            message(json!({"role": "user", "content": "x", "foo": 1})),
        ),
        (
            400,
            "unsupported_parameter",
            Some("messages[0].tool_calls"),
            message(json!({"role": "assistant", "content": "x", "tool_calls": [{}]})),
        ),
        (
            400,
            "invalid_type",
            Some("messages[0].content[0]"),
            part(json!("x")),
        ),
        (
            400,
            "missing_required_parameter",
            KIND,
            part(json!({"text": "x"})),
        ),
        (
            400,
            "invalid_value",
            KIND,
            part(json!({"type": "video", "video": 1})),
        ),
        (
            400,
            "unsupported_value",
            KIND,
            part(json!({"type": "input_audio", "input_audio": {}})),
        ),
        (
            400,
            "missing_required_parameter",
            Some("messages[0].content[0].text"),
            part(json!({"type": "text"})),
        ),
        (
            400,
            "invalid_type",
            Some("messages[0].content[0].text"),
            part(json!({"type": "text", "text": 1})),
        ),
        (
            400,
            "invalid_type",
            Some("messages[0].content[0].image_url"),
            url(json!("http://x/")),
        ),
        (400, "missing_required_parameter", URL, url(json!({}))),
        (400, "invalid_type", URL, url(json!({"url": 1}))),
        (
            400,
            "invalid_value",
            Some("messages[0].content[0].image_url.detail"),
            url(json!({"url": "x", "detail": "ultra"})),
        ),
        (400, "invalid_image_url", URL, url(json!({"url": ""}))),
        (
            400,
            "invalid_image_url",
            URL,
            url(json!({"url": "cat.png"})),
        ),
        (
            400,
            "invalid_image_url",
            URL,
            url(json!({"url": "file:///etc/passwd"})),
        ),
        (
            400,
            "invalid_image_url",
            URL,
            url(json!({"url": "ftp://example.com/a.png"})),
        ),
        (
            400,
            "invalid_image_url",
            URL,
            url(json!({"url": "http://user:pw@example.com/a.png"})),
        ),
        (
            400,
            "invalid_image_url",
            URL,
            url(json!({"url": "data:image/png,abc"})),
        ),
        (
            400,
            "invalid_base64",
            URL,
            url(json!({"url": "data:image/png;base64,@@@"})),
        ),
        (
            415,
            "unsupported_image_type",
            URL,
            url(json!({"url": "data:image/png;base64,aGVsbG8="})),
        ),
        (
            400,
            "invalid_value",
            Some("temperature"),
            with("temperature", json!(2.1)),
        ),
        (
            400,
            "invalid_value",
            Some("temperature"),
            with("temperature", json!(-1)),
        ),
        (
            400,
            "invalid_type",
            Some("temperature"),
            with("temperature", json!("hot")),
        ),
        (
            400,
            "invalid_value",
            Some("top_p"),
            with("top_p", json!(1.5)),
        ),
        (
            400,
            "invalid_value",
            Some("max_tokens"),
            with("max_tokens", json!(0)),
        ),
        (
            400,
            "invalid_value",
            Some("max_completion_tokens"),
            with("max_completion_tokens", json!(1.5)),
        ),
        (
            400,
            "invalid_value",
            Some("max_completion_tokens"),
            with("max_completion_tokens", json!(-5)),
        ),
        (
            400,
            "invalid_type",
            Some("stream"),
            with("stream", json!("yes")),
        ),
        (
            400,
            "invalid_value",
            Some("stream_options"),
            with("stream_options", json!({"include_usage": true})),
        ),
        (400, "invalid_type", Some("stop"), with("stop", json!(1))),
        (
            400,
            "invalid_value",
            Some("stop"),
            with("stop", json!(["a", "b", "c", "d", "e"])),
        ),
        (
            400,
            "invalid_value",
            Some("stop"),
            with("stop", json!([""])),
        ),
        (400, "invalid_type", Some("stop"), with("stop", json!([1]))),
        (400, "unsupported_parameter", Some("n"), with("n", json!(2))),
        (
            400,
            "unsupported_parameter",
            Some("seed"),
            with("seed", json!(1)),
        ),
        (
            400,
            "unsupported_parameter",
            Some("tools"),
            with("tools", json!([{"type": "function"}])),
        ),
        (
            400,
            "unsupported_parameter",
            Some("response_format"),
            with("response_format", json!({"type": "json_object"})),
        ),
        (
            400,
            "unsupported_parameter",
            Some("logprobs"),
            with("logprobs", json!(true)),
        ),
        (
            400,
            "unknown_parameter",
            Some("frobnicate"),
            with("frobnicate", json!(1)),
        ),
    ]
}

#[tokio::test]
async fn each_wrong_body_gets_its_own_error_fast_and_the_engine_is_not_asked() {
    let (server, engine) = fake_server();
    for (status, code, param, body) in wrong_bodies() {
        let shown: String = body.chars().take(200).collect();
        let started = Instant::now();
        let request = server
            .client
            .post(format!("{}/v1/chat/completions", server.base));
        let response = request
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        assert!(started.elapsed() < Duration::from_secs(2), "slow: {shown}");
        let got = response.status().as_u16();
        let json: Value = response.json().await.unwrap();
        let error = &json["error"];
        assert_eq!(
            (got, error["code"].as_str(), error["param"].as_str()),
            (status, Some(code), param),
            "{shown}: {json}"
        );
        assert_eq!(error["type"], "invalid_request_error");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(engine.times_asked(), 0);
}

#[tokio::test]
async fn bodies_that_are_too_large_too_slow_or_not_json_are_refused() {
    let mut config = config();
    config.server.max_body_bytes = 10_000;
    config.server.body_timeout = 1;
    let engine = FakeEngine::new();
    let server = start(config, EngineState::Loaded(engine.clone()));
    let url = format!("{}/v1/chat/completions", server.base);
    let post = || {
        server
            .client
            .post(&url)
            .header("content-type", "application/json")
    };

    let response = post().body("x".repeat(10_001)).send().await.unwrap();
    assert_eq!(response.status(), 413);
    let chunks = futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(1000))));
    let response = post()
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 413, "without a Content-Length");
    let never = futures::stream::pending::<Result<String, std::io::Error>>();
    let response = post()
        .body(reqwest::Body::wrap_stream(never))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 408);
    let response = server
        .client
        .post(&url)
        .header("content-type", "text/plain")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 415);
    assert_eq!(engine.times_asked(), 0);
}
