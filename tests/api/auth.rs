//! API keys and minted tokens at the door.

mod rights;

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use porthole::{
    auth::keys_edit::KeysEditor,
    caller::Rights,
    config::{Config, Secret},
    state::EngineState,
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    fake_engine::FakeEngine,
    helpers::{TestServer, about, config, data_url, parse_stream, png, start, user},
};

/// A server with a keys file.
pub struct Guarded {
    pub server: TestServer,
    pub engine: Arc<FakeEngine>,
    pub keys: KeysEditor,
    pub folder: tempfile::TempDir,
}

pub fn guarded() -> Guarded {
    guarded_with(|_| {})
}

pub fn guarded_with(change: impl FnOnce(&mut Config)) -> Guarded {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    let mut config = config();
    config.auth.enabled = true;
    config.auth.keys_file.clone_from(&file);
    change(&mut config);
    let engine = FakeEngine::new();
    let keys = KeysEditor::new(&file, config.auth.key_pepper.clone());
    let server = start(config, EngineState::Loaded(engine.clone()));
    Guarded {
        server,
        engine,
        keys,
        folder,
    }
}

impl Guarded {
    /// A key with these rights that the server knows already.
    pub async fn key(&self, name: &str, rights: &Rights) -> Secret {
        let key = self.keys.create(name, None, rights).unwrap();
        self.becomes(&key, StatusCode::OK).await;
        key
    }

    pub async fn chat(&self, key: &str, body: &Value) -> Response {
        let url = format!("{}/v1/chat/completions", self.server.base);
        let request = self.server.client.post(url).bearer_auth(key).json(body);
        request.send().await.unwrap()
    }

    pub async fn get(&self, key: &str, path: &str) -> Response {
        let url = format!("{}{path}", self.server.base);
        let request = self.server.client.get(url).bearer_auth(key);
        request.send().await.unwrap()
    }

    pub async fn mint(&self, key: &str, wish: &Value) -> (u16, Value) {
        let url = format!("{}/v1/tokens", self.server.base);
        let request = self.server.client.post(url).bearer_auth(key).json(wish);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Waits until a credential is answered like this; a second is the promise.
    pub async fn becomes(&self, key: &Secret, status: StatusCode) {
        let started = Instant::now();
        while self.get(key.expose(), "/v1/models").await.status() != status {
            assert!(
                started.elapsed() < Duration::from_secs(1),
                "the server does not notice"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub async fn body(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn without_a_credential_nothing_is_served() {
    let guarded = guarded();
    let Guarded { server, engine, .. } = &guarded;
    for path in [
        "/v1/models",
        "/v1/models/demo",
        "/v1/nothing",
        "/v1/chat/completions",
        "/v1/tokens",
    ] {
        for method in [reqwest::Method::GET, reqwest::Method::POST] {
            let url = format!("{}{path}", server.base);
            let request = server.client.request(method, url).json(&user("hello"));
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{path}");
            assert_eq!(
                response.headers()["www-authenticate"],
                "Bearer realm=\"porthole\""
            );
            assert!(response.headers().contains_key("x-request-id"));
            let (_, json) = body(response).await;
            assert_eq!(json["error"]["code"], "invalid_api_key", "{json}");
            assert_eq!(json["error"]["type"], "authentication_error");
            assert!(json["error"]["param"].is_null());
        }
    }
    for open in ["/health", "/ready"] {
        assert_eq!(server.get(open).await.status(), 200);
    }
    assert_eq!(engine.times_asked(), 0);
}

#[tokio::test]
async fn a_key_opens_the_door() {
    let guarded = guarded();
    let key = guarded.key("partner", &Rights::default()).await;
    let (status, json) = body(guarded.chat(key.expose(), &user("say hi")).await).await;
    assert_eq!(status, 200, "{json}");
    assert_eq!(json["choices"][0]["message"]["content"], "say hi");
    // The scheme is not case-sensitive (RFC 9110, 11.1).
    let url = format!("{}/v1/models", guarded.server.base);
    for header in [
        format!("bearer {}", key.expose()),
        format!("BEARER  {}", key.expose()),
    ] {
        let request = guarded
            .server
            .client
            .get(&url)
            .header("authorization", header);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn unknown_revoked_expired_and_mangled_keys_are_answered_alike() {
    let guarded = guarded();
    let good = guarded.key("good", &Rights::default()).await;
    let revoked = guarded.key("revoked", &Rights::default()).await;
    let soon = Timestamp::now() + SignedDuration::from_millis(400);
    let expired = guarded
        .keys
        .create("expired", Some(soon), &Rights::default())
        .unwrap();
    guarded.keys.revoke("revoked").unwrap();
    guarded.becomes(&revoked, StatusCode::UNAUTHORIZED).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;

    let key = good.expose();
    let swapped: String = key
        .chars()
        .map(|c| {
            if c.is_lowercase() {
                c.to_ascii_uppercase()
            } else {
                c
            }
        })
        .collect();
    let strangers = [
        revoked.expose().to_string(),
        expired.expose().to_string(),
        "pk-".to_string(),
        format!("pk-{}", "A".repeat(43)),
        key[..key.len() - 1].to_string(),
        format!("{key}A"),
        format!("{key}="),
        swapped,
        key[3..].to_string(),
        "sk-none".to_string(),
        "x".repeat(4_000),
    ];
    let mut answers = Vec::new();
    for stranger in &strangers {
        let response = guarded.chat(stranger, &user("hello")).await;
        assert_eq!(response.status(), 401, "{stranger}");
        answers.push(response.text().await.unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");

    let url = format!("{}/v1/models", guarded.server.base);
    for header in [
        key.to_string(),
        format!("Basic {key}"),
        format!("Bearer{key}"),
        "Bearer".into(),
        "Bearer é".into(),
    ] {
        let request = guarded
            .server
            .client
            .get(&url)
            .header("authorization", header.as_bytes());
        assert_eq!(request.send().await.unwrap().status(), 401, "{header}");
    }
    let twice = guarded
        .server
        .client
        .get(&url)
        .bearer_auth(key)
        .header("authorization", "Bearer x");
    assert_eq!(twice.send().await.unwrap().status(), 401, "two credentials");
    let query = guarded
        .server
        .get(&format!("/v1/models?api_key={key}"))
        .await;
    assert_eq!(query.status(), 401, "a key in a URL would end in logs");
    assert_eq!(guarded.engine.times_asked(), 0);
}

#[tokio::test]
async fn a_revoked_key_ends_its_open_stream_with_an_error_event() {
    let guarded = guarded();
    let key = guarded.key("partner", &Rights::default()).await;
    let other = guarded.key("other", &Rights::default()).await;
    let mut hang = user("hang");
    hang["stream"] = json!(true);
    let mine = guarded.chat(key.expose(), &hang).await;
    let plain = {
        let url = format!("{}/v1/chat/completions", guarded.server.base);
        let request = guarded.server.client.post(url).bearer_auth(key.expose());
        tokio::spawn(request.json(&user("hang")).send())
    };
    let others = guarded.chat(other.expose(), &hang).await;
    assert_eq!(mine.status(), 200);
    guarded.server.metric_becomes("porthole_ready", 1.0).await;

    let started = Instant::now();
    guarded.keys.revoke("partner").unwrap();
    let text = tokio::time::timeout(Duration::from_secs(5), mine.text()).await;
    let streamed = parse_stream(&text.unwrap().unwrap());
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(streamed.text, "one ");
    assert_eq!(streamed.error.unwrap()["code"], "invalid_api_key");
    assert_eq!(plain.await.unwrap().unwrap().status(), 401);
    guarded.becomes(&key, StatusCode::UNAUTHORIZED).await;
    // The other's stream goes on.
    let more = tokio::time::timeout(Duration::from_millis(300), others.text()).await;
    assert!(more.is_err(), "it ended: {more:?}");
}

#[tokio::test]
async fn a_broken_edit_keeps_the_last_good_keys() {
    let guarded = guarded();
    let key = guarded.key("partner", &Rights::default()).await;
    let file = guarded.folder.path().join("keys.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    for broken in ["[[key]\n", "[[key]]\nname = 'x'\n"] {
        std::fs::write(&file, broken).unwrap();
        guarded
            .server
            .metric_becomes("porthole_keys_file_valid", 0.0)
            .await;
        assert_eq!(guarded.get(key.expose(), "/v1/models").await.status(), 200);
        std::fs::write(&file, &good).unwrap();
        guarded
            .server
            .metric_becomes("porthole_keys_file_valid", 1.0)
            .await;
    }
    std::fs::remove_file(&file).unwrap();
    guarded
        .server
        .metric_becomes("porthole_keys_file_valid", 0.0)
        .await;
    assert_eq!(guarded.get(key.expose(), "/v1/models").await.status(), 200);
    // As Kubernetes changes a Secret: the name is a link, and what it points to is swapped.
    let next = guarded.folder.path().join("next.toml");
    std::fs::write(&next, "").unwrap();
    std::os::unix::fs::symlink(&next, &file).unwrap();
    guarded.becomes(&key, StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn a_rotated_key_and_its_successor_are_one_caller() {
    let guarded = guarded();
    let rights = Rights {
        models: Some(vec![]),
        ..Rights::default()
    };
    let old = guarded.key("partner", &rights).await;
    let later = Timestamp::now() + SignedDuration::from_hours(24);
    let new = guarded.keys.rotate("partner", later).unwrap();
    guarded.becomes(&new, StatusCode::OK).await;
    for key in [&old, &new] {
        let (_, json) = body(guarded.get(key.expose(), "/v1/models").await).await;
        assert_eq!(json["data"], json!([]));
    }
    guarded.keys.rotate("partner", Timestamp::now()).unwrap();
    guarded.becomes(&old, StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn a_refused_stranger_is_not_let_finish_its_body() {
    let guarded = guarded();
    let address = guarded
        .server
        .base
        .strip_prefix("http://")
        .unwrap()
        .to_string();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        // A hundred megabytes are announced; none is sent.
        stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n").unwrap();
        let mut answer = [0; 64];
        let read = std::io::Read::read(&mut stream, &mut answer).unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    });
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 401"));
}
