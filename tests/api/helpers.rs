//! Starting a server as production does, on port 0, and talking to it over a real socket.
#![allow(dead_code)] // each test binary uses its part

use std::{
    io::Cursor,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use base64_simd::STANDARD;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use porthole::{
    audit::AuditLog,
    config::Config,
    metrics::Metrics,
    startup::{Application, Handle, StartError},
    state::{EngineState, Parts},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

pub struct TestServer {
    pub base: String,
    pub admin: String,
    pub client: reqwest::Client,
    pub engine: watch::Sender<EngineState>,
    pub handle: Handle,
    pub thread: Option<std::thread::JoinHandle<()>>,
}

pub fn config() -> Config {
    let mut config = Config::default();
    config.server.bind.set_port(0);
    config.server.admin_bind.set_port(0);
    config.auth.enabled = false;
    config.limits.store = "".into();
    config.images.allow_private_addresses = true;
    config.images.allowed_ports = (1..=u16::MAX).collect();
    config
}

/// Runs a server on a thread of its own until the process ends.
pub fn start(config: Config, engine: EngineState) -> TestServer {
    start_with(config, Arc::new(Metrics::default()), engine)
}

pub fn start_with(config: Config, metrics: Arc<Metrics>, engine: EngineState) -> TestServer {
    let audit = AuditLog::off(metrics.clone());
    start_auditing(config, metrics, engine, audit)
}

/// Builds a server that has no engine yet, or says why it cannot be.
pub fn build(config: Config) -> Result<Application, StartError> {
    let metrics = Arc::new(Metrics::default());
    Application::build(Parts {
        config,
        engines: vec![watch::channel(EngineState::Loading).1],
        audit: AuditLog::off(metrics.clone()),
        metrics,
    })
}

pub fn start_auditing(
    config: Config,
    metrics: Arc<Metrics>,
    engine: EngineState,
    audit: AuditLog,
) -> TestServer {
    let (sender, receiver) = watch::channel(engine);
    let (ports, started) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let parts = Parts {
                config,
                engines: vec![receiver],
                metrics,
                audit,
            };
            let application = Application::build(parts).unwrap();
            ports
                .send((
                    application.port(),
                    application.admin_port().unwrap(),
                    application.handle(),
                ))
                .unwrap();
            application.run().await.unwrap();
        });
    });
    let (port, admin, handle) = started.recv_timeout(Duration::from_secs(10)).unwrap();
    TestServer {
        base: format!("http://127.0.0.1:{port}"),
        admin: format!("http://127.0.0.1:{admin}"),
        client: reqwest::Client::new(),
        engine: sender,
        handle,
        thread: Some(thread),
    }
}

impl TestServer {
    /// Host and port.
    pub fn address(&self) -> &str {
        self.base.split_once("://").unwrap().1
    }

    /// Everything the server says to these bytes until it closes the connection.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.address()).await.unwrap();
        // The server may close before it has read all.
        let _ = socket.write_all(bytes).await;
        read_to_end(&mut socket).await
    }

    pub async fn chat(&self, body: &Value) -> reqwest::Response {
        self.client
            .post(format!("{}/v1/chat/completions", self.base))
            .json(body)
            .send()
            .await
            .unwrap()
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client
            .get(format!("{}{path}", self.base))
            .send()
            .await
            .unwrap()
    }

    /// Status and JSON body of a chat request.
    pub async fn ask(&self, body: &Value) -> (u16, Value) {
        let response = self.chat(body).await;
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self
            .client
            .get(format!("{}/metrics", self.admin))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let line = text.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        line.unwrap_or_else(|| panic!("no metric {name} in\n{text}"))[name.len() + 1..]
            .parse()
            .unwrap()
    }

    /// Waits until a metric has a value, for as long as a person would.
    pub async fn metric_becomes(&self, name: &str, expected: f64) {
        let started = Instant::now();
        loop {
            let value = self.metric(name).await;
            if value == expected {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{name} is {value}, not {expected}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What comes until the other side closes, which it has to.
pub async fn read_to_end(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = timeout(Duration::from_secs(20), socket.read_to_end(&mut bytes)).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // A reset is an end too.
    let _ = read.unwrap_or_else(|_| panic!("the connection stays open after {text:?}"));
    text
}

/// The data lines of a stream, parsed; `[DONE]` must be the last and is left out. The text, the
/// finish reason and the usage chunk follow.
pub struct Streamed {
    pub chunks: Vec<Value>,
    pub text: String,
    pub finish_reason: Option<String>,
    pub usage: Option<Value>,
    pub error: Option<Value>,
}

pub fn parse_stream(body: &str) -> Streamed {
    let lines: Vec<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    let mut streamed = Streamed {
        chunks: Vec::new(),
        text: String::new(),
        finish_reason: None,
        usage: None,
        error: None,
    };
    for (i, line) in lines.iter().enumerate() {
        if *line == "[DONE]" {
            assert_eq!(i, lines.len() - 1, "[DONE] is not the last");
            continue;
        }
        let chunk: Value = serde_json::from_str(line).unwrap();
        if let Some(error) = chunk.get("error") {
            streamed.error = Some(error.clone());
        }
        if let Some(choice) = chunk["choices"].get(0) {
            streamed
                .text
                .push_str(choice["delta"]["content"].as_str().unwrap_or(""));
            if let Some(reason) = choice["finish_reason"].as_str() {
                streamed.finish_reason = Some(reason.to_string());
            }
        } else if chunk["usage"].is_object() {
            streamed.usage = Some(chunk["usage"].clone());
        }
        streamed.chunks.push(chunk);
    }
    assert!(
        streamed.error.is_some() || lines.last() == Some(&"[DONE]"),
        "the stream does not end in [DONE]"
    );
    streamed
}

/// A response header as text; empty where there is none.
pub fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

pub fn png(width: u32, height: u32, color: [u8; 3]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(width, height, Rgb(color));
    DynamicImage::ImageRgb8(image)
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

pub fn data_url(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode_to_string(bytes))
}

pub fn user(text: &str) -> Value {
    json!({"model": "demo", "temperature": 0, "messages": [{"role": "user", "content": text}]})
}

/// A question about an image.
pub fn about(url: &str, text: &str) -> Value {
    json!({"model": "demo", "temperature": 0, "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": text},
    ]}]})
}
