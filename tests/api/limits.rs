//! Limits, as clients meet them.

use std::time::{Duration, Instant};

use porthole::{
    caller::{Limits, Rights},
    config::ModelLimits,
};
use serde_json::{Value, json};

use super::{
    auth::{guarded, guarded_with},
    helpers::{about, data_url, header, png, user},
};

fn with(limits: Limits) -> Rights {
    Rights {
        limits,
        ..Rights::default()
    }
}

#[tokio::test]
async fn requests_a_minute_are_counted_and_told_on_every_answer() {
    let guarded = guarded();
    let key = guarded
        .keys
        .create(
            "k",
            None,
            &with(Limits {
                requests_per_minute: Some(3),
                ..Limits::default()
            }),
        )
        .unwrap();
    tokio::time::sleep(Duration::from_millis(900)).await;
    let mut remaining = Vec::new();
    for body in [
        user("hello"),
        json!({"model": "demo"}),
        json!({"nonsense": 1}),
    ] {
        let response = guarded.chat(key.expose(), &body).await;
        assert_eq!(header(&response, "x-ratelimit-limit-requests"), "3");
        assert!(!header(&response, "x-ratelimit-reset-requests").is_empty());
        remaining.push(header(&response, "x-ratelimit-remaining-requests").to_string());
    }
    assert_eq!(remaining, ["2", "1", "0"], "bad requests count too");
    let response = guarded.chat(key.expose(), &user("hello")).await;
    assert_eq!(response.status(), 429);
    assert_eq!(header(&response, "x-ratelimit-remaining-requests"), "0");
    let seconds: u64 = header(&response, "retry-after").parse().unwrap();
    let millis: u64 = header(&response, "retry-after-ms").parse().unwrap();
    assert!((15..=20).contains(&seconds), "{seconds}");
    assert!(millis <= seconds * 1000 && millis > (seconds - 1) * 1000);
    let json: Value = response.json().await.unwrap();
    assert_eq!(json["error"]["code"], "rate_limit_exceeded");
    assert_eq!(guarded.engine.times_asked(), 1);
}

#[tokio::test]
async fn tokens_are_charged_before_the_engine_runs_and_settled_after() {
    let guarded = guarded();
    let key = guarded
        .key(
            "k",
            &with(Limits {
                tokens_per_minute: Some(1_000),
                ..Limits::default()
            }),
        )
        .await;
    // The prompt has 10 tokens; 490 are reserved for the answer, of which it takes 3.
    let mut body = user("say hi");
    body["max_completion_tokens"] = json!(490);
    for _ in 0..5 {
        let response = guarded.chat(key.expose(), &body).await;
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap();
    }
    let response = guarded.get(key.expose(), "/v1/models").await;
    let left: u64 = header(&response, "x-ratelimit-remaining-tokens")
        .parse()
        .unwrap();
    assert!((935..=960).contains(&left), "{left} of 1000 - 5 * 13");

    // Two that hang hold a reservation each; a third does not fit.
    let mut hang = user("hang");
    hang["max_completion_tokens"] = json!(400);
    hang["stream"] = json!(true);
    let held = [
        guarded.chat(key.expose(), &hang).await,
        guarded.chat(key.expose(), &hang).await,
    ];
    let refused = guarded.chat(key.expose(), &hang).await;
    assert_eq!(refused.status(), 429);
    assert!(!header(&refused, "retry-after").is_empty());
    drop(held);
    // Cancelled: what was not generated comes back.
    let started = Instant::now();
    while guarded.chat(key.expose(), &body).await.status() != 200 {
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "the reservation never came back"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // More than the whole limit: waiting cannot help.
    body["max_completion_tokens"] = json!(991);
    let response = guarded.chat(key.expose(), &body).await;
    assert_eq!(response.status(), 429);
    assert_eq!(header(&response, "x-should-retry"), "false");
    assert_eq!(header(&response, "retry-after"), "");
}

#[tokio::test]
async fn an_image_costs_its_pixels_not_its_base64() {
    let guarded = guarded();
    let limits = Limits {
        tokens_per_minute: Some(3_000),
        image_pixels_per_minute: Some(300_000),
        ..Limits::default()
    };
    let key = guarded.key("k", &with(limits)).await;
    // 262,144 pixels; as text the base64 would be thousands of tokens.
    let noise = data_url(&noisy_png(512));
    assert!(noise.len() > 500_000);
    assert_eq!(
        guarded
            .chat(key.expose(), &about(&noise, "x"))
            .await
            .status(),
        200
    );
    let response = guarded.chat(key.expose(), &about(&noise, "x")).await;
    assert_eq!(response.status(), 429);
    let json: Value = response.json().await.unwrap();
    assert!(
        json["error"]["message"]
            .as_str()
            .unwrap()
            .contains("image pixels"),
        "{json}"
    );
    assert_eq!(
        guarded.engine.times_asked(),
        1,
        "no pixel was decoded for nothing"
    );
    assert_eq!(
        guarded
            .chat(key.expose(), &about(&data_url(&png(64, 64, [1; 3])), "x"))
            .await
            .status(),
        200
    );
}

fn noisy_png(side: u32) -> Vec<u8> {
    let mut state = 1_u32;
    let image = image::RgbImage::from_fn(side, side, |_, _| {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        image::Rgb([next(), next(), next()])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[tokio::test]
async fn concurrent_requests_are_bounded_and_places_come_back() {
    let guarded = guarded();
    let key = guarded
        .key(
            "k",
            &with(Limits {
                concurrent_requests: Some(2),
                ..Limits::default()
            }),
        )
        .await;
    let mut hang = user("hang");
    hang["stream"] = json!(true);
    let held = [
        guarded.chat(key.expose(), &hang).await,
        guarded.chat(key.expose(), &hang).await,
    ];
    let refused = guarded.chat(key.expose(), &user("hello")).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(header(&refused, "retry-after"), "1");
    drop(held);
    let started = Instant::now();
    while guarded.chat(key.expose(), &user("hello")).await.status() != 200 {
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "the places never came back"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_used_up_quota_is_not_retried() {
    let guarded = guarded();
    let key = guarded
        .key(
            "k",
            &with(Limits {
                tokens_per_month: Some(30),
                ..Limits::default()
            }),
        )
        .await;
    let mut body = user("say hi");
    body["max_completion_tokens"] = json!(5);
    assert_eq!(guarded.chat(key.expose(), &body).await.status(), 200);
    assert_eq!(guarded.chat(key.expose(), &body).await.status(), 200);
    let response = guarded.chat(key.expose(), &body).await;
    assert_eq!(response.status(), 429);
    assert_eq!(header(&response, "x-should-retry"), "false");
    let json: Value = response.json().await.unwrap();
    assert_eq!(
        (
            json["error"]["code"].as_str(),
            json["error"]["type"].as_str()
        ),
        (Some("insufficient_quota"), Some("insufficient_quota"))
    );
}

#[tokio::test]
async fn the_configuration_limits_those_whose_key_says_nothing() {
    let guarded = guarded_with(|config| {
        config.limits.models = vec![ModelLimits {
            model: "demo".into(),
            limits: Limits {
                tokens_per_minute: Some(40),
                ..Limits::default()
            },
        }];
    });
    let (a, b) = (
        guarded.key("a", &Rights::default()).await,
        guarded.key("b", &Rights::default()).await,
    );
    let mut body = user("say hi");
    body["max_completion_tokens"] = json!(29);
    assert_eq!(guarded.chat(a.expose(), &body).await.status(), 200);
    let response = guarded.chat(a.expose(), &body).await;
    assert_eq!(response.status(), 429);
    let json: Value = response.json().await.unwrap();
    assert!(
        json["error"]["message"]
            .as_str()
            .unwrap()
            .contains("on demo"),
        "{json}"
    );
    assert_eq!(
        guarded.chat(b.expose(), &body).await.status(),
        200,
        "each caller has its own"
    );
}
