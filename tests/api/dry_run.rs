//! Dry runs: counted like the request itself, and neither charged nor answered.

use std::{sync::atomic::Ordering, time::Duration};

use porthole::caller::{Limits, Rights};
use serde_json::{Value, json};

use super::{
    auth::guarded,
    fake_engine::fake_server,
    helpers::{TestServer, about, data_url, png, user},
};

async fn dry(server: &TestServer, value: &str, body: &Value) -> (u16, Value) {
    let request = server
        .client
        .post(format!("{}/v1/chat/completions", server.base))
        .header("x-porthole-dry-run", value);
    let response = request.json(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn parts_are_counted_and_nothing_is_asked() {
    let (server, engine) = fake_server();
    let mut body = about(&data_url(&png(64, 96, [1, 2, 3])), "what is this");
    body["stream"] = json!(true);
    body["messages"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"role": "system", "content": "be brief"}));
    let (status, json) = dry(&server, "true", &body).await;
    assert_eq!(status, 200, "{json}");
    assert_eq!(
        json,
        json!({
            "object": "chat.completion.dry_run",
            "model": "demo",
            "prompt_tokens": 10,
            "prompt_tokens_details":
                {"cached_tokens": 0, "image_tokens": 4, "text_tokens": 6, "audio_tokens": 0},
            "max_completion_tokens": 4086,
            "parts": [
                {"message": 0, "part": 0, "tokens": 2, "type": "text"},
                {"message": 1, "part": 0, "tokens": 6, "type": "image_url", "width": 64, "height": 96},
                {"message": 1, "part": 1, "tokens": 3, "type": "text"},
            ],
            "limits": {"requests": null, "tokens": null},
        })
    );
    let (_, json) = dry(&server, "ids", &body).await;
    assert_eq!(
        json["prompt_token_ids"],
        json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    );
    assert_eq!(engine.prepared.load(Ordering::SeqCst), 2);
    assert_eq!(engine.times_asked(), 0);
}

#[tokio::test]
async fn it_fails_as_the_request_would() {
    let (server, engine) = fake_server();
    let (status, json) = dry(&server, "true", &user("refuse")).await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
    let (status, json) = dry(&server, "true", &json!({"model": "demo"})).await;
    assert_eq!((status, &json["error"]["param"]), (400, &json!("messages")));
    let (status, json) = dry(&server, "perhaps", &user("hi")).await;
    assert_eq!(
        (status, &json["error"]["param"]),
        (400, &json!("x-porthole-dry-run"))
    );
    assert_eq!(engine.times_asked(), 0);
    let (status, json) = dry(&server, "false", &user("hi")).await;
    assert_eq!((status, &json["object"]), (200, &json!("chat.completion")));
    assert_eq!(engine.times_asked(), 1);
}

#[tokio::test]
async fn it_costs_a_request_and_no_token() {
    let guarded = guarded();
    let limits = Limits {
        requests_per_minute: Some(3),
        tokens_per_minute: Some(1_000),
        ..Limits::default()
    };
    let rights = Rights {
        limits,
        ..Rights::default()
    };
    let key = guarded.keys.create("k", None, &rights).unwrap();
    // Until the key is known; asking whether it is would cost requests.
    tokio::time::sleep(Duration::from_millis(900)).await;
    for (status, remaining) in [(200, 2), (200, 1), (200, 0), (429, 0)] {
        let request = guarded
            .server
            .client
            .post(format!("{}/v1/chat/completions", guarded.server.base))
            .header("x-porthole-dry-run", "true")
            .bearer_auth(key.expose());
        let response = request.json(&user("hi")).send().await.unwrap();
        assert_eq!(response.status(), status);
        let json: Value = response.json().await.unwrap();
        if status == 200 {
            let limits = &json["limits"];
            assert_eq!(limits["requests"]["limit"], 3);
            assert_eq!(limits["requests"]["remaining"], remaining);
            assert!(limits["requests"]["reset"].as_str().unwrap().ends_with('s'));
            assert_eq!(limits["tokens"]["remaining"], 1_000);
        }
    }
    let anonymous = dry(&guarded.server, "true", &user("hi")).await;
    assert_eq!(anonymous.0, 401);
}
