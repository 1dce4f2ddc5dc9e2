//! Limits and fair admission, as clients meet them.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use porthole::{
    caller::{Limits, Rights, Role},
    config::ModelLimits,
};
use serde_json::{Value, json};

use super::{
    auth::{Guarded, guarded, guarded_with},
    helpers::{about, data_url, png, user},
};

fn with(limits: Limits) -> Rights {
    Rights {
        limits,
        ..Rights::default()
    }
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
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

/// A server whose engine computes one sequence at a time.
fn narrow() -> Guarded {
    let guarded = guarded_with(|config| {
        config.limits.max_queue_length = 40;
        config.server.max_concurrent_requests = 1_000;
    });
    guarded.engine.width.store(1, Ordering::SeqCst);
    guarded
}

async fn hold(guarded: &Guarded, key: &str) -> reqwest::Response {
    let mut hang = user("hang");
    hang["stream"] = json!(true);
    let response = guarded.chat(key, &hang).await;
    assert_eq!(response.status(), 200);
    response
}

#[tokio::test]
async fn a_caller_who_floods_the_queue_does_not_keep_others_out() {
    let guarded = narrow();
    let hog = guarded.key("hog", &Rights::default()).await;
    let guest = guarded.key("guest", &Rights::default()).await;
    let held = [
        hold(&guarded, hog.expose()).await,
        hold(&guarded, hog.expose()).await,
    ];
    let ask = |key: &str, text: &str| {
        let url = format!("{}/v1/chat/completions", guarded.server.base);
        let request = guarded
            .server
            .client
            .post(url)
            .bearer_auth(key)
            .json(&user(text));
        tokio::spawn(async move { request.send().await.unwrap() })
    };
    let flood: Vec<_> = (0..60).map(|_| ask(hog.expose(), "flood")).collect();
    // It may take half of the queue, and is told at once to come again for the rest.
    guarded
        .server
        .metric_becomes("porthole_requests_waiting", 20.0)
        .await;
    let late = ask(guest.expose(), "guest");
    guarded
        .server
        .metric_becomes("porthole_requests_waiting", 21.0)
        .await;
    drop(held);
    let mut refused = 0;
    for response in flood {
        let response = response.await.unwrap();
        match response.status().as_u16() {
            200 => {}
            503 => {
                refused += 1;
                assert!(header(&response, "retry-after").parse::<u64>().unwrap() >= 1);
            }
            other => panic!("status {other}"),
        }
    }
    assert_eq!(refused, 40);
    assert_eq!(late.await.unwrap().status(), 200);
    let asked = guarded.engine.asked.lock().unwrap();
    let texts: Vec<String> = asked
        .iter()
        .map(|asked| format!("{:?}", asked.turns))
        .collect();
    let at = texts
        .iter()
        .position(|text| text.contains("guest"))
        .unwrap();
    assert!(at <= 3, "the guest came as number {at}, behind the flood");
}

#[tokio::test]
async fn a_key_is_one_caller_however_many_tokens_it_mints() {
    let guarded = narrow();
    let rights = Rights {
        roles: vec![Role::MintTokens],
        ..Rights::default()
    };
    let key = guarded.key("minter", &rights).await;
    let guest = guarded.key("guest", &Rights::default()).await;
    let _held = [
        hold(&guarded, guest.expose()).await,
        hold(&guarded, guest.expose()).await,
    ];
    let mut flood = Vec::new();
    for _ in 0..30 {
        let (_, minted) = guarded.mint(key.expose(), &json!({})).await;
        let token = minted["token"].as_str().unwrap().to_string();
        let url = format!("{}/v1/chat/completions", guarded.server.base);
        let request = guarded.server.client.post(url).bearer_auth(token);
        flood.push(tokio::spawn(request.json(&user("flood")).send()));
    }
    // Half of the queue, as for any caller alone, and not all of it a token at a time.
    let mut refused = 0;
    while refused < 10 {
        let (done, _, rest) = futures::future::select_all(flood).await;
        assert_eq!(done.unwrap().unwrap().status(), 503);
        refused += 1;
        flood = rest;
    }
    assert_eq!(
        guarded.server.metric("porthole_requests_waiting").await,
        20.0
    );
}

#[tokio::test]
async fn priority_is_for_those_whose_key_allows_it() {
    let guarded = narrow();
    let rights = Rights {
        roles: vec![Role::Priority],
        ..Rights::default()
    };
    let (vip, plain) = (
        guarded.key("vip", &rights).await,
        guarded.key("plain", &Rights::default()).await,
    );
    let mut body = user("hello");
    for (key, tier, served) in [
        (&vip, "priority", "priority"),
        (&plain, "priority", "default"),
        (&plain, "auto", "default"),
        (&plain, "flex", "flex"),
    ] {
        body["service_tier"] = json!(tier);
        let json: Value = guarded
            .chat(key.expose(), &body)
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(json["service_tier"], served);
    }
    body["service_tier"] = json!("golden");
    assert_eq!(guarded.chat(vip.expose(), &body).await.status(), 400);

    let [one, _other] = [
        hold(&guarded, plain.expose()).await,
        hold(&guarded, plain.expose()).await,
    ];
    let ask = |key: &str, text: &str, tier: &str| {
        let mut body = user(text);
        body["service_tier"] = json!(tier);
        let url = format!("{}/v1/chat/completions", guarded.server.base);
        let request = guarded.server.client.post(url).bearer_auth(key).json(&body);
        tokio::spawn(async move { request.send().await.unwrap().status() })
    };
    let mut waiting = vec![ask(plain.expose(), "flexible", "flex")];
    guarded
        .server
        .metric_becomes("porthole_requests_waiting", 1.0)
        .await;
    waiting.push(ask(plain.expose(), "ordinary", "default"));
    guarded
        .server
        .metric_becomes("porthole_requests_waiting", 2.0)
        .await;
    waiting.push(ask(vip.expose(), "urgent", "priority"));
    guarded
        .server
        .metric_becomes("porthole_requests_waiting", 3.0)
        .await;
    // One slot, so that one after the other goes in.
    drop(one);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), 200);
    }
    let asked = guarded.engine.asked.lock().unwrap();
    let order: Vec<&str> = asked
        .iter()
        .filter_map(|asked| {
            let text = format!("{:?}", asked.turns);
            ["flexible", "ordinary", "urgent"]
                .into_iter()
                .find(|word| text.contains(word))
        })
        .collect();
    assert_eq!(order, ["urgent", "ordinary", "flexible"]);
}
