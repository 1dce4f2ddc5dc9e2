//! A model loaded twice: answers stay right, both are used, and the death of one is not the other's.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use porthole::config::ModelConfig;

use super::{cases, server_with};

fn twice() -> ModelConfig {
    ModelConfig {
        replicas: 2,
        ..ModelConfig::default()
    }
}

async fn becomes(server: &super::TestServer, metric: &str, wanted: f64) {
    let started = Instant::now();
    while server.metric(metric).await != wanted {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{metric} does not become {wanted}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_answer_as_one_does_and_both_work() {
    let (server, _engine) = server_with(twice()).await;
    let server = Arc::new(server);
    assert_eq!(
        server
            .metric("porthole_request_capacity{model=\"demo\"}")
            .await,
        2.0
    );
    let asked: Vec<_> = cases()
        .into_iter()
        // A call is told in other words than the reference has.
        .filter(|case| !case.answer.contains("<tool_call>"))
        .map(|case| {
            let server = server.clone();
            tokio::spawn(async move {
                let (status, json) = server.ask(&case.body).await;
                let answer = json["choices"][0]["message"]["content"].clone();
                (status, case.id, answer == case.answer)
            })
        })
        .collect();
    becomes(&server, "porthole_requests_running{model=\"demo\"}", 2.0).await;
    for asked in asked {
        let (status, id, right) = asked.await.unwrap();
        assert!(status == 200 && right, "case {id}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_replica_dies_the_other_serves() {
    let (server, engine) = server_with(twice()).await;
    let up = "porthole_replicas_up{model=\"demo\"}";
    let case = cases()
        .into_iter()
        .max_by_key(|case| case.completion_tokens)
        .unwrap();
    becomes(&server, up, 2.0).await;
    engine.panic_at_next_token();
    // The first replica has nothing to do and is asked first.
    let (status, _) = server.ask(&case.body).await;
    assert_eq!(status, 500);
    let started = Instant::now();
    let mut served = 0;
    loop {
        assert_eq!(server.get("/ready").await.status(), 200);
        let (status, json) = server.ask(&case.body).await;
        assert_eq!(status, 200, "{json}");
        assert_eq!(json["choices"][0]["message"]["content"], case.answer);
        served += 1;
        if server.metric(up).await == 2.0 && served > 1 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(
        server
            .metric("porthole_engine_restarts_total{model=\"demo\"}")
            .await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_too_often_is_lost() {
    let model = ModelConfig {
        max_restarts: 0,
        ..ModelConfig::default()
    };
    let (server, engine) = server_with(model).await;
    let case = cases().remove(0);
    assert_eq!(server.get("/health").await.status(), 200);
    engine.panic_at_next_token();
    assert_eq!(server.ask(&case.body).await.0, 500);
    let reason = server.handle.lost().await;
    assert_eq!(reason, "demo: the engine's thread died");
    assert_eq!(server.get("/health").await.status(), 503);
    assert_eq!(server.ask(&case.body).await.0, 503);
}
