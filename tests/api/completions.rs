//! The contract of `POST /v1/completions`.

use porthole::engine::Input;
use serde_json::{Value, json};

use super::{
    fake_engine::fake_server,
    helpers::header,
    responses::{Fault, all_are_refused, ask, post, the_doors_hold},
};

const PATH: &str = "/v1/completions";

fn of(prompt: Value) -> Value {
    json!({"model": "demo", "prompt": prompt})
}

/// The chunks of a stream that ends as it should.
fn chunks(text: &str) -> Vec<Value> {
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    let (last, chunks) = lines.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    chunks
        .iter()
        .map(|chunk| serde_json::from_str(chunk).unwrap())
        .collect()
}

#[tokio::test]
async fn a_plain_answer_has_the_shape_of_openai() {
    let (server, engine) = fake_server();
    let (status, mut json) = ask(&server, PATH, &of(json!("hello there"))).await;
    assert_eq!(status, 200);
    assert!(json["id"].as_str().unwrap().starts_with("cmpl-"));
    assert!(json["created"].as_u64().unwrap() > 1_700_000_000);
    json["id"] = Value::Null;
    json["created"] = Value::Null;
    assert_eq!(
        json,
        json!({
            "id": null, "object": "text_completion", "created": null, "model": "demo",
            "system_fingerprint": "fp_fake",
            "choices": [{"text": "hello there", "index": 0, "logprobs": null, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13,
                "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": 0, "text_tokens": 10, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
            },
        })
    );
    let asked = engine.asked.lock().unwrap();
    assert!(matches!(&asked[0].inquiry.input, Input::Text(text) if text == "hello there"));
    assert_eq!(asked[0].sampling.max_tokens, Some(16), "OpenAI's default");
}

#[tokio::test]
async fn several_prompts_and_answers_are_choices_in_order() {
    let (server, engine) = fake_server();
    let mut body = of(json!(["one", [7, 8]]));
    body["n"] = json!(2);
    body["seed"] = json!(5);
    body["logprobs"] = json!(1);
    body["max_tokens"] = json!(4);
    let (status, json) = ask(&server, PATH, &body).await;
    assert_eq!(status, 200);
    let choices = json["choices"].as_array().unwrap();
    let texts: Vec<&str> = choices
        .iter()
        .map(|c| c["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["one", "one", "7 8", "7 8"]);
    for (i, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], i);
        assert!(choice["logprobs"]["text_offset"].is_array());
    }
    // Each prompt is read once, and 2 + 2 + 3 + 3 words are written.
    assert_eq!(json["usage"]["prompt_tokens"], 20);
    assert_eq!(json["usage"]["completion_tokens"], 10);
    let asked = engine.asked.lock().unwrap();
    let seeds: Vec<_> = asked.iter().map(|asked| asked.sampling.seed).collect();
    assert_eq!(seeds, [Some(5), Some(6), Some(5), Some(6)]);
    assert!(matches!(&asked[2].inquiry.input, Input::Tokens(ids) if *ids == [7, 8]));
    assert_eq!(asked[0].sampling.logprobs, Some(1));
}

#[tokio::test]
async fn a_stream_carries_all_answers_and_the_usage_last() {
    let (server, _) = fake_server();
    let mut body = of(json!(["a b", "c"]));
    body["stream"] = json!(true);
    body["echo"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let response = post(&server, PATH, &body).await;
    assert!(header(&response, "content-type").starts_with("text/event-stream"));
    let chunks = chunks(&response.text().await.unwrap());
    let mut texts = [String::new(), String::new()];
    let mut finished = Vec::new();
    let (last, pieces) = chunks.split_last().unwrap();
    for chunk in pieces {
        assert_eq!(chunk["usage"], Value::Null);
        assert_eq!(chunk["object"], "text_completion");
        let choice = &chunk["choices"][0];
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        texts[index].push_str(choice["text"].as_str().unwrap());
        if choice["finish_reason"] == "stop" {
            finished.push(index);
        }
    }
    assert_eq!(
        texts,
        ["a ba b", "cc"],
        "the prompt, and the answer that echoes it"
    );
    assert_eq!(finished, [0, 1]);
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 20 + 3 + 2);
    body["stream_options"] = Value::Null;
    let text = post(&server, PATH, &body).await.text().await.unwrap();
    assert!(!text.contains("usage"));
}

#[tokio::test]
async fn failures_are_statuses_or_the_last_event() {
    let (server, engine) = fake_server();
    let (status, json) = ask(&server, PATH, &of(json!(["fine", "refuse"]))).await;
    let error = &json["error"];
    assert_eq!(
        (status, &error["code"], &error["param"]),
        (400, &json!("context_length_exceeded"), &json!("prompt"))
    );
    assert_eq!(
        engine.times_asked(),
        0,
        "one bad prompt refuses the request"
    );
    let (status, _) = ask(&server, PATH, &of(json!(["fine", "fail", "fine"]))).await;
    assert_eq!(status, 500);
    assert_eq!(engine.times_asked(), 2, "after a failure nothing is begun");
    let mut body = of(json!("fail"));
    body["stream"] = json!(true);
    let text = post(&server, PATH, &body).await.text().await.unwrap();
    let last = text.trim_end().rsplit("data: ").next().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["code"], "engine_failed");
    assert!(!text.contains("secret") && !text.contains("[DONE]"));
}

#[tokio::test]
async fn a_body_of_a_megabyte_is_taken_and_a_wrong_one_refused_alike() {
    let (server, _) = fake_server();
    let long = "x".repeat(1 << 20);
    let (status, json) = ask(&server, PATH, &of(json!(long))).await;
    assert_eq!(
        (status, json["choices"][0]["text"].as_str()),
        (200, Some(&*long))
    );
    let (status, json) = ask(&server, PATH, &of(json!([long, 1]))).await;
    assert_eq!(
        (status, &json["error"]["param"]),
        (400, &json!("prompt[1]"))
    );
}

#[tokio::test]
async fn keys_and_limits_hold_here_too() {
    the_doors_hold(PATH, &of(json!("hello"))).await;
}

/// Bodies that are wrong by themselves.
pub fn wrong_bodies() -> Vec<(Fault, Value)> {
    const TYPE: &str = "invalid_type";
    const VALUE: &str = "invalid_value";
    let with = |param, code, field: &str, value: Value| {
        let mut body = of(json!("hi"));
        body[field] = value;
        ((400, code, Some(param)), body)
    };
    let same = |field, code, value| with(field, code, field, value);
    let two = |param, first: (&str, Value), second: (&str, Value)| {
        let mut body = of(json!("hi"));
        body[first.0] = first.1;
        body[second.0] = second.1;
        ((400, VALUE, Some(param)), body)
    };
    let biases: serde_json::Map<_, _> = (0..1025).map(|i| (i.to_string(), json!(1))).collect();
    vec![
        (
            (400, "missing_required_parameter", Some("prompt")),
            json!({"model": "demo"}),
        ),
        (
            (400, "missing_required_parameter", Some("model")),
            json!({"prompt": "x"}),
        ),
        (
            (404, "model_not_found", Some("model")),
            json!({"model": "gpt", "prompt": "x"}),
        ),
        same("prompt", TYPE, json!(null)),
        same("prompt", TYPE, json!({})),
        same("prompt", VALUE, json!([])),
        same("prompt", VALUE, json!(vec!["x"; 17])),
        same("prompt", TYPE, json!([1, "x"])),
        same("prompt", VALUE, json!([1.5])),
        same("prompt", VALUE, json!([-1])),
        same("prompt", VALUE, json!([1000])),
        with("prompt[0]", VALUE, "prompt", json!([[]])),
        with("prompt[1]", TYPE, "prompt", json!(["x", null])),
        same("max_tokens", VALUE, json!(0)),
        same("max_tokens", TYPE, json!("16")),
        same("n", VALUE, json!(0)),
        same("n", VALUE, json!(17)),
        two("n", ("n", json!(9)), ("prompt", json!(["a", "b"]))),
        same("best_of", VALUE, json!(2)),
        same("echo", TYPE, json!(1)),
        two("echo", ("echo", json!(true)), ("logprobs", json!(1))),
        two("echo", ("echo", json!(true)), ("prompt", json!([1]))),
        same("logprobs", VALUE, json!(6)),
        same("logprobs", TYPE, json!(true)),
        same("suffix", "unsupported_parameter", json!("end")),
        same("temperature", VALUE, json!(3)),
        same("top_p", VALUE, json!(1.1)),
        same("top_k", VALUE, json!(-1)),
        same("min_p", VALUE, json!(2)),
        same("presence_penalty", VALUE, json!(2.5)),
        same("frequency_penalty", TYPE, json!("1")),
        same("repetition_penalty", VALUE, json!(0)),
        same("seed", VALUE, json!(1.5)),
        same("stop", VALUE, json!(["a", "b", "c", "d", "e"])),
        same("stop", VALUE, json!("")),
        same("stop", TYPE, json!([1])),
        same("logit_bias", TYPE, json!([])),
        same("logit_bias", VALUE, json!({"x": 1})),
        with("logit_bias.1", VALUE, "logit_bias", json!({"1": 101})),
        same("logit_bias", VALUE, json!({"1000": 1})),
        same("logit_bias", VALUE, json!(biases)),
        same("stream", TYPE, json!(1)),
        same("stream_options", VALUE, json!({})),
        same("messages", "unknown_parameter", json!([])),
    ]
}

#[tokio::test]
async fn wrong_bodies_are_refused_by_name() {
    all_are_refused(PATH, wrong_bodies()).await;
}
