//! Answers equal those of transformers, whatever else is running.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all};
use porthole::config::ModelConfig;
use serde_json::json;

use super::{
    Case, TestServer, cases, helpers::parse_stream, message_of, server, server_with, streamed,
    words,
};

async fn answer(server: &TestServer, case: &Case, stream: bool) -> String {
    if stream {
        let response = server.chat(&streamed(&case.body)).await;
        assert_eq!(response.status(), 200);
        let streamed = parse_stream(&response.text().await.unwrap());
        assert!(
            streamed.error.is_none(),
            "case {}: {:?}",
            case.id,
            streamed.error
        );
        words(&message_of(&streamed.chunks))
    } else {
        let (status, json) = server.ask(&case.body).await;
        assert_eq!(status, 200, "case {}: {json}", case.id);
        words(&json["choices"][0]["message"])
    }
}

#[tokio::test]
async fn every_reference_case_is_answered_as_transformers_does() {
    let (server, _engine) = server().await;
    let cases = cases();
    assert_eq!(cases.len(), 30);
    for case in &cases {
        let (status, json) = server.ask(&case.body).await;
        assert_eq!(status, 200, "case {}: {json}", case.id);
        assert_eq!(
            words(&json["choices"][0]["message"]),
            case.answer,
            "case {}",
            case.id
        );
        let called = case.answer.starts_with("<tool_call>");
        let reason = if called { "tool_calls" } else { "stop" };
        assert_eq!(json["choices"][0]["finish_reason"], reason);
        let expected = json!({
            "prompt_tokens": case.prompt_tokens,
            "completion_tokens": case.completion_tokens,
            "total_tokens": case.prompt_tokens + case.completion_tokens,
            "image_tokens": case.image_tokens,
        });
        let usage = &json["usage"];
        let got = json!({
            "prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
            "image_tokens": usage["prompt_tokens_details"]["image_tokens"],
        });
        assert_eq!(got, expected, "case {}", case.id);

        let response = server.chat(&streamed(&case.body)).await;
        let stream = parse_stream(&response.text().await.unwrap());
        let message = message_of(&stream.chunks);
        assert_eq!(words(&message), case.answer, "case {} streamed", case.id);
        assert_eq!(stream.usage.unwrap(), *usage, "case {} streamed", case.id);
    }
}

/// A small deterministic random source.
fn random(seed: &mut u64, below: u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

/// Sends `requests` of the cases at once, plain and streamed mixed, and beside them a third as many
/// that leave at a random moment; every answer must be the one given alone.
async fn round(server: &Arc<TestServer>, cases: &[Case], requests: usize, seed: &mut u64) {
    let mut asked = Vec::new();
    for i in 0..requests {
        if i % 3 == 0 {
            let (server, case) = (
                server.clone(),
                cases[random(seed, cases.len() as u64) as usize].clone(),
            );
            let patience = Duration::from_millis(random(seed, 1500));
            let stream = random(seed, 2) == 0;
            asked.push(tokio::spawn(async move {
                let _ = tokio::time::timeout(patience, answer(&server, &case, stream)).await;
            }));
        }
        let (server, case) = (server.clone(), cases[i % cases.len()].clone());
        asked.push(tokio::spawn(async move {
            let got = answer(&server, &case, i % 2 == 0).await;
            assert_eq!(got, case.answer, "case {}", case.id);
        }));
    }
    for done in join_all(asked).await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_whatever_else_is_running() {
    let (server, _engine) = server().await;
    let server = Arc::new(server);
    let cases = cases();
    let mut seed = 8;
    for _ in 0..10 {
        round(&server, &cases, cases.len(), &mut seed).await;
    }
    round(&server, &cases, 200, &mut seed).await;
    server
        .metric_becomes("porthole_requests_running{model=\"demo\"}", 0.0)
        .await;
    server
        .metric_becomes("porthole_requests_waiting{model=\"demo\"}", 0.0)
        .await;
    assert_eq!(
        server
            .metric("porthole_engine_restarts_total{model=\"demo\"}")
            .await,
        0.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_wider_than_proven_is_not_opened() {
    // The CPU kernel mixes the rows of a batch, so the check at load must fail.
    let (server, _engine) = server_with(ModelConfig {
        max_batch_size: 4,
        ..ModelConfig::default()
    })
    .await;
    assert_eq!(
        server
            .metric("porthole_engine_lane_width{model=\"demo\"}")
            .await,
        1.0
    );
    let server = Arc::new(server);
    round(&server, &cases(), 12, &mut 3).await;
}

#[tokio::test]
async fn stop_sequences_end_the_answer_and_are_not_shown() {
    let (server, _engine) = server().await;
    let case = cases()
        .into_iter()
        .find(|case| case.answer == "It is a square.")
        .unwrap();
    for stop in ["square", " a sq", "It is a square.", "uare"] {
        let mut body = case.body.clone();
        body["stop"] = json!([stop, "never"]);
        let expected = case.answer.split(stop).next().unwrap();
        let (_, json) = server.ask(&body).await;
        assert_eq!(json["choices"][0]["message"]["content"], expected, "{stop}");
        let called = case.answer.starts_with("<tool_call>");
        let reason = if called { "tool_calls" } else { "stop" };
        assert_eq!(json["choices"][0]["finish_reason"], reason);
        let text = server.chat(&streamed(&body)).await.text().await.unwrap();
        assert_eq!(parse_stream(&text).text, expected, "{stop} streamed");
    }
    assert_eq!(answer(&server, &case, false).await, case.answer);
}

#[tokio::test]
async fn an_answer_cut_inside_a_character_ends_with_length_and_the_true_count() {
    let (server, _engine) = server().await;
    let case = cases().into_iter().find(|case| case.id == 28).unwrap();
    for max in 1..20 {
        let mut body = case.body.clone();
        body["max_completion_tokens"] = json!(max);
        let (status, json) = server.ask(&body).await;
        assert_eq!(status, 200, "{json}");
        assert_eq!(json["choices"][0]["finish_reason"], "length", "{max}");
        assert_eq!(json["usage"]["completion_tokens"], max);
        let text = json["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(case.answer.starts_with(text), "{text:?}");
    }
}

#[tokio::test]
async fn leaving_a_stream_ends_its_generation() {
    let (server, _engine) = server().await;
    let story = cases()
        .into_iter()
        .max_by_key(|case| case.completion_tokens)
        .unwrap();
    for plain in [false, true] {
        let before = server
            .metric("porthole_generation_tokens_total{model=\"demo\"}")
            .await;
        if plain {
            let asked =
                tokio::time::timeout(Duration::from_millis(60), server.chat(&story.body)).await;
            assert!(
                asked.is_err(),
                "the answer came before the client could leave"
            );
        } else {
            let mut stream = server.chat(&streamed(&story.body)).await.bytes_stream();
            for _ in 0..3 {
                stream.next().await.unwrap().unwrap();
            }
        }
        server
            .metric_becomes("porthole_requests_running{model=\"demo\"}", 0.0)
            .await;
        let generated = server
            .metric("porthole_generation_tokens_total{model=\"demo\"}")
            .await
            - before;
        assert!(
            generated < story.completion_tokens as f64 / 2.0,
            "plain {plain}: {generated} tokens"
        );
    }
}
