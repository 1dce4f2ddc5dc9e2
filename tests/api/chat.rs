//! The contract of `POST /v1/chat/completions`, and what happens when clients leave.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures::StreamExt;
use porthole::{
    engine::{Part, Role},
    state::EngineState,
};
use serde_json::{Value, json};

use super::{
    fake_engine::{FakeEngine, fake_server},
    helpers::{config, parse_stream, start, user},
};

/// The parts of an answer that differ each time, made the same.
fn settled(mut json: Value) -> Value {
    assert!(json["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(json["created"].as_u64().unwrap() > 1_700_000_000);
    json["id"] = json!("chatcmpl-ID");
    json["created"] = json!(0);
    json
}

#[tokio::test]
async fn a_plain_answer_has_the_shape_of_openai() {
    let (server, _) = fake_server();
    let response = server.chat(&user("hello there")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(
        response.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .starts_with("req_")
    );
    assert!(response.headers().contains_key("openai-processing-ms"));
    insta::assert_json_snapshot!(settled(response.json().await.unwrap()));
}

#[tokio::test]
async fn a_stream_has_the_bytes_that_sdks_expect() {
    let (server, _) = fake_server();
    for (name, options) in [
        ("plain", Value::Null),
        ("usage", json!({"include_usage": true})),
    ] {
        let mut body = user("say \"hi\"\n你好");
        body["stream"] = json!(true);
        body["stream_options"] = options;
        let response = server.chat(&body).await;
        assert!(
            response.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/event-stream")
        );
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let text = response.text().await.unwrap();
        let first: Value =
            serde_json::from_str(text.lines().next().unwrap().strip_prefix("data: ").unwrap())
                .unwrap();
        let text = text
            .replace(first["id"].as_str().unwrap(), "chatcmpl-ID")
            .replace(
                &format!("\"created\":{}", first["created"]),
                "\"created\":0",
            );
        assert_eq!(parse_stream(&text).text, "say \"hi\"\n你好");
        insta::assert_snapshot!(format!("stream_{name}"), text);
    }
}

#[tokio::test]
async fn turns_and_sampling_reach_the_engine_as_sent() {
    let (server, engine) = fake_server();
    let (status, _) = server
        .ask(&json!({
            "model": "demo", "temperature": 0.5, "top_p": 0.25, "max_tokens": 7, "stop": "END",
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": "c", "refusal": null, "tool_calls": [], "annotations": []},
                {"role": "user", "content": "d", "name": "ann"},
            ],
            "n": 1, "tools": [], "logprobs": false, "response_format": {"type": "text"}, "seed": null,
        }))
        .await;
    assert_eq!(status, 200);
    let asked = engine.asked.lock().unwrap();
    let roles: Vec<Role> = asked[0].turns.iter().map(|turn| turn.role).collect();
    assert_eq!(
        roles,
        [Role::System, Role::User, Role::Assistant, Role::User]
    );
    assert!(
        matches!(&asked[0].turns[1].parts[..], [Part::Text(a), Part::Text(b)] if a == "a" && b == "b")
    );
    let sampling = &asked[0].sampling;
    assert_eq!(
        (sampling.temperature, sampling.top_p, sampling.max_tokens),
        (Some(0.5), Some(0.25), Some(7))
    );
    assert_eq!(sampling.stop, ["END"]);
}

#[tokio::test]
async fn fields_without_effect_are_named_in_a_header() {
    let (server, _) = fake_server();
    let mut body = user("hi");
    body["user"] = json!("me");
    body["metadata"] = json!({"a": "b"});
    let response = server.chat(&body).await;
    assert_eq!(response.status(), 200);
    let named = response.headers()["x-porthole-ignored"].to_str().unwrap();
    assert!(
        named.contains("user") && named.contains("metadata"),
        "{named}"
    );
}

#[tokio::test]
async fn an_early_failure_is_a_status_and_a_late_one_an_event() {
    let (server, _) = fake_server();
    for stream in [false, true] {
        let ask = |text: &str| {
            let mut body = user(text);
            body["stream"] = json!(stream);
            body
        };
        let (status, json) = server.ask(&ask("refuse")).await;
        assert_eq!(
            (status, &json["error"]["code"]),
            (400, &json!("context_length_exceeded"))
        );
        let (status, json) = server.ask(&ask("fail at once")).await;
        assert_eq!(
            (status, &json["error"]["type"]),
            (500, &json!("server_error"))
        );
        assert!(!json.to_string().contains("secret"));
    }
    let mut body = user("fail");
    body["stream"] = json!(true);
    let response = server.chat(&body).await;
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    let streamed = parse_stream(&text);
    assert_eq!(streamed.text, "one ");
    assert_eq!(streamed.error.unwrap()["code"], "engine_failed");
    assert!(!text.contains("[DONE]") && !text.contains("secret"));
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_the_generation() {
    let (server, engine) = fake_server();
    for (text, stream) in [
        ("hang", true),
        ("hang", false),
        ("mute", true),
        ("mute", false),
    ] {
        let mut body = user(text);
        body["stream"] = json!(stream);
        if text == "hang" && stream {
            let mut stream = server.chat(&body).await.bytes_stream();
            stream.next().await.unwrap().unwrap();
            assert_eq!(engine.running.load(Ordering::SeqCst), 1);
            drop(stream);
        } else {
            let _ = tokio::time::timeout(Duration::from_millis(300), server.chat(&body)).await;
        }
        let started = Instant::now();
        while engine.running.load(Ordering::SeqCst) != 0 {
            assert!(
                started.elapsed() < Duration::from_secs(2),
                "{text}, stream {stream}: it runs on"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_by_comments() {
    let mut config = config();
    config.server.keep_alive_interval = 1;
    let server = start(config, EngineState::Loaded(FakeEngine::new()));
    let mut body = user("mute");
    body["stream"] = json!(true);
    let mut stream = server.chat(&body).await.bytes_stream();
    let mut text = String::new();
    while !text.contains(": keep-alive") {
        let bytes = tokio::time::timeout(Duration::from_secs(5), stream.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    assert!(text.starts_with("data: {"), "the head comes first: {text}");
}

#[tokio::test]
async fn one_request_too_many_is_told_to_come_again() {
    let mut config = config();
    config.server.max_concurrent_requests = 2;
    let server = start(config, EngineState::Loaded(FakeEngine::new()));
    let mut body = user("hang");
    body["stream"] = json!(true);
    let first = server.chat(&body).await;
    let second = server.chat(&body).await;
    let third = server.chat(&user("hi")).await;
    assert_eq!(third.status(), 503);
    assert!(third.headers().contains_key("retry-after"));
    let json: Value = third.json().await.unwrap();
    assert_eq!(json["error"]["code"], "overloaded");
    drop((first, second));
    let started = Instant::now();
    while server.chat(&user("hi")).await.status() != 200 {
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "the places were not given back"
        );
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_others_replaced() {
    let (server, _) = fake_server();
    for (sent, kept) in [
        ("abc-1.2_3", true),
        ("a b", false),
        (&*"x".repeat(200), false),
    ] {
        let request = server
            .client
            .get(format!("{}/health", server.base))
            .header("x-request-id", sent);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"] == sent, kept, "{sent}");
    }
}
