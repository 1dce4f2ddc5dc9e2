//! Bodies that are wrong, each with its status, code and the field at fault; the engine is never
//! asked.

mod bodies;
mod extremes;
mod forms;
mod messages;
mod parts;
mod sampling;
mod tools;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    fake_engine::{FakeEngine, fake_server},
    helpers::{config, start},
    responses::Fault,
};
use porthole::{openai::json::Json, state::EngineState};

/// A wrong body, and what becomes of it.
struct Case {
    status: u16,
    code: &'static str,
    param: Option<&'static str>,
    body: String,
}

/// Code, field at fault, and the piece of JSON that is wrong. Short names keep the tables readable.
type Row = (&'static str, &'static str, &'static str);

const TYPE: &str = "invalid_type";
const VALUE: &str = "invalid_value";
const MISSING: &str = "missing_required_parameter";
const UNKNOWN: &str = "unknown_parameter";
const UNSUPPORTED: &str = "unsupported_parameter";
const UNSUPPORTED_VALUE: &str = "unsupported_value";

impl Case {
    fn of(row: &Row, body: String) -> Self {
        Self {
            status: 400,
            code: row.0,
            param: Some(row.1),
            body,
        }
    }

    /// A good request with one more field, which is the row's.
    fn field(row: &Row) -> Self {
        let messages = r#"[{"role":"user","content":"hi"}]"#;
        Self::of(
            row,
            format!(r#"{{"model":"demo","messages":{messages},{}}}"#, row.2),
        )
    }

    /// A request with the row's messages.
    fn messages(row: &Row) -> Self {
        Self::of(row, format!(r#"{{"model":"demo","messages":{}}}"#, row.2))
    }

    /// A request with the row's message alone.
    fn message(row: &Row) -> Self {
        Self::of(row, format!(r#"{{"model":"demo","messages":[{}]}}"#, row.2))
    }

    /// A request of a user's message with the row's part alone.
    fn part(row: &Row) -> Self {
        let message = format!(r#"{{"role":"user","content":[{}]}}"#, row.2);
        Self::of(row, format!(r#"{{"model":"demo","messages":[{message}]}}"#))
    }
}

fn cases() -> Vec<Case> {
    let mut cases = bodies::cases();
    cases.extend(bodies::FIELDS.iter().map(Case::field));
    cases.extend(sampling::FIELDS.iter().map(Case::field));
    cases.extend(forms::FIELDS.iter().map(Case::field));
    cases.extend(tools::FIELDS.iter().map(Case::field));
    cases.extend(messages::WHOLE.iter().map(Case::messages));
    cases.extend(messages::SINGLE.iter().map(Case::message));
    cases.extend(parts::PARTS.iter().map(Case::part));
    cases.extend(parts::images());
    cases.extend(extremes::cases());
    cases
}

/// Those of the wrong bodies that are JSON at all.
pub fn wrong_bodies() -> Vec<(Fault, Value)> {
    let json = |case: Case| {
        let fault = (case.status, case.code, case.param);
        // As the server reads it: a key that stands twice is no JSON.
        serde_json::from_str::<Json<'_>>(&case.body).ok()?;
        Some((fault, serde_json::from_str(&case.body).ok()?))
    };
    cases().into_iter().filter_map(json).collect()
}

#[tokio::test]
async fn each_wrong_body_gets_its_own_error_and_the_engine_is_not_asked() {
    let (server, engine) = fake_server();
    let cases = cases();
    let count = cases.len();
    assert!(count >= 300, "only {count} cases");
    let mut slowest = Duration::ZERO;
    for case in cases {
        let shown: String = case.body.chars().take(300).collect();
        let started = Instant::now();
        let request = server
            .client
            .post(format!("{}/v1/chat/completions", server.base))
            .header("content-type", "application/json");
        let response = request.body(case.body).send().await.unwrap();
        let status = response.status().as_u16();
        let json: Value = response.json().await.unwrap();
        slowest = slowest.max(started.elapsed());
        let error = &json["error"];
        assert_eq!(
            (status, error["code"].as_str(), error["param"].as_str()),
            (case.status, Some(case.code), case.param),
            "{shown}: {json}"
        );
        assert_eq!(error["type"], "invalid_request_error", "{shown}");
        let message = error["message"].as_str().unwrap();
        assert!((1..1_000).contains(&message.len()), "{shown}: {message}");
    }
    println!("the slowest of {count} took {slowest:?}");
    assert_eq!(engine.prepared.load(Ordering::SeqCst), 0);
    assert_eq!(engine.times_asked(), 0);
}

#[tokio::test]
async fn bodies_that_are_too_large_too_slow_or_not_json_are_refused() {
    let mut config = config();
    config.server.max_body_bytes = 10_000;
    config.server.body_timeout = 1;
    let engine = FakeEngine::new();
    let server = start(config, EngineState::Loaded(engine.clone()));
    let url = format!("{}/v1/chat/completions", server.base);
    let post = || {
        server
            .client
            .post(&url)
            .header("content-type", "application/json")
    };

    let response = post().body("x".repeat(10_001)).send().await.unwrap();
    assert_eq!(response.status(), 413);
    let chunks = futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(1000))));
    let response = post()
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 413, "without a Content-Length");
    let never = futures::stream::pending::<Result<String, std::io::Error>>();
    let response = post()
        .body(reqwest::Body::wrap_stream(never))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 408);
    let response = server
        .client
        .post(&url)
        .header("content-type", "text/plain")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 415);
    assert_eq!(engine.times_asked(), 0);
}
