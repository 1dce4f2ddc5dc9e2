//! URLs that would have the server ask something inside: none is connected to, and no answer tells
//! what is there.

mod dns;
mod urls;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use porthole::{
    config::ImagesConfig,
    media::fetch::{FetchError, Fetcher, SETTLE},
    state::EngineState,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    fake_engine::FakeEngine,
    helpers::{TestServer, about, config, start},
};
use dns::DnsServer;
use urls::{Class, URLS};

/// Listens where nobody may come, on every IPv4 address of this machine and, where there is one, on
/// the loopback of IPv6. Returns the port and how many connections came.
async fn canary() -> (u16, Arc<AtomicUsize>) {
    let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = v4.local_addr().unwrap().port();
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await.ok();
    let connections = Arc::new(AtomicUsize::new(0));
    for listener in [Some(v4), v6].into_iter().flatten() {
        let counted = connections.clone();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = socket.read(&mut [0; 4096]).await;
                let _ = socket
                    .write_all(b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n")
                    .await;
            }
        });
    }
    (port, connections)
}

fn inner_refused(change: impl FnOnce(&mut ImagesConfig)) -> ImagesConfig {
    let mut limits = config().images;
    limits.allow_private_addresses = false;
    limits.fetch_timeout = 3;
    change(&mut limits);
    limits
}

fn server(images: ImagesConfig) -> (TestServer, Arc<FakeEngine>) {
    let engine = FakeEngine::new();
    let mut config = config();
    config.images = images;
    (start(config, EngineState::Loaded(engine.clone())), engine)
}

async fn ask(server: &TestServer, url: &str) -> (u16, Value, Duration) {
    let started = Instant::now();
    let (status, json) = server.ask(&about(url, "x")).await;
    (status, json, started.elapsed())
}

#[tokio::test]
async fn no_url_reaches_what_is_inside() {
    let (server, engine) = server(inner_refused(|_| {}));
    let (port, connections) = canary().await;
    assert!(URLS.len() >= 120, "only {}", URLS.len());
    // What every refusal by address must look like: a host that is not there.
    let (_, absent, _) = ask(&server, "http://no-such-host.invalid/").await;
    assert_eq!(absent["error"]["code"], "image_fetch_failed");
    stream::iter(URLS.iter().enumerate())
        .for_each_concurrent(16, |(i, (url, class))| {
            // A path of its own: two spellings of one URL would share a fetch, and its end.
            let url = url.replace("{p}", &port.to_string());
            let url = url.replace("a.png", &format!("{i}.png"));
            let (server, absent) = (&server, &absent);
            async move {
                let (status, json, elapsed) = ask(server, &url).await;
                assert_eq!(status, 400, "{url:?}: {json}");
                match class {
                    Class::Unreachable => {
                        assert_eq!(&json, absent, "{url:?}");
                        assert!(elapsed >= SETTLE, "{url:?} was told after {elapsed:?}");
                    }
                    Class::Invalid => {
                        assert_eq!(
                            json["error"]["code"], "invalid_image_url",
                            "{url:?}: {json}"
                        );
                    }
                }
            }
        })
        .await;
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    assert_eq!(engine.times_asked(), 0);
    // The canary can be reached: it is the policy that keeps away.
    let open = Fetcher::new(&config().images).unwrap();
    let url = open
        .parse(format!("http://127.0.0.1:{port}/").as_bytes())
        .unwrap();
    assert!(matches!(
        open.get(url, None).await,
        Err(FetchError::Status(204))
    ));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_port_the_scheme_and_the_domain_are_the_configurations() {
    let (server, _) = server(ImagesConfig {
        https_only: true,
        deny_domains: vec!["evil.example".into()],
        ..ImagesConfig::default()
    });
    for (url, word) in [
        ("http://example.com/a.png", "https"),
        ("https://example.com:8443/a.png", "port"),
        ("https://example.com:80000/a.png", "valid"),
        ("https://evil.example/a.png", "domain"),
        ("https://a.EVIL.example./a.png", "domain"),
        ("https://user:secret@example.com/a.png", "credentials"),
    ] {
        let (status, json, _) = ask(&server, url).await;
        assert_eq!(status, 400);
        assert_eq!(json["error"]["code"], "invalid_image_url", "{url}: {json}");
        let message = json["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{url}: {message}");
        assert!(!message.contains("secret"));
    }
}

#[tokio::test]
async fn no_answer_of_a_name_server_reaches_what_is_inside() {
    let dns = DnsServer::start().await;
    let (port, connections) = canary().await;
    let judging = &Fetcher::with_resolver(&inner_refused(|_| {}), dns.lookup()).unwrap();
    let names: Vec<String> = dns::ANSWERS
        .iter()
        .map(|(name, _)| (*name).to_string())
        .collect();
    assert!(names.len() >= 30, "only {}", names.len());
    stream::iter(&names)
        .for_each_concurrent(16, |name| async move {
            let started = Instant::now();
            let url = format!("http://{name}.example.test:{port}/a.png");
            let url = judging.parse(url.as_bytes()).unwrap();
            let result = judging.get(url, None).await;
            assert!(
                matches!(result, Err(FetchError::Unreachable)),
                "{name}: {result:?}"
            );
            assert!(started.elapsed() >= SETTLE, "{name}");
        })
        .await;
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    assert!(dns.queries() >= 2 * names.len());
    // The same answer, where private addresses are allowed, leads there.
    let open = Fetcher::with_resolver(&config().images, dns.lookup()).unwrap();
    let url = format!("http://loopback.example.test:{port}/");
    let url = open.parse(url.as_bytes()).unwrap();
    assert!(matches!(
        open.get(url, None).await,
        Err(FetchError::Status(204))
    ));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_name_that_is_bound_anew_after_each_answer_reaches_nothing_in_1000_tries() {
    let dns = DnsServer::start().await;
    let (port, connections) = canary().await;
    let fetcher = Fetcher::with_resolver(&inner_refused(|_| {}), dns.lookup()).unwrap();
    stream::iter(0..1000)
        .for_each_concurrent(500, |_| async {
            let url = format!("http://rebinding.example.test:{port}/a.png");
            let url = fetcher.parse(url.as_bytes()).unwrap();
            let result = fetcher.get(url, None).await;
            assert!(matches!(result, Err(FetchError::Unreachable)), "{result:?}");
        })
        .await;
    assert!(dns.queries() >= 1000);
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

/// A proxy that plays the whole internet: every path `/STATUS/TARGET` redirects to the target, all
/// else is a picture. Returns its address and every request line it has had.
async fn internet() -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let lines = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let lines = lines.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 8192];
                let n = socket.read(&mut request).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&request[..n]).into_owned();
                let line = head.lines().next().unwrap_or("").to_string();
                let url = line.split(' ').nth(1).unwrap_or("").replace("%5C", "\\");
                lines.lock().unwrap().push(line);
                let redirect = url
                    .strip_prefix("http://public.example/to/")
                    .and_then(|rest| rest.split_once('/'));
                let answer = match redirect {
                    Some((status, target)) => format!(
                        "HTTP/1.1 {status} x\r\nlocation: {target}\r\nset-cookie: a=b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    ),
                    None if url.contains("forbidden") => {
                        "HTTP/1.1 403 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into()
                    }
                    None => {
                        "HTTP/1.1 200 x\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc".into()
                    }
                };
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn no_redirect_reaches_what_is_inside() {
    let (proxy, asked) = internet().await;
    let fetcher = Fetcher::new(&inner_refused(|limits| limits.proxy = proxy)).unwrap();
    let inner = [
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://0x7f000001/",
        "http://localhost/",
        "http://intranet/",
        "//10.0.0.1/",
        "http://metadata.google.internal/computeMetadata/v1/",
    ];
    let wrong = [
        "file:///etc/passwd",
        "gopher://127.0.0.1:70/_x",
        "ftp://127.0.0.1/",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "http://user@127.0.0.1/",
        "http:/127.0.0.1/",
        "http:127.0.0.1",
        "///127.0.0.1/",
        "http://127.0.0.1\\@public.example/",
        "\\\\127.0.0.1\\",
        "http://[::1",
    ];
    let mut cases = Vec::new();
    for status in [301, 302, 303, 307, 308] {
        cases.extend(inner.iter().map(|target| (status, *target, true)));
        cases.extend(wrong.iter().map(|target| (status, *target, false)));
    }
    assert!(cases.len() > 100);
    let get = async |path: String| {
        let url = fetcher
            .parse(format!("http://public.example{path}").as_bytes())
            .unwrap();
        fetcher.get(url, None).await
    };
    stream::iter(&cases)
        .for_each_concurrent(32, |(status, target, is_inner)| {
            // The target travels in the path, which keeps all but a backslash.
            let path = format!("/to/{status}/{target}");
            let fetcher = &fetcher;
            async move {
                let url = format!("http://public.example{}", path.replace('\\', "%5C"));
                let Ok(url) = fetcher.parse(url.as_bytes()) else {
                    panic!("{path} is no path");
                };
                let result = fetcher.get(url, None).await;
                match result {
                    Err(FetchError::Unreachable) if *is_inner => {}
                    Err(FetchError::Url(_)) if !is_inner => {}
                    other => panic!("{status} {target}: {other:?}"),
                }
            }
        })
        .await;
    // What is no redirect is none, whatever its location says.
    for status in [300, 304, 305, 306] {
        let result = get(format!("/to/{status}/http://other.example/")).await;
        assert!(
            matches!(result, Err(FetchError::Unreachable)),
            "{status}: {result:?}"
        );
    }
    let chain = get("/to/302/http://public.example/to/302/http://public.example/to/302/http://public.example/to/302/x".into()).await;
    assert!(matches!(chain, Err(FetchError::Redirects(3))), "{chain:?}");
    // The proxy's own refusal is the one message too.
    let forbidden = get("/forbidden".into()).await;
    assert!(
        matches!(forbidden, Err(FetchError::Unreachable)),
        "{forbidden:?}"
    );
    assert!(get("/to/302/http://other.example/x".into()).await.is_ok());
    for line in asked.lock().unwrap().iter() {
        let host = line.split('/').nth(2).unwrap_or("");
        assert!(
            ["public.example", "other.example"].contains(&host),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_refused_address_and_a_closed_port_cannot_be_told_apart() {
    let (refusing, _) = server(inner_refused(|_| {}));
    let (open, _) = server(ImagesConfig {
        fetch_timeout: 3,
        ..config().images
    });
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = format!("http://127.0.0.1:{port}/a.png");
    let absent = format!("http://no-such-host.invalid:{port}/a.png");
    let mut answers = Vec::new();
    for (server, url) in [(&refusing, &url), (&open, &url), (&refusing, &absent)] {
        let started = Instant::now();
        let response = server.chat(&about(url, "x")).await;
        let status = response.status().as_u16();
        answers.push((status, response.bytes().await.unwrap()));
        assert!(started.elapsed() >= SETTLE);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    let json: Value = serde_json::from_slice(&answers[0].1).unwrap();
    assert_eq!(json["error"]["code"], json!("image_fetch_failed"));
}

const ALONE: &str = "PORTHOLE_TEST_ALONE";

/// In a process of its own, with a proxy in its environment.
#[tokio::test]
async fn the_environments_proxy_is_never_asked() {
    let (port, connections) = canary().await;
    if let Ok(target) = std::env::var(ALONE) {
        let fetcher = Fetcher::new(&config().images).unwrap();
        let url = fetcher.parse(target.as_bytes()).unwrap();
        let result = fetcher.get(url, None).await;
        assert!(matches!(result, Err(FetchError::Status(204))), "{result:?}");
        return;
    }
    let (proxy, proxied) = canary().await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "ssrf::the_environments_proxy_is_never_asked"]);
    child.env(ALONE, format!("http://127.0.0.1:{port}/"));
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "all_proxy",
        "ALL_PROXY",
    ] {
        child.env(name, format!("http://127.0.0.1:{proxy}/"));
    }
    let output = tokio::task::spawn_blocking(move || child.output())
        .await
        .unwrap();
    assert!(output.unwrap().status.success());
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert_eq!(proxied.load(Ordering::SeqCst), 0);
}
