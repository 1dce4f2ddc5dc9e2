//! Fair admission, as clients meet it.

use std::{sync::atomic::Ordering, time::Duration};

use porthole::caller::{Rights, Role};
use serde_json::{Value, json};

use super::{
    auth::{Guarded, guarded_with},
    helpers::{header, user},
};

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
        .metric_becomes("porthole_requests_waiting{model=\"demo\"}", 20.0)
        .await;
    let late = ask(guest.expose(), "guest");
    guarded
        .server
        .metric_becomes("porthole_requests_waiting{model=\"demo\"}", 21.0)
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
        let next = futures::future::select_all(flood);
        let next = tokio::time::timeout(Duration::from_secs(10), next).await;
        let (done, _, rest) = next.expect("all of the flood waits");
        assert_eq!(done.unwrap().unwrap().status(), 503);
        refused += 1;
        flood = rest;
    }
    assert_eq!(
        guarded
            .server
            .metric("porthole_requests_waiting{model=\"demo\"}")
            .await,
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
        .metric_becomes("porthole_requests_waiting{model=\"demo\"}", 1.0)
        .await;
    waiting.push(ask(plain.expose(), "ordinary", "default"));
    guarded
        .server
        .metric_becomes("porthole_requests_waiting{model=\"demo\"}", 2.0)
        .await;
    waiting.push(ask(vip.expose(), "urgent", "priority"));
    guarded
        .server
        .metric_becomes("porthole_requests_waiting{model=\"demo\"}", 3.0)
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
