//! What `/metrics` tells after requests whose course is known.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use porthole::{caller::Rights, engine::Health, state::EngineState};
use serde_json::{Value, json};

use super::{
    auth::guarded,
    fake_engine::{FakeEngine, fake_server},
    helpers::{TestServer, about, config, data_url, png, start, user},
};

fn streamed(text: &str) -> Value {
    let mut body = user(text);
    body["stream"] = json!(true);
    body
}

impl TestServer {
    async fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.admin);
        let response = self.client.get(url).send().await.unwrap();
        response.text().await.unwrap()
    }

    async fn finished(&self, reason: &str) -> f64 {
        let name =
            format!("porthole_requests_finished_total{{model=\"demo\",reason=\"{reason}\"}}");
        self.metric(&name).await
    }
}

#[tokio::test]
async fn a_request_is_measured_from_its_arrival_to_its_end() {
    let (server, _engine) = fake_server();
    let (status, _) = server.ask(&user("one two three")).await;
    assert_eq!(status, 200);
    server
        .chat(&streamed("four five"))
        .await
        .text()
        .await
        .unwrap();
    for (name, expected) in [
        (
            "porthole_time_to_first_token_seconds_count{model=\"demo\"}",
            2.0,
        ),
        // Two gaps between three words, one between two.
        (
            "porthole_inter_token_latency_seconds_count{model=\"demo\"}",
            3.0,
        ),
        (
            "porthole_request_duration_seconds_count{model=\"demo\"}",
            2.0,
        ),
        (
            "porthole_request_queue_time_seconds_count{model=\"demo\"}",
            2.0,
        ),
        ("porthole_request_prompt_tokens_count{model=\"demo\"}", 2.0),
        ("porthole_request_prompt_tokens_sum{model=\"demo\"}", 20.0),
        // The words, and the token that ends each answer.
        (
            "porthole_request_generation_tokens_sum{model=\"demo\"}",
            7.0,
        ),
        ("porthole_prompt_tokens_total{model=\"demo\"}", 20.0),
        ("porthole_generation_tokens_total{model=\"demo\"}", 7.0),
        (
            "porthole_key_tokens_total{key=\"token\",kind=\"prompt\"}",
            20.0,
        ),
        (
            "porthole_key_tokens_total{key=\"token\",kind=\"generation\"}",
            7.0,
        ),
        (
            "porthole_http_request_duration_seconds_count{route=\"/v1/chat/completions\"}",
            2.0,
        ),
        ("porthole_requests_running{model=\"demo\"}", 0.0),
        ("porthole_requests_waiting{model=\"demo\"}", 0.0),
    ] {
        server.metric_becomes(name, expected).await;
    }
    assert_eq!(server.finished("stop").await, 2.0);
    assert_eq!(server.finished("cancelled").await, 0.0);
}

#[tokio::test]
async fn times_are_those_that_pass() {
    let (server, engine) = fake_server();
    engine.width.store(1, Ordering::SeqCst);
    // Two hold the two places, so that the third waits.
    let held = [
        server.chat(&streamed("hang")).await,
        server.chat(&streamed("hang")).await,
    ];
    let waits = tokio::spawn({
        let client = server.client.clone();
        let url = format!("{}/v1/chat/completions", server.base);
        async move { client.post(url).json(&user("late")).send().await.unwrap() }
    });
    let waiting = "porthole_requests_waiting{model=\"demo\"}";
    server.metric_becomes(waiting, 1.0).await;
    assert_eq!(
        server
            .metric("porthole_requests_running{model=\"demo\"}")
            .await,
        2.0
    );
    assert_eq!(
        server
            .metric("porthole_request_capacity{model=\"demo\"}")
            .await,
        1.0
    );
    assert_eq!(
        server.metric("porthole_load_ratio{model=\"demo\"}").await,
        3.0
    );
    assert_eq!(
        server
            .metric("vllm:num_requests_running{model_name=\"demo\"}")
            .await,
        2.0
    );
    assert_eq!(
        server
            .metric("vllm:num_requests_waiting{model_name=\"demo\"}")
            .await,
        1.0
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(held);
    assert_eq!(waits.await.unwrap().status(), 200);
    for name in [
        "request_queue_time",
        "time_to_first_token",
        "request_duration",
    ] {
        let sum = format!("porthole_{name}_seconds_sum{{model=\"demo\"}}");
        let sum = server.metric(&sum).await;
        assert!((0.3..5.0).contains(&sum), "{name} {sum}");
    }
    server
        .metric_becomes("porthole_load_ratio{model=\"demo\"}", 0.0)
        .await;
    assert_eq!(server.finished("cancelled").await, 2.0);
}

#[tokio::test]
async fn every_end_has_its_reason() {
    let (server, _engine) = fake_server();
    let script = |reason: &str| {
        let events = json!([{"text": "a"}, {"finished": {"reason": reason, "completion": 1}}]);
        user(&format!("events:{events}"))
    };
    let (status, _) = server.ask(&script("length")).await;
    assert_eq!(status, 200);
    let call = json!([
        {"call": {"index": 0, "id": "call_1", "name": "f"}},
        {"arguments": {"index": 0, "text": "{}"}},
        {"finished": {"reason": "tool_calls", "completion": 3}},
    ]);
    let mut with_tool = user(&format!("events:{call}"));
    with_tool["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    let (status, _) = server.ask(&with_tool).await;
    assert_eq!(status, 200);
    server.ask(&user("hello")).await;
    // An error before the first word, one after it, and events that break off.
    assert_eq!(server.ask(&user("fail at once")).await.0, 500);
    server.chat(&streamed("fail")).await.text().await.unwrap();
    server
        .chat(&streamed("events:[{\"text\": \"a\"}]"))
        .await
        .text()
        .await
        .unwrap();
    // Clients that leave, one while the answer comes and one before it has begun.
    drop(server.chat(&streamed("endless")).await);
    let hurried = server
        .client
        .post(format!("{}/v1/chat/completions", server.base));
    let hurried = hurried
        .json(&user("mute"))
        .timeout(Duration::from_millis(200));
    assert!(hurried.send().await.unwrap_err().is_timeout());
    // What is refused before the model is asked is not counted here.
    assert_eq!(server.ask(&user("refuse")).await.0, 400);
    let expected = [
        ("stop", 1.0),
        ("length", 1.0),
        ("tool_calls", 1.0),
        ("content_filter", 0.0),
        ("error", 3.0),
        ("cancelled", 2.0),
    ];
    for (reason, expected) in expected {
        let name =
            format!("porthole_requests_finished_total{{model=\"demo\",reason=\"{reason}\"}}");
        server.metric_becomes(&name, expected).await;
    }
    for (reason, expected) in [
        ("stop", 2.0),
        ("length", 1.0),
        ("abort", 2.0),
        ("error", 3.0),
    ] {
        let name = format!(
            "vllm:request_success_total{{model_name=\"demo\",finished_reason=\"{reason}\"}}"
        );
        assert_eq!(server.metric(&name).await, expected, "{reason}");
    }
    let durations = "porthole_request_duration_seconds_count{model=\"demo\"}";
    assert_eq!(server.metric(durations).await, 3.0);
}

#[tokio::test]
async fn several_answers_are_one_request() {
    let (server, _engine) = fake_server();
    let mut body = user("one two");
    body["n"] = json!(3);
    assert_eq!(server.ask(&body).await.0, 200);
    for (name, expected) in [
        ("porthole_time_to_first_token_seconds_count", 1.0),
        ("porthole_inter_token_latency_seconds_count", 3.0),
        ("porthole_request_queue_time_seconds_count", 1.0),
        ("porthole_request_generation_tokens_sum", 9.0),
        // The engine reads the prompt for each.
        ("porthole_prompt_tokens_total", 30.0),
        ("porthole_generation_tokens_total", 9.0),
    ] {
        let name = format!("{name}{{model=\"demo\"}}");
        server.metric_becomes(&name, expected).await;
    }
    assert_eq!(server.finished("stop").await, 1.0);
}

#[tokio::test]
async fn tokens_are_counted_by_key() {
    let guarded = guarded();
    let key = guarded.key("partner", &Rights::default()).await;
    let response = guarded.chat(key.expose(), &user("one two")).await;
    assert_eq!(response.status(), 200);
    for (kind, expected) in [("prompt", 10.0), ("generation", 3.0)] {
        let name = format!("porthole_key_tokens_total{{key=\"partner\",kind=\"{kind}\"}}");
        guarded.server.metric_becomes(&name, expected).await;
    }
}

#[tokio::test]
async fn images_are_measured() {
    let (server, _engine) = fake_server();
    let image = png(64, 96, [1, 2, 3]);
    let (status, _) = server.ask(&about(&data_url(&image), "hi")).await;
    assert_eq!(status, 200);
    assert_eq!(
        server.metric("porthole_image_pixels_sum").await,
        64.0 * 96.0
    );
    assert_eq!(
        server.metric("porthole_image_bytes_sum").await,
        image.len() as f64
    );
    assert_eq!(
        server.metric("porthole_image_decode_seconds_count").await,
        1.0
    );
    // It came with the request.
    assert_eq!(
        server.metric("porthole_image_fetch_seconds_count").await,
        0.0
    );
}

#[tokio::test]
async fn replicas_follow_the_engine() {
    let engine = FakeEngine::new();
    let server = start(config(), EngineState::Loading);
    let up = "porthole_replicas_up{model=\"demo\"}";
    let capacity = "porthole_request_capacity{model=\"demo\"}";
    assert_eq!(
        server.metric("porthole_replicas{model=\"demo\"}").await,
        1.0
    );
    assert_eq!(server.metric(up).await, 0.0);
    assert_eq!(server.metric(capacity).await, 0.0);
    assert_eq!(
        server.metric("porthole_load_ratio{model=\"demo\"}").await,
        0.0
    );
    server
        .engine
        .send_replace(EngineState::Loaded(engine.clone()));
    assert_eq!(server.metric(up).await, 1.0);
    assert_eq!(server.metric(capacity).await, 1000.0);
    engine
        .health
        .send_replace(Health::Recovering("a test".into()));
    assert_eq!(server.metric(up).await, 0.0);
    assert_eq!(server.metric(capacity).await, 0.0);
}

#[tokio::test]
async fn the_admin_listener_tells_health_and_readiness() {
    let engine = FakeEngine::new();
    let server = start(config(), EngineState::Loading);
    let get = async |path: &str| {
        let url = format!("{}{path}", server.admin);
        server.client.get(url).send().await.unwrap().status()
    };
    assert_eq!(get("/health").await, 200);
    assert_eq!(get("/ready").await, 503);
    server.engine.send_replace(EngineState::Loaded(engine));
    assert_eq!(get("/ready").await, 200);
    assert_eq!(get("/v1/models").await, 404);
}

#[tokio::test]
async fn the_process_is_told() {
    let (server, _engine) = fake_server();
    let resident = server.metric("process_resident_memory_bytes").await;
    assert!((1e6..1e12).contains(&resident), "{resident}");
    let open = server.metric("process_open_fds").await;
    assert!((3.0..1e6).contains(&open), "{open}");
    let now = porthole::state::now() as f64;
    let started = server.metric("process_start_time_seconds").await;
    assert!((now - 3600.0..=now + 1.0).contains(&started), "{started}");
    // Work shows as time, however little of it a busy machine gives.
    let before = server.metric("process_cpu_seconds_total").await;
    let asked = std::time::Instant::now();
    while server.metric("process_cpu_seconds_total").await < before + 0.05 {
        assert!(asked.elapsed() < Duration::from_secs(20));
        let spin = std::time::Instant::now();
        while spin.elapsed() < Duration::from_millis(20) {
            std::hint::black_box(0);
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("porthole_build_info{{version=\"{version}\"}}");
    assert_eq!(server.metric(&build).await, 1.0);
}

/// Every name that dashboards and alerts may build on.
#[tokio::test]
async fn every_metric_is_there_from_the_start() {
    let (server, _engine) = fake_server();
    server.ask(&user("hello")).await;
    let text = server.metrics().await;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, _) = rest.split_once(' ').unwrap();
            assert!(names.insert(name), "{name} is described twice");
        }
    }
    for name in "http_requests http_request_duration_seconds connections config_reloads \
        key_tokens image_decode_seconds image_fetch_seconds image_bytes image_pixels \
        image_cache_bytes image_decoded_bytes limits_redis_up limits_redis_errors \
        limits_redis_seconds ready keys_file_valid audit_lines_lost draining build \
        requests_running requests_waiting prompt_tokens generation_tokens engine_restarts \
        engine_lane_width request_capacity load_ratio replicas replicas_up requests_finished \
        time_to_first_token_seconds inter_token_latency_seconds request_duration_seconds \
        request_queue_time_seconds request_prompt_tokens request_generation_tokens"
        .split_whitespace()
    {
        assert!(
            names.contains(format!("porthole_{name}").as_str()),
            "{name} in\n{text}"
        );
    }
    for name in "num_requests_running num_requests_waiting prompt_tokens generation_tokens \
        request_success time_to_first_token_seconds inter_token_latency_seconds \
        e2e_request_latency_seconds request_queue_time_seconds request_prompt_tokens \
        request_generation_tokens"
        .split_whitespace()
    {
        assert!(
            names.contains(format!("vllm:{name}").as_str()),
            "{name} in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
}

/// vLLM's names tell the same as ours, to the digit.
#[tokio::test]
async fn aliases_are_equal() {
    let (server, _engine) = fake_server();
    for text in ["one", "two words", "fail"] {
        server.ask(&user(text)).await;
    }
    let text = server.metrics().await;
    let series = |prefix: &str, label: &str| -> Vec<String> {
        let of_name = text.lines().filter_map(|line| line.strip_prefix(prefix));
        of_name.map(|rest| rest.replace(label, "")).collect()
    };
    for (ours, theirs) in [
        ("requests_running", "num_requests_running"),
        ("requests_waiting", "num_requests_waiting"),
        ("prompt_tokens_total", "prompt_tokens_total"),
        ("generation_tokens_total", "generation_tokens_total"),
        (
            "time_to_first_token_seconds_",
            "time_to_first_token_seconds_",
        ),
        (
            "inter_token_latency_seconds_",
            "inter_token_latency_seconds_",
        ),
        ("request_duration_seconds_", "e2e_request_latency_seconds_"),
        ("request_queue_time_seconds_", "request_queue_time_seconds_"),
        ("request_prompt_tokens_", "request_prompt_tokens_"),
        ("request_generation_tokens_", "request_generation_tokens_"),
    ] {
        let ours = series(&format!("porthole_{ours}"), "model=\"demo\"");
        let theirs = series(&format!("vllm:{theirs}"), "model_name=\"demo\"");
        assert!(!ours.is_empty(), "{text}");
        assert_eq!(ours, theirs);
    }
}
