//! Traces, as a collector gets them over HTTP. `tests/clients/test_traces.py` does the same over
//! gRPC with the published client library.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use porthole::{
    audit::AuditLog,
    config::{OtlpProtocol, TelemetryConfig},
    metrics::Metrics,
    state::EngineState,
    trace::Traces,
};
use prost::Message;
use serde_json::json;

use super::{
    fake_engine::FakeEngine,
    helpers::{TestServer, about, config, data_url, header, png, start_auditing, user},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What a collector was sent.
#[derive(Clone, Default)]
struct Collector {
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    /// Listens until the process ends; returns the URL.
    fn start(&self) -> String {
        let bodies = self.bodies.clone();
        let (port, started) = mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let take = move |request: HttpRequest, body: web::Bytes| {
                    let kind = request.headers().get("content-type").cloned();
                    assert_eq!(kind.unwrap(), "application/x-protobuf");
                    bodies.lock().unwrap().push(body.to_vec());
                    async { HttpResponse::Ok().finish() }
                };
                let factory = move || {
                    App::new()
                        .app_data(web::PayloadConfig::new(1 << 24))
                        .route("/v1/traces", web::post().to(take.clone()))
                };
                let server = HttpServer::new(factory).workers(1).disable_signals();
                let server = server.bind(("127.0.0.1", 0)).unwrap();
                port.send(server.addrs()[0].port()).unwrap();
                server.run().await.unwrap();
            });
        });
        format!("http://127.0.0.1:{}", started.recv().unwrap())
    }

    fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().unwrap();
        let requests = bodies
            .iter()
            .map(|body| ExportTraceServiceRequest::decode(body.as_slice()).unwrap());
        requests
            .flat_map(|request| request.resource_spans)
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }
}

struct Traced {
    server: TestServer,
    traces: Traces,
    collector: Collector,
}

fn traced(change: impl FnOnce(&mut TelemetryConfig)) -> Traced {
    let collector = Collector::default();
    let mut telemetry = TelemetryConfig {
        otlp_endpoint: collector.start(),
        otlp_protocol: OtlpProtocol::Http,
        ..TelemetryConfig::default()
    };
    change(&mut telemetry);
    let traces = Traces::start(&telemetry).unwrap().unwrap();
    let metrics = Arc::new(Metrics::default());
    let audit = AuditLog::off(metrics.clone()).traced(Some(traces.tracer()));
    let engine = EngineState::Loaded(FakeEngine::new());
    let server = start_auditing(config(), metrics, engine, audit);
    Traced {
        server,
        traces,
        collector,
    }
}

impl Traced {
    /// The spans of so many requests, once all of them have ended.
    async fn spans(self, requests: usize) -> Vec<Span> {
        // A record ends a moment after its answer has been read.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.traces.finish().await;
        let spans = self.collector.spans();
        let server = SpanKind::Server as i32;
        let found = spans.iter().filter(|span| span.kind == server).count();
        assert_eq!(found, requests, "{spans:#?}");
        spans
    }
}

fn attributes(span: &Span) -> HashMap<&str, String> {
    let text = |attribute: &KeyValue| match attribute.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(array) => format!("{:?}", array.values),
        other => panic!("{other:?}"),
    };
    let all = span.attributes.iter();
    all.map(|attribute| (attribute.key.as_str(), text(attribute)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found
        .next()
        .unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert!(found.next().is_none(), "several spans are called {name}");
    span
}

#[tokio::test]
async fn a_request_is_a_span_with_what_it_waited_for() {
    let traced = traced(|_| {});
    let image = data_url(&png(64, 64, [9, 9, 9]));
    let mut body = about(&image, "CANARYPROMPT two");
    body["max_tokens"] = json!(77);
    body["top_p"] = json!(0.5);
    body["seed"] = json!(11);
    let response = traced
        .server
        .client
        .post(format!(
            "{}/v1/chat/completions?q=CANARYQUERY",
            traced.server.base
        ))
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("tracestate", "vendor=value")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let told = header(&response, "traceparent").to_string();
    response.bytes().await.unwrap();
    let collector = traced.collector.clone();
    let spans = traced.spans(1).await;

    let request = named(&spans, "chat demo");
    assert_eq!(hex(&request.trace_id), TRACE);
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!(request.trace_state, "vendor=value");
    assert_eq!(told, format!("00-{TRACE}-{}-01", hex(&request.span_id)));
    let attributes = attributes(request);
    for (name, expected) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "porthole"),
        ("gen_ai.request.model", "demo"),
        ("gen_ai.response.model", "demo"),
        ("gen_ai.request.max_tokens", "77"),
        ("gen_ai.request.temperature", "0"),
        ("gen_ai.request.top_p", "0.5"),
        ("gen_ai.request.seed", "11"),
        ("gen_ai.usage.input_tokens", "10"),
        ("gen_ai.usage.output_tokens", "3"),
        ("http.request.method", "POST"),
        ("http.route", "/v1/chat/completions"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(attributes[name], expected, "{name}");
    }
    assert!(attributes["gen_ai.response.finish_reasons"].contains("stop"));
    assert!(!attributes.contains_key("error.type"));

    for name in ["images", "queue", "decode", "generate"] {
        let span = named(&spans, name);
        assert_eq!(span.trace_id, request.trace_id, "{name}");
        assert_eq!(span.parent_span_id, request.span_id, "{name}");
        assert!(
            span.start_time_unix_nano >= request.start_time_unix_nano,
            "{name}"
        );
        assert!(
            span.end_time_unix_nano >= span.start_time_unix_nano,
            "{name}"
        );
        assert!(
            span.end_time_unix_nano <= request.end_time_unix_nano,
            "{name}"
        );
    }
    let generate = named(&spans, "generate");
    assert_eq!(generate.events.len(), 1);
    let first = &generate.events[0];
    assert_eq!(first.name, "first_token");
    let within = generate.start_time_unix_nano..=generate.end_time_unix_nano;
    assert!(within.contains(&first.time_unix_nano));

    let image = image.split_once(',').unwrap().1;
    for body in collector.bodies.lock().unwrap().iter() {
        let sent = String::from_utf8_lossy(body);
        assert!(sent.contains("chat demo"));
        for secret in ["CANARY", "127.0.0.1", &image[..24]] {
            assert!(!sent.contains(secret), "{secret}");
        }
    }
}

#[tokio::test]
async fn what_goes_wrong_is_told() {
    let traced = traced(|_| {});
    let server = &traced.server;
    server.ask(&user("fail at once")).await;
    server.ask(&json!({"model": "demo"})).await;
    server.get("/CANARYPATH").await;
    let mut stream = user("hang");
    stream["stream"] = json!(true);
    drop(server.chat(&stream).await);
    let finished = "porthole_requests_finished_total{model=\"demo\",reason=\"cancelled\"}";
    server.metric_becomes(finished, 1.0).await;
    let spans = traced.spans(4).await;
    let error = |span: &Span| {
        let status = span.status.clone().unwrap_or_default();
        let kind = attributes(span).get("error.type").cloned();
        (status.code == StatusCode::Error as i32, kind)
    };
    let chats: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "chat demo")
        .collect();
    assert_eq!(chats.len(), 2, "{spans:#?}");
    for chat in chats {
        let (failed, kind) = error(chat);
        let status = &attributes(chat)["http.response.status_code"];
        match status.as_str() {
            "500" => assert!(failed && kind.is_some()),
            "200" => assert_eq!((failed, kind.as_deref()), (false, Some("cancelled"))),
            other => panic!("{other}"),
        }
    }
    // Its model was not looked up, as it was refused before.
    let bad = named(&spans, "POST /v1/chat/completions");
    let (failed, kind) = error(bad);
    assert!(!failed && kind.is_some(), "{bad:#?}");
    assert_eq!(attributes(bad)["http.response.status_code"], "400");
    assert_eq!(
        attributes(named(&spans, "GET unknown"))["http.response.status_code"],
        "404"
    );
}

#[tokio::test]
async fn malformed_and_doubled_parents_are_ignored() {
    let traced = traced(|_| {});
    let bad = [
        "nonsense".to_string(),
        format!("00-{TRACE}-{PARENT}"),
        format!("ff-{TRACE}-{PARENT}-01"),
        format!("00-{}-{PARENT}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
    ];
    let url = format!("{}/health", traced.server.base);
    for parent in &bad {
        let request = traced.server.client.get(&url).header("traceparent", parent);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(
            !header(&response, "traceparent").contains(TRACE),
            "{parent}"
        );
    }
    let good = format!("00-{TRACE}-{PARENT}-01");
    let request = traced.server.client.get(&url);
    let request = request
        .header("traceparent", &good)
        .header("traceparent", &good);
    let response = request.send().await.unwrap();
    assert!(!header(&response, "traceparent").contains(TRACE));
    let spans = traced.spans(bad.len() + 1).await;
    assert!(spans.iter().all(|span| span.parent_span_id.is_empty()));
}

#[tokio::test]
async fn the_sample_is_taken_unless_the_client_says_otherwise() {
    let traced = traced(|telemetry| telemetry.sample_ratio = 0.0);
    let url = format!("{}/health", traced.server.base);
    let response = traced.server.client.get(&url).send().await.unwrap();
    assert!(header(&response, "traceparent").ends_with("-00"));
    for flags in ["00", "01"] {
        let parent = format!("00-{TRACE}-{PARENT}-{flags}");
        let request = traced.server.client.get(&url).header("traceparent", parent);
        let response = request.send().await.unwrap();
        assert!(header(&response, "traceparent").ends_with(flags));
    }
    traced.spans(1).await;
}

#[tokio::test]
async fn a_collector_that_is_away_hurts_nobody() {
    let traced = traced(|telemetry| telemetry.otlp_endpoint = "http://127.0.0.1:9".into());
    // More than the queue takes.
    let since = Instant::now();
    for _ in 0..3_000 {
        assert_eq!(traced.server.get("/health").await.status(), 200);
    }
    assert!(since.elapsed() < Duration::from_secs(60));
    let since = Instant::now();
    traced.traces.finish().await;
    assert!(since.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn without_a_collector_no_trace_is_begun() {
    assert!(
        Traces::start(&TelemetryConfig::default())
            .unwrap()
            .is_none()
    );
    let server = super::fake_engine::fake_server().0;
    let request = server.client.get(format!("{}/health", server.base));
    let request = request.header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    let response = request.send().await.unwrap();
    assert!(response.headers().get("traceparent").is_none());
}

#[tokio::test]
async fn an_image_server_is_not_told_of_the_trace() {
    let traced = traced(|_| {});
    let (sender, heads) = mpsc::channel();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut buffer = [0; 4096];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = socket.read(&mut buffer).unwrap();
            head.extend_from_slice(&buffer[..read]);
        }
        let image = png(32, 32, [1, 1, 1]);
        let length = image.len();
        write!(
            socket,
            "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: {length}\r\n\r\n"
        )
        .unwrap();
        socket.write_all(&image).unwrap();
        sender.send(String::from_utf8(head).unwrap()).unwrap();
    });
    let url = format!("http://127.0.0.1:{port}/a.png");
    let request = traced
        .server
        .client
        .post(format!("{}/v1/chat/completions", traced.server.base));
    let request = request.header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    let response = request.json(&about(&url, "hi")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let head = heads.recv().unwrap().to_lowercase();
    assert!(
        !head.contains("traceparent") && !head.contains(TRACE),
        "{head}"
    );
    assert_eq!(
        traced
            .server
            .metric("porthole_image_fetch_seconds_count")
            .await,
        1.0
    );
}
