//! The contract of `POST /v1/models/{model}:predict`.

use base64_simd::STANDARD;
use porthole::{
    engine::{Part, Role},
    state::EngineState,
};
use serde_json::{Value, json};

use super::{
    fake_engine::{FakeEngine, fake_server},
    helpers::{config, png, start},
    responses::{Fault, all_are_refused, ask, the_doors_hold},
};

const PATH: &str = "/v1/models/demo:predict";

fn of(inputs: Value) -> Value {
    json!({"inputs": inputs})
}

fn image(width: u32, height: u32) -> Value {
    let data = STANDARD.encode_to_string(png(width, height, [1, 2, 3]));
    json!({"mime_type": "image/png", "data": data})
}

#[tokio::test]
async fn images_and_texts_keep_their_order_in_one_turn() {
    let (server, engine) = fake_server();
    let mut body =
        of(json!([image(64, 64), {"text": "first"}, image(96, 64), {"text": "last words"}]));
    body["parameters"] =
        json!({"temperature": 0, "top_k": 3, "max_tokens": 9, "stop": ["END"], "seed": 4});
    let (status, json) = ask(&server, PATH, &body).await;
    assert_eq!(
        (status, json),
        (200, json!({"outputs": [{"text": "last words"}]}))
    );
    let asked = engine.asked.lock().unwrap();
    let [turn] = &asked[0].turns[..] else {
        panic!()
    };
    assert_eq!(turn.role, Role::User);
    assert!(matches!(
        &turn.parts[..],
        [Part::Image((64, 64)), Part::Text(a), Part::Image((96, 64)), Part::Text(b)]
            if a == "first" && b == "last words"
    ));
    let sampling = &asked[0].sampling;
    assert_eq!(
        (
            sampling.temperature,
            sampling.top_k,
            sampling.max_tokens,
            sampling.seed
        ),
        (Some(0.0), Some(3), Some(9), Some(4))
    );
    assert_eq!(sampling.stop, ["END"]);
}

#[tokio::test]
async fn a_name_with_a_slash_is_found_and_the_model_is_still_told_of() {
    let mut config = config();
    config.model.name = "org/demo".into();
    let server = start(config, EngineState::Loaded(FakeEngine::new()));
    let body = of(json!([{"text": "hi"}]));
    for name in ["org/demo", "org%2Fdemo"] {
        let path = format!("/v1/models/{name}:predict");
        assert_eq!(ask(&server, &path, &body).await.0, 200, "{name}");
    }
    let json: Value = server
        .get("/v1/models/org/demo")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(json["id"], "org/demo");
    let (status, json) = ask(&server, "/v1/models/other:predict", &body).await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    let response = server.get("/v1/models/org/demo:predict").await;
    assert_eq!(response.status(), 405);
}

#[tokio::test]
async fn keys_and_limits_hold_here_too() {
    the_doors_hold(PATH, &of(json!([{"text": "hello"}]))).await;
}

/// Bodies that are wrong by themselves.
pub fn wrong_bodies() -> Vec<(Fault, Value)> {
    const TYPE: &str = "invalid_type";
    const VALUE: &str = "invalid_value";
    const MISSING: &str = "missing_required_parameter";
    const UNKNOWN: &str = "unknown_parameter";
    let at = |code, param, body| ((400, code, Some(param)), body);
    let one = |code, param, input: Value| ((400, code, Some(param)), of(json!([input])));
    let set = |code, param, parameters: Value| {
        let mut body = of(json!([{"text": "hi"}]));
        body["parameters"] = parameters;
        ((400, code, Some(param)), body)
    };
    vec![
        at(MISSING, "inputs", json!({})),
        at(TYPE, "inputs", json!({"inputs": "hi"})),
        at(TYPE, "inputs", json!({"inputs": null})),
        at(VALUE, "inputs", json!({"inputs": []})),
        at(UNKNOWN, "instances", json!({"instances": []})),
        at(
            UNKNOWN,
            "instances",
            json!({"inputs": [{"text": "x"}], "instances": [1]}),
        ),
        one(TYPE, "inputs[0]", json!("hi")),
        one(VALUE, "inputs[0]", json!({})),
        one(
            VALUE,
            "inputs[0]",
            json!({"text": "x", "mime_type": "image/png", "data": "x"}),
        ),
        one(TYPE, "inputs[0].text", json!({"text": 1})),
        one(MISSING, "inputs[0].mime_type", json!({"data": "aGVsbG8="})),
        one(MISSING, "inputs[0].data", json!({"mime_type": "image/png"})),
        one(
            "unsupported_value",
            "inputs[0].mime_type",
            json!({"mime_type": "audio/wav", "data": "aGVsbG8="}),
        ),
        one(
            "invalid_base64",
            "inputs[0].data",
            json!({"mime_type": "image/png", "data": "$$"}),
        ),
        one(
            "invalid_image_url",
            "inputs[0].data",
            json!({"mime_type": "image/png", "data": ""}),
        ),
        one(UNKNOWN, "inputs[0].url", json!({"text": "x", "url": "x"})),
        one(
            "context_length_exceeded",
            "inputs",
            json!({"text": "refuse"}),
        ),
        set(TYPE, "parameters", json!([])),
        set(UNKNOWN, "parameters.stream", json!({"stream": true})),
        set(UNKNOWN, "parameters.model", json!({"model": "demo"})),
        set(VALUE, "parameters.temperature", json!({"temperature": -1})),
        set(VALUE, "parameters.max_tokens", json!({"max_tokens": 0})),
        set(
            VALUE,
            "parameters.max_tokens",
            json!({"max_tokens": 1, "max_completion_tokens": 2}),
        ),
        set(VALUE, "parameters.stop", json!({"stop": [""]})),
        set(
            VALUE,
            "parameters.logit_bias",
            json!({"logit_bias": {"1000": 1}}),
        ),
    ]
}

#[tokio::test]
async fn wrong_bodies_are_refused_by_name() {
    all_are_refused(PATH, wrong_bodies()).await;
    let broken = json!({"mime_type": "image/png", "data": "aGVsbG8="});
    let fault = (415, "unsupported_image_type", Some("inputs[0].data"));
    all_are_refused(PATH, vec![(fault, of(json!([broken])))]).await;
}
