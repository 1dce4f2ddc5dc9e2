//! Servers behind the nginx that is shipped (`deploy/nginx/nginx.conf`): what it must pass on as it
//! is, what it does when a server is gone.

mod process;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use futures::StreamExt;
use process::{Keys, Server, nginx::Nginx};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

/// As `client_max_body_size` and `server.max_body_bytes`.
const LARGEST_BODY: usize = 100 << 20;
/// Long enough to see its tokens come, or to be interrupted.
const LONG: usize = 1200;

/// nginx in front of as many servers as said, and a key.
async fn behind_nginx(servers: usize) -> (Nginx, Vec<Server>, Keys) {
    let mut keys = Keys::new();
    keys.create("partner", &[]);
    let settings = [("PORTHOLE__SERVER__TRUSTED_PROXIES", "[\"127.0.0.1/32\"]")];
    let started = (0..servers).map(|_| Server::start(&keys, &settings));
    let servers = futures::future::join_all(started).await;
    let bases: Vec<&str> = servers.iter().map(|server| server.base.as_str()).collect();
    (Nginx::start(&bases), servers, keys)
}

fn question(most: usize) -> Value {
    json!({"model": "demo", "max_completion_tokens": most, "messages": [{"role": "user", "content": "Hi"}]})
}

/// An answer of [`LONG`] tokens: " red" again and again.
fn long_stream() -> Value {
    let tokenizer = std::fs::read("models/demo/tokenizer.json").unwrap();
    let tokenizer: Value = serde_json::from_slice(&tokenizer).unwrap();
    let red = tokenizer["model"]["vocab"]["Ġred"].to_string();
    let mut body = question(LONG);
    body["stream"] = json!(true);
    body["logit_bias"] = json!({ red: 100 });
    body
}

fn post(client: &Client, nginx: &Nginx, keys: &Keys, id: &str) -> RequestBuilder {
    client
        .post(format!("{}/v1/chat/completions", nginx.base))
        .bearer_auth(&keys.of["partner"])
        .header("x-request-id", id)
}

async fn ask(nginx: &Nginx, keys: &Keys, id: &str) -> Response {
    let request = post(&Client::new(), nginx, keys, id).json(&question(2));
    request.send().await.unwrap()
}

fn request_id(response: &Response) -> &str {
    response.headers()["x-request-id"].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_when_they_are_made() {
    let (nginx, servers, keys) = behind_nginx(1).await;
    let request = post(&Client::new(), &nginx, &keys, "stream").json(&long_stream());
    let sent = Instant::now();
    let mut chunks = request.send().await.unwrap().bytes_stream();
    let (mut came, mut text) = (Vec::new(), String::new());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.unwrap();
        let chunk = std::str::from_utf8(&chunk).unwrap();
        if chunk.contains(" red") {
            came.push(sent.elapsed());
        }
        text.push_str(chunk);
    }
    assert!(text.ends_with("data: [DONE]\n\n"));
    let line = servers[0].audit("stream").await;
    assert_eq!(line["completion_tokens"], LONG, "{line}");
    // One after the other. Buffered, they would come in bursts, a buffer's size each: sixteen tokens.
    let apart = (came[came.len() - 1] - came[0]) / LONG as u32 / 4;
    let alone = came.windows(2).filter(|pair| pair[1] - pair[0] > apart);
    let alone = alone.count();
    assert!(
        alone > LONG / 4,
        "{alone} of {LONG} tokens came by themselves"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_body_passes_and_a_larger_one_is_refused_as_porthole_would() {
    let (nginx, _servers, keys) = behind_nginx(1).await;
    let mut body = question(2).to_string().into_bytes();
    body.resize(LARGEST_BODY, b' ');
    let request = post(&Client::new(), &nginx, &keys, "large")
        .header("content-type", "application/json")
        .body(body);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);

    // Only the head: nginx refuses by the length it declares.
    let address = nginx.base.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).unwrap();
    let timeout = Some(Duration::from_secs(10));
    connection.set_read_timeout(timeout).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: larger\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        LARGEST_BODY + 1
    );
    connection.write_all(head.as_bytes()).unwrap();
    let mut answer = vec![0; 4096];
    let read = connection.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = format!("{head}\r\n");
    assert!(head.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(head.contains("X-Request-Id: larger\r\n"), "{answer}");
    assert!(
        head.contains("Content-Type: application/json\r\n"),
        "{answer}"
    );
    let error = &serde_json::from_str::<Value>(body).unwrap()["error"];
    assert_eq!(error["code"], "request_too_large");
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error["message"].is_string() && error["param"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_address_and_the_requests_id_lead_through_both_logs() {
    let (nginx, servers, keys) = behind_nginx(1).await;
    // From another loopback address than nginx's own, which is trusted.
    let client = Client::builder()
        .local_address(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)))
        .build()
        .unwrap();
    let claim =
        |request: RequestBuilder| request.header("x-forwarded-for", "203.0.113.9, 127.0.0.1");
    let request = claim(post(&client, &nginx, &keys, "mine.1")).json(&question(2));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(request_id(&response), "mine.1");
    let line = servers[0].audit("mine.1").await;
    assert_eq!(line["client"], "127.0.0.2", "{line}");

    // What is no id is replaced, by one that both tell.
    let request = post(&client, &nginx, &keys, "not an id").json(&question(2));
    let response = request.send().await.unwrap();
    let made = request_id(&response).to_string();
    assert!(
        made.len() == 32 && made.bytes().all(|b| b.is_ascii_hexdigit()),
        "{made}"
    );
    servers[0].audit(&made).await;
    response.bytes().await.unwrap();
    let logged = nginx.logged(&made).await;
    assert_eq!(logged["client"], "127.0.0.2");
    assert_eq!(logged["status"], 200);
    assert!(!logged.to_string().contains(keys.of["partner"].as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_http_2_end_at_nginx() {
    let (nginx, servers, keys) = behind_nginx(1).await;
    // curl, since the SDKs' HTTP/2 is not in this build's client.
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--http2",
            "--noproxy",
            "*",
            "--cacert",
        ])
        .arg(nginx.certificate())
        .args(["--write-out", "\n%{http_version} %{http_code}"])
        .args([
            "-H",
            &format!("Authorization: Bearer {}", keys.of["partner"]),
        ])
        .args([
            "-H",
            "Content-Type: application/json",
            "-H",
            "X-Request-Id: h2",
        ])
        .args(["--data", &question(2).to_string()])
        .arg(format!("{}/v1/chat/completions", nginx.tls_base))
        .output()
        .expect("curl");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let (body, version) = said.rsplit_once('\n').unwrap_or_default();
    assert_eq!(version, "2 200", "{said} {complaint}");
    let answer: Value = serde_json::from_str(body).unwrap();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(servers[0].audit("h2").await["client"], "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_ends_the_generation() {
    let (nginx, servers, keys) = behind_nginx(1).await;
    let request = post(&Client::new(), &nginx, &keys, "gone").json(&long_stream());
    let mut chunks = request.send().await.unwrap().bytes_stream();
    chunks.next().await.unwrap().unwrap();
    drop(chunks);
    let line = servers[0].audit("gone").await;
    assert_eq!(line["outcome"], "disconnected", "{line}");
    let made = line["completion_tokens"].as_u64().unwrap();
    assert!(made < LONG as u64 / 2, "{made} tokens were made for nobody");
    assert_eq!(ask(&nginx, &keys, "next").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_costs_no_request_and_is_left_out() {
    let (nginx, mut servers, keys) = behind_nginx(2).await;
    let dead = servers.remove(0);
    let address = dead.base.trim_start_matches("http://").to_string();
    drop(dead);
    for i in 0..12 {
        let response = ask(&nginx, &keys, &format!("after-{i}")).await;
        assert_eq!(response.status(), 200);
    }
    let mut tried = 0;
    for i in 0..12 {
        let logged = nginx.logged(&format!("after-{i}")).await;
        tried += usize::from(logged["upstream"].as_str().unwrap().contains(&address));
    }
    // Three failures leave it out for two seconds, in each of the workers; these requests take longer.
    assert!((1..=10).contains(&tried), "it was tried {tried} times");
    // With none left the answer is a JSON error that says when to come again.
    drop(servers);
    let response = ask(&nginx, &keys, "none").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(request_id(&response), "none");
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"]["code"], "upstream_unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_has_begun_is_not_asked_for_again() {
    let (nginx, mut servers, keys) = behind_nginx(2).await;
    let request = post(&Client::new(), &nginx, &keys, "begun").json(&long_stream());
    let mut chunks = request.send().await.unwrap().bytes_stream();
    let mut text = chunks.next().await.unwrap().unwrap().to_vec();
    let running = servers[0].metrics_named("porthole_requests_running").await;
    let busy = usize::from(running == 0.0);
    servers[busy].kill();
    while let Some(Ok(chunk)) = chunks.next().await {
        text.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.starts_with("data: "), "{text}");
    assert!(
        !text.contains("[DONE]"),
        "it was whole: the wrong one was killed"
    );
    // The one that lives was asked for nothing; and it answers.
    assert_eq!(ask(&nginx, &keys, "alive").await.status(), 200);
    let alive = &servers[1 - busy];
    alive.audit("alive").await;
    assert_eq!(alive.audit_line("begun"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_with_503_is_tried_on_another_server() {
    let mut keys = Keys::new();
    keys.create("partner", &[]);
    // Its caller with a limit is refused with 503, since there is no Redis to count in.
    let refusing = [
        ("PORTHOLE__LIMITS__REDIS_URL", "redis://127.0.0.1:1"),
        ("PORTHOLE__LIMITS__ON_REDIS_ERROR", "deny"),
        ("PORTHOLE__LIMITS__DEFAULT", "{requests_per_minute=1000}"),
    ];
    let refusing = Server::start(&keys, &refusing).await;
    let serving = Server::start(&keys, &[]).await;
    let nginx = Nginx::start(&[&refusing.base, &serving.base]);
    let refusing = refusing.base.trim_start_matches("http://");
    let mut refused = 0;
    for i in 0..6 {
        let id = format!("twice-{i}");
        let response = ask(&nginx, &keys, &id).await;
        assert_eq!(response.status(), 200);
        assert_eq!(request_id(&response), id);
        response.bytes().await.unwrap();
        let upstream = nginx.logged(&id).await["upstream"].clone();
        refused += usize::from(upstream.as_str().unwrap().starts_with(refusing));
    }
    assert!(refused > 0, "the refusing server was never asked");
}
