//! What answers carry beside one text: several choices, log probabilities, thoughts, times.

use porthole::engine::{Effort, Format};
use serde_json::{Value, json};

use super::{
    fake_engine::fake_server,
    helpers::{about, data_url, header, parse_stream, png, user},
};

fn script(events: &Value) -> Value {
    user(&format!("events:{events}"))
}

fn stop(completion: usize, reasoning: usize) -> Value {
    json!({"finished": {"reason": "stop", "completion": completion, "reasoning": reasoning}})
}

#[tokio::test]
async fn several_answers_have_choices_and_seeds_of_their_own() {
    let (server, engine) = fake_server();
    let length = json!({"finished": {"reason": "length", "completion": 7}});
    let mut body = script(&json!([
        [{"text": "a"}, stop(2, 0)],
        [{"text": "b"}, length],
        [{"text": "c"}, stop(4, 1)],
    ]));
    body["n"] = json!(3);
    body["seed"] = json!(-1);
    let (status, json) = server.ask(&body).await;
    assert_eq!(status, 200, "{json}");
    let choices: Vec<_> = json["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(choice)
        .collect();
    assert_eq!(
        choices,
        [(0, "a", "stop"), (1, "b", "length"), (2, "c", "stop")]
    );
    assert_eq!(
        json["usage"]["prompt_tokens"], 10,
        "the prompt is counted once"
    );
    assert_eq!(json["usage"]["completion_tokens"], 13);
    assert_eq!(json["usage"]["total_tokens"], 23);
    assert_eq!(
        json["usage"]["completion_tokens_details"]["reasoning_tokens"],
        1
    );
    let asked = engine.asked.lock().unwrap();
    let seeds: Vec<_> = asked.iter().map(|asked| asked.sampling.seed).collect();
    assert_eq!(seeds, [Some(u64::MAX), Some(0), Some(1)], "-1 is wrapped");
}

fn choice(choice: &Value) -> (u64, &str, &str) {
    (
        choice["index"].as_u64().unwrap(),
        choice["message"]["content"].as_str().unwrap(),
        choice["finish_reason"].as_str().unwrap(),
    )
}

#[tokio::test]
async fn a_stream_of_several_answers_has_a_beginning_and_an_end_of_each() {
    let (server, _) = fake_server();
    let answers = ["a", "b", "c"].map(|text| json!([{"text": text}, {"text": text}, stop(3, 0)]));
    let mut body = script(&json!(answers));
    body["n"] = json!(3);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true, "include_obfuscation": false});
    let response = server.chat(&body).await;
    let ignored = header(&response, "x-porthole-ignored");
    assert_eq!(ignored, "stream_options.include_obfuscation");
    let streamed = parse_stream(&response.text().await.unwrap());
    for (index, text) in ["a", "b", "c"].iter().enumerate() {
        let of = streamed
            .chunks
            .iter()
            .filter_map(|chunk| chunk["choices"].get(0));
        let of: Vec<&Value> = of.filter(|choice| choice["index"] == index).collect();
        assert_eq!(of[0]["delta"]["role"], "assistant");
        let said: Vec<_> = of[1..3]
            .iter()
            .map(|choice| &choice["delta"]["content"])
            .collect();
        assert_eq!(said, [text, text]);
        assert_eq!(
            (of[3]["finish_reason"].as_str(), of.len()),
            (Some("stop"), 4)
        );
    }
    let usage = streamed.usage.unwrap();
    assert_eq!(usage["completion_tokens"], 9);
    let last = streamed.chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]), "the usage comes after all ends");
}

#[tokio::test]
async fn one_answer_that_fails_ends_the_stream() {
    let (server, _) = fake_server();
    let mut body = script(&json!([
        [{"text": "a"}, stop(2, 0)],
        [{"text": "b"}, {"failed": "secret inside"}],
    ]));
    body["n"] = json!(2);
    let (status, json) = server.ask(&body).await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (500, &json!("engine_failed"))
    );
    body["stream"] = json!(true);
    let text = server.chat(&body).await.text().await.unwrap();
    assert_eq!(parse_stream(&text).error.unwrap()["code"], "engine_failed");
    assert!(!text.contains("[DONE]") && !text.contains("secret"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let (server, _) = fake_server();
    let mut body = script(&json!([{"text": "a"}]));
    let (status, json) = server.ask(&body).await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (500, &json!("engine_failed"))
    );
    body["stream"] = json!(true);
    let text = server.chat(&body).await.text().await.unwrap();
    assert_eq!(parse_stream(&text).error.unwrap()["code"], "engine_failed");
}

/// Two tokens that make one character, and one that was impossible.
fn tokens() -> Vec<Value> {
    vec![
        json!({"tokens": [["Hi", -0.5, ["Hi", -0.5], ["Ho", -1.0]]]}),
        json!({"tokens": [[[0xC3], -0.25]]}),
        json!({"tokens": [[[0xB6], null], ["!", -2.0]]}),
    ]
}

#[tokio::test]
async fn log_probabilities_are_told_of_each_token() {
    let (server, engine) = fake_server();
    let mut events = tokens();
    events.push(stop(5, 0));
    let mut body = script(&json!(events));
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    let (status, json) = server.ask(&body).await;
    assert_eq!(status, 200, "{json}");
    let expected = json!([
        {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [
            {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]},
            {"token": "Ho", "logprob": -1.0, "bytes": [72, 111]}]},
        {"token": "\u{fffd}", "logprob": -0.25, "bytes": [0xC3], "top_logprobs": []},
        {"token": "\u{fffd}", "logprob": -9999.0, "bytes": [0xB6], "top_logprobs": []},
        {"token": "!", "logprob": -2.0, "bytes": [33], "top_logprobs": []},
    ]);
    let logprobs = &json["choices"][0]["logprobs"];
    assert_eq!(logprobs, &json!({"content": expected, "refusal": null}));
    body["stream"] = json!(true);
    let streamed = parse_stream(&server.chat(&body).await.text().await.unwrap());
    let told = streamed
        .chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["logprobs"]);
    let told: Vec<&Value> = told.filter(|logprobs| !logprobs.is_null()).collect();
    assert_eq!(told.len(), 3, "with the text that they are of");
    assert!(told.iter().all(|logprobs| logprobs["refusal"].is_null()));
    let all = told
        .iter()
        .flat_map(|logprobs| logprobs["content"].as_array().unwrap().clone());
    assert_eq!(Value::Array(all.collect()), expected);
    let asked = engine.asked.lock().unwrap();
    assert!(asked.iter().all(|asked| asked.sampling.logprobs == Some(2)));
}

#[tokio::test]
async fn thoughts_are_told_apart_from_the_answer() {
    let (server, engine) = fake_server();
    let mut body = script(&json!([
        {"reasoning": "Let me "}, {"reasoning": "see."}, {"text": "42"}, stop(6, 4),
    ]));
    body["reasoning_effort"] = json!("minimal");
    let (_, json) = server.ask(&body).await;
    let message = &json["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Let me see.");
    assert_eq!(message["content"], "42");
    assert_eq!(
        json["usage"]["completion_tokens_details"]["reasoning_tokens"],
        4
    );
    let (_, json) = server.ask(&user("hi")).await;
    assert!(
        json["choices"][0]["message"]
            .get("reasoning_content")
            .is_none()
    );
    assert!(json["choices"][0]["message"].get("tool_calls").is_none());
    body["stream"] = json!(true);
    let streamed = parse_stream(&server.chat(&body).await.text().await.unwrap());
    let deltas = streamed
        .chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"]);
    let thought = deltas.filter_map(|delta| delta["reasoning_content"].as_str());
    assert_eq!(thought.collect::<String>(), "Let me see.");
    assert_eq!(streamed.text, "42");
    let asked = engine.asked.lock().unwrap();
    assert_eq!(asked[0].inquiry.effort, Some(Effort::Tokens(256)));
}

#[tokio::test]
async fn every_effort_reaches_the_engine() {
    let (server, engine) = fake_server();
    for (word, effort) in [
        ("none", Effort::None),
        ("minimal", Effort::Tokens(256)),
        ("low", Effort::Tokens(1024)),
        ("medium", Effort::Tokens(4096)),
        ("high", Effort::Tokens(16_384)),
        ("xhigh", Effort::Unlimited),
        ("max", Effort::Unlimited),
    ] {
        let mut body = user("hi");
        body["reasoning_effort"] = json!(word);
        assert_eq!(server.ask(&body).await.0, 200);
        let asked = engine.asked.lock().unwrap();
        assert_eq!(asked.last().unwrap().inquiry.effort, Some(effort), "{word}");
    }
}

#[tokio::test]
async fn the_form_of_the_answer_reaches_the_engine() {
    let (server, engine) = fake_server();
    let schema = json!({"type": "object", "properties": {"b": {"type": "string"}, "a": {}}});
    let strict = |strict: Value| {
        json!({"type": "json_schema", "json_schema": {
            "name": "thing", "schema": schema, "strict": strict, "description": "a thing"}})
    };
    let description = "response_format.json_schema.description";
    let both = "response_format.json_schema.description, stop";
    for (sent, stop, expected, ignored) in [
        (json!({"type": "text"}), true, Format::Text, ""),
        (
            json!({"type": "json_object"}),
            false,
            Format::JsonObject,
            "",
        ),
        (
            json!({"type": "json_object"}),
            true,
            Format::JsonObject,
            "stop",
        ),
        (
            strict(json!(true)),
            false,
            Format::JsonSchema(schema.clone()),
            description,
        ),
        (
            strict(Value::Null),
            true,
            Format::JsonSchema(schema.clone()),
            both,
        ),
    ] {
        let mut body = user("hi");
        body["response_format"] = sent.clone();
        if stop {
            body["stop"] = json!("END");
        }
        let response = server.chat(&body).await;
        assert_eq!(response.status(), 200, "{sent}");
        assert_eq!(header(&response, "x-porthole-ignored"), ignored, "{sent}");
        let asked = engine.asked.lock().unwrap();
        assert_eq!(asked.last().unwrap().inquiry.format, expected);
    }
}

#[tokio::test]
async fn the_times_of_a_request_are_told() {
    let (server, _) = fake_server();
    let names = |timing: &str| {
        let names = timing.split(", ").map(|entry| {
            let (name, time) = entry.split_once(";dur=").unwrap();
            assert!(time.parse::<f64>().unwrap() >= 0.0, "{entry}");
            name.to_string()
        });
        names.collect::<Vec<_>>().join(" ")
    };
    let image = data_url(&png(64, 64, [1, 2, 3]));
    for (mut body, stream, expected) in [
        (user("hi"), false, "queue prompt total"),
        (user("hi"), true, "queue prompt"),
        (about(&image, "hi"), false, "queue images prompt total"),
        (about(&image, "hi"), true, "queue images prompt"),
    ] {
        body["stream"] = json!(stream);
        let response = server.chat(&body).await;
        assert_eq!(names(header(&response, "server-timing")), expected);
        let whole: f64 = header(&response, "openai-processing-ms").parse().unwrap();
        assert!((0.0..60_000.0).contains(&whole));
    }
}
