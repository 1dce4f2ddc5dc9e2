//! How a server ends, and what changes while it runs.

use std::time::{Duration, Instant};

use porthole::{config::Config, state::EngineState};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{
    fake_engine::FakeEngine,
    helpers::{TestServer, config, header, parse_stream, start, user},
};

fn draining(delay: u64, timeout: u64) -> Config {
    let mut config = config();
    config.server.drain_delay = delay;
    config.server.drain_timeout = timeout;
    config
}

fn streamed(text: &str) -> Value {
    let mut body = user(text);
    body["stream"] = true.into();
    body
}

/// Waits until nobody listens any more.
async fn refuses_connections(server: &TestServer) {
    let started = Instant::now();
    while TcpStream::connect(server.address()).await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(10), "still listens");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn wait_for_end(server: &mut TestServer) {
    server.thread.take().unwrap().join().unwrap();
}

#[tokio::test]
async fn nothing_is_broken_off_when_a_server_ends() {
    let engine = FakeEngine::new();
    let mut server = start(draining(1, 60), EngineState::Loaded(engine.clone()));
    let running = server.chat(&streamed("wait")).await;
    let whole = tokio::spawn({
        let (client, url) = (server.client.clone(), server.base.clone());
        async move {
            let chat = client.post(format!("{url}/v1/chat/completions"));
            chat.json(&user("wait")).send().await.unwrap()
        }
    });
    while engine.times_asked() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let handle = server.handle.clone();
    let ending = tokio::spawn(async move { handle.drain(None).await });
    while server.get("/ready").await.status() == 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Not ready, but it lives and serves, and sends its clients elsewhere for the next request.
    assert_eq!(server.metric("porthole_draining").await, 1.0);
    assert_eq!(server.metric("porthole_ready").await, 0.0);
    assert_eq!(server.get("/health").await.status(), 200);
    let late = server.chat(&user("late")).await;
    assert_eq!(late.status(), 200);
    assert_eq!(header(&late, "connection"), "close");

    refuses_connections(&server).await;
    assert!(!ending.is_finished());
    engine.go.send_replace(true);
    let streamed = parse_stream(&running.text().await.unwrap());
    assert_eq!(streamed.finish_reason.as_deref(), Some("stop"));
    let whole = whole.await.unwrap();
    assert_eq!(whole.status(), 200);
    let whole: Value = whole.json().await.unwrap();
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    ending.await.unwrap();
    wait_for_end(&mut server);
}

#[tokio::test]
async fn what_cannot_end_in_time_is_told_to_try_again() {
    let engine = FakeEngine::new();
    let mut server = start(draining(0, 1), EngineState::Loaded(engine.clone()));
    let running = server.chat(&streamed("hang")).await;
    let whole = tokio::spawn({
        let (client, url) = (server.client.clone(), server.base.clone());
        async move {
            let chat = client.post(format!("{url}/v1/chat/completions"));
            chat.json(&user("hang")).send().await.unwrap()
        }
    });
    while engine.times_asked() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.handle.drain(None).await;
    let text = running.text().await.unwrap();
    let last = text.trim_end().lines().last().unwrap();
    let error: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(
        error["error"],
        json!({
            "message": "The server is shutting down; please try again.",
            "type": "server_error",
            "param": null,
            "code": "shutting_down",
            "x-should-retry": true,
        })
    );
    let whole = whole.await.unwrap();
    assert_eq!(whole.status(), 503);
    assert_eq!(header(&whole, "x-should-retry"), "true");
    assert_eq!(header(&whole, "retry-after"), "1");
    assert_eq!(engine.running.load(std::sync::atomic::Ordering::SeqCst), 0);
    wait_for_end(&mut server);
}

#[tokio::test]
async fn told_twice_it_ends_at_once() {
    let engine = FakeEngine::new();
    let mut server = start(draining(3600, 3600), EngineState::Loaded(engine.clone()));
    let running = server.chat(&streamed("hang")).await;
    let handle = server.handle.clone();
    let ending = tokio::spawn(async move { handle.drain(None).await });
    while server.get("/ready").await.status() == 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.handle.drain(None).await;
    assert!(running.text().await.unwrap().contains("shutting_down"));
    ending.await.unwrap();
    wait_for_end(&mut server);
}

#[tokio::test]
async fn a_model_that_is_lost_is_told_by_health() {
    let server = start(config(), EngineState::Loading);
    server
        .engine
        .send_replace(EngineState::Failed("secret path".into()));
    let health = server.get("/health").await;
    assert_eq!(health.status(), 503);
    let text = health.text().await.unwrap();
    assert!(
        text.contains("model_lost") && !text.contains("secret"),
        "{text}"
    );
    assert_eq!(server.handle.lost().await, "demo: secret path");
    assert!(!server.handle.is_whole());
}

#[tokio::test]
async fn limits_change_while_it_runs() {
    let engine = FakeEngine::new();
    let server = start(config(), EngineState::Loaded(engine));
    assert_eq!(server.ask(&user("hi")).await.0, 200);
    let mut changed = config();
    changed.limits.default.requests_per_minute = Some(1);
    server.handle.reconfigure(&changed).unwrap();
    let first = server.ask(&user("hi")).await.0;
    let second = server.ask(&user("hi")).await.0;
    assert_eq!((first, second), (200, 429));
    server.handle.reconfigure(&config()).unwrap();
    assert_eq!(server.ask(&user("hi")).await.0, 200);
}
