//! The engine dies in the middle: clients are told, and it comes back by itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{cases, helpers::parse_stream, server, streamed};

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_panics_is_told_and_comes_back() {
    let (server, engine) = server().await;
    let server = Arc::new(server);
    let story = cases()
        .into_iter()
        .max_by_key(|case| case.completion_tokens)
        .unwrap();
    for cycle in 1..=3 {
        engine.panic_at_next_token();
        let asked: Vec<_> = (0..6)
            .map(|i| {
                let (server, story) = (server.clone(), story.clone());
                tokio::spawn(async move {
                    if i % 2 == 0 {
                        let (status, json) = server.ask(&story.body).await;
                        (
                            status,
                            json["choices"][0]["message"]["content"] == story.answer,
                        )
                    } else {
                        let response = server.chat(&streamed(&story.body)).await;
                        let status = response.status().as_u16();
                        let text = response.text().await.unwrap();
                        (
                            status,
                            status == 200 && parse_stream(&text).text == story.answer,
                        )
                    }
                })
            })
            .collect();
        // Readiness falls ...
        let started = Instant::now();
        let mut fell = false;
        while !fell && started.elapsed() < Duration::from_secs(10) {
            fell = server.get("/ready").await.status() == 503;
        }
        assert!(fell, "/ready never fell");
        // ... one request is lost, and the others are answered right or told to come again.
        let mut lost = 0;
        for asked in asked {
            let (status, right) = tokio::time::timeout(Duration::from_secs(60), asked)
                .await
                .unwrap()
                .unwrap();
            match status {
                200 => assert!(right, "a wrong answer"),
                500 => lost += 1,
                503 => {}
                other => panic!("status {other}"),
            }
        }
        assert_eq!(lost, 1);
        // ... and comes back.
        let started = Instant::now();
        while server.get("/ready").await.status() != 200 {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "/ready did not come back"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (status, json) = server.ask(&story.body).await;
        assert_eq!(status, 200, "{json}");
        assert_eq!(json["choices"][0]["message"]["content"], story.answer);
        assert_eq!(
            server
                .metric("porthole_engine_restarts_total{model=\"demo\"}")
                .await,
            f64::from(cycle)
        );
    }
}

#[tokio::test]
async fn a_panic_in_the_middle_of_a_stream_is_an_error_event() {
    let (server, engine) = server().await;
    let story = cases()
        .into_iter()
        .max_by_key(|case| case.completion_tokens)
        .unwrap();
    let mut response = server.chat(&streamed(&story.body)).await;
    let mut text = String::new();
    while let Some(bytes) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        if text.matches("data:").count() == 5 {
            engine.panic_at_next_token();
        }
    }
    let error = parse_stream(&text)
        .error
        .expect("the stream has no error event");
    assert_eq!(error["type"], "server_error");
    assert_eq!(error["code"], "engine_failed");
    assert!(!text.contains("[DONE]"));
    assert!(
        !error["message"].as_str().unwrap().contains("panic"),
        "the inside is told: {error}"
    );
}
