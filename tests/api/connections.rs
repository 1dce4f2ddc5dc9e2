//! Clients that are slow, silent, gone or too many.

use std::{
    fs,
    time::{Duration, Instant},
};

use porthole::{config::Config, state::EngineState};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{
    fake_engine::FakeEngine,
    helpers::{TestServer, config, read_to_end, start, user},
};

/// Limits short enough to wait for.
fn impatient() -> Config {
    let mut config = config();
    config.server.header_timeout = 1;
    config.server.idle_timeout = 1;
    config.server.write_timeout = 1;
    config.server.body_timeout = 2;
    config.server.max_connections_per_address = 1000;
    config
}

fn started(config: Config) -> (TestServer, std::sync::Arc<FakeEngine>) {
    let engine = FakeEngine::new();
    (start(config, EngineState::Loaded(engine.clone())), engine)
}

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.address()).await.unwrap()
}

/// Sends `head`, then one byte at a time until the server closes; what it said.
async fn trickle(server: &TestServer, head: &[u8], byte: &[u8]) -> String {
    let mut socket = connect(server).await;
    socket.write_all(head).await.unwrap();
    let (mut reading, mut writing) = socket.into_split();
    let byte = byte.to_vec();
    let writer = tokio::spawn(async move {
        while writing.write_all(&byte).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let said = read_to_end(&mut reading).await;
    writer.abort();
    said
}

fn endless() -> String {
    let mut body = user("endless");
    body["stream"] = true.into();
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sockets of this process's server at a port, in any state but listening.
fn sockets_at(server: &TestServer) -> usize {
    let port: u16 = server
        .address()
        .rsplit_once(':')
        .unwrap()
        .1
        .parse()
        .unwrap();
    let local = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let owned = |row: &&str| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        // Local address, state (0A listens), inode (0 once no descriptor is left).
        fields[1].ends_with(&local) && fields[3] != "0A" && fields[9] != "0"
    };
    table.lines().skip(1).filter(owned).count()
}

#[tokio::test]
async fn a_slow_head_is_answered_408_and_a_slow_second_head_is_cut() {
    let (server, _) = started(impatient());
    let said = trickle(
        &server,
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"a",
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    let second =
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    let said = trickle(&server, second, b"a").await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
    server.metric_becomes("porthole_connections", 0.0).await;
}

#[tokio::test]
async fn silent_connections_are_closed_whatever_they_did_before() {
    let (server, _) = started(impatient());
    for sent in [
        &b""[..],
        b"G",
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nG",
        // The rest of a body that nobody reads.
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhel",
    ] {
        let said = server.raw(sent).await;
        assert!(said.matches("HTTP/1.1 ").count() <= 1, "{said}");
    }
    let head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let said = trickle(&server, head, b"1\r\na\r\n").await;
    assert!(said.starts_with("HTTP/1.1 404"), "{said}");
    server.metric_becomes("porthole_connections", 0.0).await;
}

#[tokio::test]
async fn a_connection_in_use_outlives_the_idle_limit() {
    let mut config = impatient();
    config.server.keep_alive_interval = 1;
    let (server, engine) = started(config);
    let mut body = user("hang");
    body["stream"] = true.into();
    let mut response = server.chat(&body).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        assert!(response.chunk().await.unwrap().is_some());
    }
    drop(response);
    server.metric_becomes("porthole_connections", 0.0).await;
    assert_eq!(engine.times_asked(), 1);
}

#[tokio::test]
async fn idle_connections_are_kept_for_their_time() {
    let mut config = impatient();
    config.server.idle_timeout = 30;
    let (server, _) = started(config);
    let mut socket = connect(&server).await;
    for _ in 0..3 {
        socket
            .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0; 2048];
        let read = socket.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
        // Longer than a head may take.
        let more = timeout(Duration::from_millis(2500), socket.read(&mut answer)).await;
        assert!(more.is_err(), "closed or answered: {more:?}");
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_and_its_place_comes_back() {
    let mut config = impatient();
    // Of four places a caller takes two at most.
    config.server.max_concurrent_requests = 4;
    let (server, engine) = started(config);
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut socket = connect(&server).await;
        socket.write_all(endless().as_bytes()).await.unwrap();
        let mut some = [0; 1000];
        socket.read_exact(&mut some).await.unwrap();
        readers.push(socket);
    }
    assert_eq!(engine.running.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert_eq!(server.ask(&user("hi")).await.0, 503);
    let started = Instant::now();
    while engine.running.load(std::sync::atomic::Ordering::SeqCst) > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "still running");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.ask(&user("hi")).await.0, 200);
    assert_eq!(readers.len(), 2, "they were open to the end");
}

#[tokio::test]
async fn a_client_that_reads_on_is_not_cut() {
    let (server, engine) = started(impatient());
    let mut socket = connect(&server).await;
    socket.write_all(endless().as_bytes()).await.unwrap();
    let mut some = vec![0; 64 << 10];
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        // Slower than the engine talks: the server mostly waits to write.
        socket.read_exact(&mut some).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(engine.running.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_address_and_all_together_have_only_so_many_connections() {
    let mut config = config();
    config.server.max_connections_per_address = 3;
    config.server.max_connections = 5;
    let (server, _) = started(config.clone());
    let health = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(connect(&server).await);
    }
    server.metric_becomes("porthole_connections", 3.0).await;
    assert_eq!(server.raw(health).await, "");
    let refused = "porthole_connections_refused_total{reason=\"address\"}";
    assert_eq!(server.metric(refused).await, 1.0);
    open.pop();
    server.metric_becomes("porthole_connections", 2.0).await;
    assert!(server.raw(health).await.starts_with("HTTP/1.1 200"));

    // Proxies that are trusted count in all only.
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let (server, _) = started(config);
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(connect(&server).await);
    }
    server.metric_becomes("porthole_connections", 5.0).await;
    assert_eq!(server.raw(health).await, "");
    let refused = "porthole_connections_refused_total{reason=\"all\"}";
    assert_eq!(server.metric(refused).await, 1.0);
    drop(open);
    server.metric_becomes("porthole_connections", 0.0).await;
    assert!(server.raw(health).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_and_the_connection_ends() {
    let (server, engine) = started(impatient());
    let get = |target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
    };
    let long = |n: usize| "a".repeat(n);
    let many: String = (0..200).map(|i| format!("X-{i}: 1\r\n")).collect();
    for (what, request, expected) in [
        (
            "one large header",
            get("/health", &format!("X: {}\r\n", long(140 << 10))),
            "431",
        ),
        (
            "an endless header",
            format!("GET / HTTP/1.1\r\nX: {}", long(300 << 10)),
            "431",
        ),
        ("200 headers", get("/health", &many), "431"),
        (
            "a long URL",
            get(&format!("/{}", long(70 << 10)), ""),
            "400",
        ),
        (
            "a long method",
            format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", long(140 << 10)),
            "431",
        ),
        (
            "a long name",
            get("/health", &format!("{}: x\r\n", long(66 << 10))),
            "400",
        ),
    ] {
        let said = server.raw(request.as_bytes()).await;
        // What is unread when a connection closes can reset it before the answer is seen.
        let fine = said.is_empty()
            || said.starts_with(&format!("HTTP/1.1 {expected}"))
            || said.starts_with("HTTP/1.1 400");
        assert!(fine, "{what}: {}", &said[..said.len().min(300)]);
        let body = said.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(body.is_empty() || body.starts_with('{'), "{what}: {body}");
    }
    let fits = get("/health", &format!("X: {}\r\n", long(30 << 10)));
    assert!(
        server
            .raw(fits.as_bytes())
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(engine.times_asked(), 0);
    server.metric_becomes("porthole_connections", 0.0).await;
}

/// Milliseconds that half and 99 % of the requests took at most, of clients that each ask for a while.
async fn clean(server: &TestServer, clients: usize, each: usize) -> [f64; 2] {
    let mut asking = JoinSet::new();
    for _ in 0..clients {
        let (client, base) = (reqwest::Client::new(), server.base.clone());
        asking.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..each {
                let started = Instant::now();
                let url = format!("{base}/v1/chat/completions");
                let response = client.post(url).json(&user("clean")).send().await.unwrap();
                assert_eq!(response.status(), 200);
                assert!(response.text().await.unwrap().contains("clean"));
                times.push(started.elapsed().as_secs_f64() * 1000.0);
            }
            times
        });
    }
    let mut times = asking.join_all().await.concat();
    times.sort_by(f64::total_cmp);
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_slow_clients_do_not_keep_clean_ones_out() {
    let mut config = impatient();
    config.server.header_timeout = 3;
    // Clean clients must not find their idle connections closed under them.
    config.server.idle_timeout = 30;
    let (server, engine) = started(config);
    let alone = clean(&server, 10, 40).await;
    let mut attacks = JoinSet::new();
    for i in 0..500 {
        let address = server.address().to_string();
        attacks.spawn(async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            match i % 4 {
                // Heads (-H), bodies (-B), answers (-X), and ranges of a large one (-R).
                0 => drip(socket, "GET /health HTTP/1.1\r\nHost: x\r\nX: ", "a").await,
                1 => drip(
                    socket,
                    "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n",
                    "{",
                )
                .await,
                2 => {
                    socket.write_all(endless().as_bytes()).await.unwrap();
                    // Reads nothing until it is cut off: then the rest, and the end.
                    let _ = timeout(
                        Duration::from_secs(20),
                        socket.ready(tokio::io::Interest::ERROR),
                    )
                    .await;
                }
                _ => {
                    let ranges = "5-,".repeat(5000);
                    let head = format!("GET /health HTTP/1.1\r\nHost: x\r\nRange: bytes={ranges}");
                    drip(socket, &head, "1-,").await;
                }
            }
        });
    }
    let attacked = clean(&server, 10, 40).await;
    attacks.join_all().await;
    eprintln!("clean clients, p50 and p99 in ms: alone {alone:.1?}, attacked {attacked:.1?}");
    // What is left are the clean clients' own, which have gone too.
    server.metric_becomes("porthole_connections", 0.0).await;
    assert_eq!(sockets_at(&server), 0);
    assert_eq!(engine.running.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(server.ask(&user("hi")).await.0, 200);
}

/// Sends `start`, then a little at a time until the server closes.
async fn drip(mut socket: TcpStream, start: &str, more: &str) {
    socket.write_all(start.as_bytes()).await.unwrap();
    let started = Instant::now();
    while socket.write_all(more.as_bytes()).await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(20), "never closed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
