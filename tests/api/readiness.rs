//! Before, while and after the engine can answer; models, routes and methods.

use porthole::{engine::Health, state::EngineState};
use serde_json::{Value, json};

use super::{
    fake_engine::{FakeEngine, fake_server},
    helpers::{config, start, user},
};

#[tokio::test]
async fn while_the_model_loads_the_server_lives_and_is_not_ready() {
    let server = start(config(), EngineState::Loading);
    assert_eq!(server.get("/health").await.status(), 200);
    let ready = server.get("/ready").await;
    assert_eq!(ready.status(), 503);
    let json: Value = ready.json().await.unwrap();
    assert!(
        json["error"]["message"]
            .as_str()
            .unwrap()
            .contains("loading"),
        "{json}"
    );
    let chat = server.chat(&user("hi")).await;
    assert_eq!(chat.status(), 503);
    assert!(
        chat.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u32>()
            .unwrap()
            >= 1
    );

    let engine = FakeEngine::new();
    server
        .engine
        .send_replace(EngineState::Loaded(engine.clone()));
    assert_eq!(server.get("/ready").await.status(), 200);
    assert_eq!(server.ask(&user("hi")).await.0, 200);
    assert_eq!(server.metric("porthole_ready").await, 1.0);

    engine
        .health
        .send_replace(Health::Recovering("secret reason".into()));
    let ready = server.get("/ready").await;
    assert_eq!(ready.status(), 503);
    assert!(!ready.text().await.unwrap().contains("secret"));
    assert_eq!(server.ask(&user("hi")).await.0, 503);
    engine.health.send_replace(Health::Up);
    assert_eq!(server.ask(&user("hi")).await.0, 200);

    server
        .engine
        .send_replace(EngineState::Failed("secret path".into()));
    assert_eq!(server.ask(&user("hi")).await.0, 503);
}

#[tokio::test]
async fn the_models_are_the_name_and_its_aliases() {
    let mut config = config();
    config.model.aliases = vec!["org/other-name".into()];
    let server = start(config, EngineState::Loaded(FakeEngine::new()));
    let list: Value = server.get("/v1/models").await.json().await.unwrap();
    assert_eq!(list["object"], "list");
    let ids: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["demo", "org/other-name"]);
    for name in ["demo", "org/other-name"] {
        let model: Value = server
            .get(&format!("/v1/models/{name}"))
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(
            (&model["id"], &model["object"]),
            (&json!(name), &json!("model"))
        );
    }
    let unknown = server.get("/v1/models/gpt-4o").await;
    assert_eq!(unknown.status(), 404);
    let json: Value = unknown.json().await.unwrap();
    assert_eq!(json["error"]["code"], "model_not_found");
    let mut body = user("hi");
    body["model"] = json!("org/other-name");
    assert_eq!(server.ask(&body).await.1["model"], "org/other-name");
}

#[tokio::test]
async fn unknown_routes_and_methods_get_the_one_error_shape() {
    let (server, _) = fake_server();
    for (method, path, status, code) in [
        ("GET", "/", 404, "unknown_url"),
        ("POST", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/demo", 405, "method_not_allowed"),
        ("GET", "/metrics", 404, "unknown_url"),
    ] {
        let request = server
            .client
            .request(method.parse().unwrap(), format!("{}{path}", server.base));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        let json: Value = response.json().await.unwrap();
        let error = json["error"].as_object().unwrap();
        assert_eq!(error["code"], code);
        assert!(
            ["message", "type", "param", "code"]
                .iter()
                .all(|key| error.contains_key(*key))
                && error.len() == 4
        );
    }
}
