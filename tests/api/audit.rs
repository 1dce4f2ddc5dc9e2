//! The audit log, and what must never be in it.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use porthole::{
    audit::AuditLog, auth::keys_edit::KeysEditor, caller::Rights, config::Secret, metrics::Metrics,
    state::EngineState,
};
use serde_json::{Value, json};

use super::{
    fake_engine::FakeEngine,
    helpers::{TestServer, about, config, data_url, png, start_auditing, user},
};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits for the line of a request.
    async fn line(&self, id: &str) -> Value {
        let started = Instant::now();
        loop {
            let text = self.text();
            let lines = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let mut of_request = lines.filter(|line| line["request_id"] == id);
            if let Some(line) = of_request.next() {
                assert!(of_request.next().is_none(), "two lines for {id}");
                return line;
            }
            assert!(
                started.elapsed() < Duration::from_secs(15),
                "no line for {id} in\n{text}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

struct Audited {
    server: TestServer,
    log: Written,
    key: Secret,
    _folder: tempfile::TempDir,
}

fn audited() -> Audited {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    let key = KeysEditor::new(&file, Secret::default())
        .create("partner", None, &Rights::default())
        .unwrap();
    let mut config = config();
    config.auth.enabled = true;
    config.auth.keys_file = file;
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let metrics = Arc::new(Metrics::default());
    let log = Written::default();
    let audit = AuditLog::to(log.clone(), metrics.clone());
    let server = start_auditing(
        config,
        metrics,
        EngineState::Loaded(FakeEngine::new()),
        audit,
    );
    Audited {
        server,
        log,
        key,
        _folder: folder,
    }
}

impl Audited {
    fn ask(&self, id: &str, body: &Value) -> reqwest::RequestBuilder {
        let url = format!("{}/v1/chat/completions?q=CANARYQUERY", self.server.base);
        self.server
            .client
            .post(url)
            .bearer_auth(self.key.expose())
            .header("x-request-id", id)
            .json(body)
    }
}

#[tokio::test]
async fn a_line_tells_who_asked_for_what_and_what_became_of_it() {
    let audited = audited();
    let image = png(64, 96, [200, 10, 10]);
    let request = audited.ask("one", &about(&data_url(&image), "say hi"));
    let response = request
        .header("x-forwarded-for", "203.0.113.9")
        .send()
        .await
        .unwrap();
    let bytes = response.bytes().await.unwrap().len();
    let line = audited.log.line("one").await;
    for (field, expected) in [
        ("client", json!("203.0.113.9")),
        ("method", json!("POST")),
        ("route", json!("/v1/chat/completions")),
        ("caller", json!("key:partner")),
        ("key", json!("partner")),
        ("model", json!("demo")),
        ("stream", json!(false)),
        ("status", json!(200)),
        ("outcome", json!("complete")),
        ("finish_reason", json!("stop")),
        ("prompt_tokens", json!(10)),
        ("image_tokens", json!(4)),
        ("completion_tokens", json!(3)),
        ("bytes_out", json!(bytes)),
    ] {
        assert_eq!(line[field], expected, "{field} in {line}");
    }
    assert!(line["error"].is_null());
    assert!(
        line["time"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
    assert!(
        line["queue_ms"].is_number()
            && line["first_token_ms"].is_number()
            && line["total_ms"].is_number()
    );
    let logged = &line["images"][0];
    assert_eq!(
        (
            logged["bytes"].as_u64(),
            logged["width"].as_u64(),
            logged["height"].as_u64()
        ),
        (Some(image.len() as u64), Some(64), Some(96))
    );
    assert_eq!(logged["sha256"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn what_went_wrong_is_told_by_its_code() {
    let audited = audited();
    let mut streamed = user("fail");
    streamed["stream"] = json!(true);
    audited
        .ask("late", &streamed)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let late = audited.log.line("late").await;
    assert_eq!(
        (late["status"].as_u64(), late["error"].as_str()),
        (Some(200), Some("engine_failed"))
    );
    assert_eq!(late["outcome"], "complete");

    audited
        .ask("bad", &json!({"model": "demo"}))
        .send()
        .await
        .unwrap();
    let bad = audited.log.line("bad").await;
    assert_eq!(
        (bad["status"].as_u64(), bad["error"].as_str()),
        (Some(400), Some("missing_required_parameter"))
    );

    let url = format!("{}/v1/models", audited.server.base);
    let stranger = audited
        .server
        .client
        .get(&url)
        .bearer_auth("pk-wrong")
        .header("x-request-id", "who");
    stranger.send().await.unwrap();
    let who = audited.log.line("who").await;
    assert_eq!(
        (who["status"].as_u64(), who["error"].as_str()),
        (Some(401), Some("invalid_api_key"))
    );
    assert!(who["caller"].is_null());

    let lost = audited
        .server
        .client
        .get(format!("{}/no?secret=1", audited.server.base))
        .header("x-request-id", "lost");
    lost.send().await.unwrap();
    assert_eq!(audited.log.line("lost").await["route"], "unknown");
}

#[tokio::test]
async fn a_client_that_goes_away_is_told_with_what_was_generated() {
    let audited = audited();
    let mut hang = user("hang");
    hang["stream"] = json!(true);
    let mut response = audited.ask("gone", &hang).send().await.unwrap();
    response.chunk().await.unwrap();
    response.chunk().await.unwrap();
    drop(response);
    let line = audited.log.line("gone").await;
    assert_eq!(line["outcome"], "disconnected", "{line}");
    assert_eq!(line["completion_tokens"], 1);
}

#[tokio::test]
async fn several_prompts_are_told_together() {
    let audited = audited();
    for (id, stream) in [("plain", false), ("stream", true)] {
        let body = json!({"model": "demo", "prompt": ["a b c", "d"], "n": 2, "stream": stream});
        let url = format!("{}/v1/completions", audited.server.base);
        let request = audited.server.client.post(url).json(&body);
        let request = request
            .bearer_auth(audited.key.expose())
            .header("x-request-id", id);
        let text = request.send().await.unwrap().text().await.unwrap();
        let line = audited.log.line(id).await;
        assert_eq!(line["outcome"], "complete", "{line}");
        assert_eq!(line["prompt_tokens"], 20);
        if !stream {
            let usage = &serde_json::from_str::<Value>(&text).unwrap()["usage"];
            assert_eq!(usage["completion_tokens"], line["completion_tokens"]);
        }
        // Two answers to each prompt: its words and its end.
        assert_eq!(line["completion_tokens"], 2 * (4 + 2), "{text}");
    }
}

#[tokio::test]
async fn no_secret_is_ever_written() {
    let audited = audited();
    let (prompt, query, image) = (
        "CANARYPROMPT",
        "CANARYQUERY",
        data_url(&png(64, 64, [1, 2, 3])),
    );
    let base64 = image.split(',').nth(1).unwrap().to_string();
    let mut id = 0;
    let mut bodies = vec![
        user(prompt),
        about(&image, prompt),
        about(&format!("https://127.0.0.1:1/x.png?token={query}"), prompt),
        about(&format!("https://user:{query}@example.com/"), prompt),
        about(&format!("{image}{prompt}"), prompt),
        json!({"model": prompt, "messages": prompt}),
        json!({"model": "demo", "messages": [{"role": prompt, "content": query}]}),
        json!({"model": "demo", "messages": [], "stop": [prompt], prompt: query}),
    ];
    for word in ["refuse", "fail", "fail at once"] {
        bodies.push(user(word));
    }
    for body in &bodies {
        for stream in [false, true] {
            let mut body = body.clone();
            body["stream"] = json!(stream);
            id += 1;
            let sent = audited.ask(&format!("r{id}"), &body).send().await.unwrap();
            let _ = sent.bytes().await;
            audited.log.line(&format!("r{id}")).await;
        }
    }
    let key = audited.key.expose();
    for header in [
        format!("Bearer {key}x"),
        format!("Basic {key}"),
        format!("Bearer eyJ{key}.e30.x"),
    ] {
        let url = format!("{}/v1/models/{prompt}?q={query}", audited.server.base);
        id += 1;
        let request = audited
            .server
            .client
            .get(url)
            .header("authorization", header)
            .header("x-request-id", format!("r{id}"));
        request.send().await.unwrap();
        audited.log.line(&format!("r{id}")).await;
    }
    let written = audited.log.text();
    let metrics = audited
        .server
        .client
        .get(format!("{}/metrics", audited.server.admin))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    for secret in [
        key,
        &key[3..],
        prompt,
        query,
        base64.as_str(),
        "secret inside",
    ] {
        assert!(!written.contains(secret), "{secret} is in the audit log");
        assert!(!metrics.contains(secret), "{secret} is in the metrics");
    }
    assert!(written.lines().count() >= 25);
}
