//! Short-lived tokens for frontends.

use jiff::Timestamp;
use porthole::caller::{Rights, Role};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    auth::{body, guarded},
    helpers::{about, data_url, png, user},
};

fn minter() -> Rights {
    Rights {
        roles: vec![Role::MintTokens],
        ..Rights::default()
    }
}

#[tokio::test]
async fn a_frontend_token_does_what_it_was_minted_for_and_no_more() {
    let guarded = guarded();
    let key = guarded.key("backend", &minter()).await;
    let wish = json!({"minutes": 5, "origin": "https://app.example.com", "max_images": 0, "limits": {"tokens_total": 100}});
    let (status, minted) = guarded.mint(key.expose(), &wish).await;
    assert_eq!(status, 200, "{minted}");
    let token = minted["token"].as_str().unwrap();
    assert_eq!(
        (minted["object"].as_str(), minted["token_type"].as_str()),
        (Some("token"), Some("Bearer"))
    );
    let left = minted["expires_at"].as_i64().unwrap() - Timestamp::now().as_second();
    assert!((290..=300).contains(&left), "{left}");

    let ask = |token: String, origin: &'static str, body: Value| {
        let url = format!("{}/v1/chat/completions", guarded.server.base);
        let request = guarded
            .server
            .client
            .post(url)
            .bearer_auth(token)
            .header("origin", origin)
            .json(&body);
        async move { body_of(request.send().await.unwrap()).await }
    };
    async fn body_of(response: Response) -> (u16, Value) {
        body(response).await
    }
    let app = "https://app.example.com";
    let mut short = user("hello");
    short["max_tokens"] = json!(20);
    assert_eq!(ask(token.into(), app, short.clone()).await.0, 200);
    assert_eq!(
        ask(token.into(), "https://evil.example.com", short.clone())
            .await
            .0,
        403
    );
    assert_eq!(
        ask(
            token.into(),
            app,
            about(&data_url(&png(64, 64, [0; 3])), "x")
        )
        .await
        .0,
        400
    );
    let (status, json) = guarded.mint(token, &json!({})).await;
    assert_eq!(status, 403, "a token minted a token: {json}");

    // A hundred tokens in all: at twelve a request, they run out.
    let mut last = (200, Value::Null);
    for _ in 0..20 {
        last = ask(token.into(), app, short.clone()).await;
        if last.0 != 200 {
            break;
        }
    }
    assert_eq!(
        (last.0, last.1["error"]["code"].as_str()),
        (429, Some("insufficient_quota"))
    );

    guarded.keys.revoke("backend").unwrap();
    guarded.becomes(&key, StatusCode::UNAUTHORIZED).await;
    assert_eq!(
        ask(token.into(), app, short).await.0,
        401,
        "its key was revoked"
    );
}

#[tokio::test]
async fn a_token_is_minted_only_with_the_role_and_within_the_keys_rights() {
    let guarded = guarded();
    let plain = guarded.key("plain", &Rights::default()).await;
    let (status, json) = guarded.mint(plain.expose(), &json!({})).await;
    assert_eq!(
        (status, json["error"]["code"].as_str()),
        (403, Some("missing_role"))
    );

    let rights = Rights {
        models: Some(vec!["demo".into()]),
        origins: vec![],
        max_images: Some(2),
        limits: porthole::caller::Limits {
            requests_per_minute: Some(10),
            ..Default::default()
        },
        ..minter()
    };
    let key = guarded.key("backend", &rights).await;
    for (wish, param) in [
        (json!({"models": ["demo", "other"]}), "models"),
        (json!({"max_images": 3}), "max_images"),
        (
            json!({"limits": {"requests_per_minute": 11}}),
            "limits.requests_per_minute",
        ),
    ] {
        let (status, json) = guarded.mint(key.expose(), &wish).await;
        assert_eq!(status, 403, "{wish} {json}");
        assert_eq!(json["error"]["code"], "exceeds_rights");
        assert_eq!(json["error"]["param"], param, "{json}");
    }
    for bad in [
        json!({"roles": ["priority"]}),
        json!([]),
        json!({"minutes": "x"}),
        json!({"minutes": -1}),
    ] {
        let (status, json) = guarded.mint(key.expose(), &bad).await;
        assert_eq!(
            (status, json["error"]["type"].as_str()),
            (400, Some("invalid_request_error")),
            "{bad}"
        );
    }
    let (status, minted) = guarded.mint(key.expose(), &json!({})).await;
    assert_eq!(status, 200, "{minted}");
    assert_eq!(minted["rights"]["models"], json!(["demo"]));
    assert_eq!(minted["rights"]["limits"]["requests_per_minute"], 10);
}
