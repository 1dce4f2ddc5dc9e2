//! Requests whose bounds, hosts or targets two parsers could see differently (RFC 9112, section
//! 11.2): refused with the end of the connection, or exactly one request, never a smuggled one.

mod refused;
mod served;

use std::sync::Arc;

use futures::future::join_all;
use porthole::{engine::Part, state::EngineState};

use super::{
    fake_engine::FakeEngine,
    helpers::{TestServer, config, start, user},
};
use refused::refused;
use served::served;

fn server() -> (TestServer, Arc<FakeEngine>) {
    let engine = FakeEngine::new();
    let mut config = config();
    config.server.header_timeout = 2;
    config.server.idle_timeout = 1;
    config.server.body_timeout = 2;
    config.server.max_connections_per_address = 1000;
    (start(config, EngineState::Loaded(engine.clone())), engine)
}

/// A chat request with these header lines (each with its line end) and this body.
fn chat(headers: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\r\n{body}"
    )
}

/// The whole request that an attacker wants served in another's name.
fn smuggled() -> String {
    let body = user("smuggled").to_string();
    chat(
        &format!("Content-Length: {}\r\nConnection: close\r\n", body.len()),
        &body,
    )
}

fn hello() -> String {
    user("hello").to_string()
}

/// One chunk, with what follows the size.
fn chunk(text: &str, extension: &str) -> String {
    format!("{:x}{extension}\r\n{text}\r\n", text.len())
}

fn health(headers: &str) -> String {
    format!("GET /health HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

fn statuses(said: &str) -> Vec<u16> {
    // "1 200 OK" or "0 200 OK"
    let heads = said.split("HTTP/1.").skip(1);
    let statuses = heads.map(|head| head[2..5].parse().unwrap());
    statuses.filter(|status| *status != 100).collect()
}

#[tokio::test]
async fn what_two_parsers_could_see_differently_is_refused_and_nothing_behind_it_is_served() {
    let (server, engine) = server();
    let cases = refused();
    assert!(cases.len() >= 60, "{}", cases.len());
    let said = join_all(cases.iter().map(|(_, bytes)| server.raw(bytes.as_bytes()))).await;
    let mut wrong = Vec::new();
    for ((name, _), said) in cases.iter().zip(&said) {
        let statuses = statuses(said);
        // 400, 408 or nothing; whatever follows on the connection is refused too.
        if !statuses.iter().all(|status| (400..500).contains(status)) {
            wrong.push(format!("{name}: {statuses:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(engine.times_asked(), 0);
    server.metric_becomes("porthole_connections", 0.0).await;
}

#[tokio::test]
async fn what_has_one_meaning_is_served_once_and_what_it_carries_is_not() {
    let (server, engine) = server();
    let cases = served();
    let said = join_all(
        cases
            .iter()
            .map(|(_, bytes, _)| server.raw(bytes.as_bytes())),
    )
    .await;
    let mut wrong = Vec::new();
    for ((name, _, expected), said) in cases.iter().zip(&said) {
        let statuses = statuses(said);
        let fine = statuses.iter().filter(|status| **status == 200).count();
        if fine != *expected || statuses.iter().any(|status| *status >= 500) {
            wrong.push(format!("{name}: {statuses:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let chats = cases
        .iter()
        .filter(|(_, bytes, _)| bytes.contains("\"hello\""))
        .count();
    let asked = engine.asked.lock().unwrap().clone();
    for request in &asked {
        let Some(Part::Text(text)) = request.turns[0].parts.first() else {
            panic!("{request:?}");
        };
        assert_eq!(text, "hello");
    }
    assert_eq!(asked.len(), chats);
    server.metric_becomes("porthole_connections", 0.0).await;
}

#[tokio::test]
async fn neither_host_nor_the_form_of_the_target_moves_a_request_to_another_route() {
    let (server, engine) = server();
    for host in [
        "x/health",
        "x?/health",
        "x#/health",
        "u@x",
        "/health",
        "x/../health",
        "x\\health",
        "x,y",
        "x y",
        "http://x",
        "x:80/health",
        "x:port",
        "x:80:80",
        "[::1",
        "[x]",
        "[::1]x",
        "x%2fhealth",
        "x;y",
        "x\u{e9}",
        "*",
        "<x>",
    ] {
        let request = format!(
            "GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n{}",
            smuggled()
        );
        let said = server.raw(request.as_bytes()).await;
        let statuses = statuses(&said);
        assert!(
            !statuses.is_empty() && statuses.iter().all(|s| *s == 400),
            "{host}: {said}"
        );
        assert!(said.contains("connection: close"), "{said}");
    }
    for host in [
        "x",
        "x:80",
        "x:",
        "",
        "127.0.0.1:8080",
        "[::1]:8080",
        "a-b.example_1.com",
    ] {
        let request =
            format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let said = server.raw(request.as_bytes()).await;
        assert_eq!(statuses(&said), [200], "{host}: {said}");
        assert!(said.contains("\"object\":\"list\""), "{said}");
    }
    // The answer of /health has `status`, that of /v1/models `object`.
    for (target, status, marker) in [
        ("http://x/v1/models", 200, "\"object\":\"list\""),
        ("http://health/v1/models", 200, "\"object\":\"list\""),
        (
            "HTTP://evil.example/health?/v1/models",
            200,
            "\"status\":\"ok\"",
        ),
        ("https://x/health", 200, "\"status\":\"ok\""),
        ("http://x", 404, "unknown_url"),
        ("http://u@x/health", 400, "target"),
        ("ftp://x/health", 400, "target"),
        ("x:80", 400, "target"),
        ("health", 400, "target"),
        ("*", 400, "target"),
        ("//health", 404, "unknown_url"),
        ("//x/health", 404, "unknown_url"),
        ("/health/", 404, "unknown_url"),
        ("/HEALTH", 404, "unknown_url"),
        ("/v1/../health", 404, "unknown_url"),
        ("/v1/%2e%2e/health", 404, "unknown_url"),
        ("/v1%2fmodels", 404, "unknown_url"),
        ("/health;x=/v1/models", 404, "unknown_url"),
        ("/health?x=/v1/models#y", 200, "\"status\":\"ok\""),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let said = server.raw(request.as_bytes()).await;
        assert_eq!(statuses(&said), [status], "{target}: {said}");
        assert!(said.contains(marker), "{target}: {said}");
    }
    assert_eq!(engine.times_asked(), 0);
}
