//! Redis away, slow, flapping.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use porthole::{
    caller::{Caller, Limits},
    config::OnRedisError,
    limits::{Limiter, What},
    metrics::Metrics,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::helpers::{RedisServer, ask, caller, free_port, shared, tokens, up_becomes};

fn daily() -> Arc<Caller> {
    let limits = Limits {
        tokens_per_day: Some(1_000_000),
        requests_per_minute: Some(100_000),
        ..Limits::default()
    };
    caller("key:a", limits)
}

/// Requests from eight tasks, until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<(u64, u64)>>,
}

impl Load {
    fn start(limiter: &Arc<Limiter>, caller: &Arc<Caller>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..8)
            .map(|_| {
                let (limiter, caller, stop) = (limiter.clone(), caller.clone(), stop.clone());
                tokio::spawn(async move {
                    let (mut passed, mut refused) = (0, 0);
                    while !stop.load(Ordering::Relaxed) {
                        match ask(&limiter, &caller, tokens(10)).await {
                            Ok(()) => passed += 1,
                            Err(error) => {
                                assert_eq!(error.what, What::Unavailable);
                                refused += 1;
                            }
                        }
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    (passed, refused)
                })
            })
            .collect();
        Self { stop, tasks }
    }

    /// Requests that passed, and that were refused.
    async fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut passed, mut refused) = (0, 0);
        for task in self.tasks {
            let counts = task.await.unwrap();
            passed += counts.0;
            refused += counts.1;
        }
        (passed, refused)
    }
}

/// Requests that Redis decided.
fn asked(metrics: &Metrics) -> u64 {
    let text = metrics.encode();
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("porthole_limits_redis_seconds_count "));
    count.unwrap().parse().unwrap()
}

/// Tokens of the day, as Redis has them.
fn day_tokens(server: &RedisServer) -> u64 {
    let keys: Vec<String> = server.query(redis::cmd("KEYS").arg("*{porthole:key:a}"));
    let hash = keys.iter().find(|key| !key.starts_with("inside:")).unwrap();
    server.query(redis::cmd("HGET").arg(hash).arg("day_tokens"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_is_done_without_and_taken_up_again() {
    for mode in [OnRedisError::Local, OnRedisError::Deny] {
        let mut server = RedisServer::start();
        let metrics = Arc::<Metrics>::default();
        let limiter = Limiter::new(&server.config(mode), metrics.clone()).unwrap();
        assert_eq!(metrics.limits_redis_up.get(), 1);
        let load = Load::start(&limiter, &daily());
        while asked(&metrics) < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        up_becomes(&metrics, false).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.run();
        up_becomes(&metrics, true).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (passed, refused) = load.stop().await;
        limiter.flush().await;
        let counted = day_tokens(&server);
        // What was asked when it died may be counted and refused, or passed here and be lost.
        let used = passed * 10;
        assert!(
            counted.abs_diff(used) <= 8 * 2 * 10,
            "{counted} of {used}, {mode:?}"
        );
        match mode {
            OnRedisError::Local => assert_eq!(refused, 0),
            OnRedisError::Deny => assert!(refused > 0),
        }
        assert!(metrics.limits_redis_errors.get() > 0);
    }
}

#[tokio::test]
async fn a_redis_that_comes_after_the_start_is_taken_up() {
    let mut server = RedisServer::start();
    server.kill();
    let metrics = Arc::<Metrics>::default();
    let local = Limiter::new(&server.config(OnRedisError::Local), metrics.clone()).unwrap();
    let deny = Limiter::new(&server.config(OnRedisError::Deny), Arc::default()).unwrap();
    ask(&local, &daily(), tokens(70)).await.unwrap();
    let refused = ask(&deny, &daily(), tokens(1)).await.unwrap_err();
    assert_eq!(refused.what, What::Unavailable);
    assert_eq!(refused.retry_after, Some(Duration::from_secs(1)));
    // Who has no limits needs no count.
    ask(&deny, &caller("key:free", Limits::default()), tokens(1))
        .await
        .unwrap();
    server.run();
    up_becomes(&metrics, true).await;
    local.flush().await;
    assert_eq!(day_tokens(&server), 70);
}

/// Stands between a limiter and its server.
struct Proxy {
    port: u16,
    open: watch::Sender<bool>,
    connections: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
}

impl Proxy {
    /// While `open` is false, connections are made and nothing passes.
    async fn start(to: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let open = watch::Sender::new(true);
        let connections = Arc::<Mutex<Vec<_>>>::default();
        let (states, kept) = (open.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let task = tokio::spawn(carry(client, to, states.subscribe()));
                kept.lock().unwrap().push(task);
            }
        });
        Self {
            port,
            open,
            connections,
        }
    }

    fn set(&self, open: bool) {
        self.open.send_replace(open);
    }

    fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

async fn carry(mut client: TcpStream, to: u16, mut open: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else {
        return;
    };
    loop {
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = open.wait_for(|open| !*open) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_redis_holds_up_a_request_or_two_and_not_the_rest() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let metrics = Arc::<Metrics>::default();
    let limiter = Limiter::new(&shared(&url, OnRedisError::Local), metrics.clone()).unwrap();
    let caller = daily();
    ask(&limiter, &caller, tokens(1)).await.unwrap();
    proxy.set(false);
    let mut slow = 0;
    for _ in 0..2_000 {
        let started = Instant::now();
        ask(&limiter, &caller, tokens(1)).await.unwrap();
        slow += u32::from(started.elapsed() > Duration::from_millis(5));
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    assert!(slow <= 20, "{slow} of 2000 requests waited");
    assert_eq!(metrics.limits_redis_up.get(), 0);
    proxy.set(true);
    up_becomes(&metrics, true).await;
    ask(&limiter, &caller, tokens(1)).await.unwrap();
    limiter.flush().await;
    // The late ones may be counted twice, here and there.
    let counted = day_tokens(&server);
    assert!((2_000..=2_010).contains(&counted), "{counted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_redis_lets_every_request_through() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let metrics = Arc::<Metrics>::default();
    let limiter = Limiter::new(&shared(&url, OnRedisError::Local), metrics.clone()).unwrap();
    let load = Load::start(&limiter, &daily());
    for round in 0..20 {
        tokio::time::sleep(Duration::from_millis(40)).await;
        proxy.cut();
        proxy.set(round % 2 == 0);
    }
    proxy.set(true);
    up_becomes(&metrics, true).await;
    let (passed, refused) = load.stop().await;
    assert_eq!(refused, 0);
    limiter.flush().await;
    let used = passed * 10;
    // Each cut may lose what the eight tasks had under way.
    let counted = day_tokens(&server);
    assert!(
        counted.abs_diff(used) <= 20 * 8 * 10 * 2,
        "{counted} of {used}"
    );
}

#[tokio::test]
async fn the_password_of_redis_is_never_told() {
    const PASSWORD: &str = "canary-4711";
    let server = RedisServer::with_password(Some(PASSWORD));
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer({
            let log = log.clone();
            move || log.clone()
        })
        .finish();
    // The limiter has a thread of its own, so the log must be everybody's.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let metrics = Arc::<Metrics>::default();
    let limiter = Limiter::new(&server.config(OnRedisError::Deny), metrics.clone()).unwrap();
    ask(&limiter, &daily(), tokens(1)).await.unwrap();
    let wrong = format!("redis://:{PASSWORD}-wrong@127.0.0.1:{}", server.port);
    Limiter::new(&shared(&wrong, OnRedisError::Local), Arc::default()).unwrap();
    let gone = format!("redis://:{PASSWORD}@127.0.0.1:{}", free_port());
    Limiter::new(&shared(&gone, OnRedisError::Local), Arc::default()).unwrap();
    for bad in [
        "http://:canary-4711@x",
        "redis://:canary-4711@",
        "redis//canary-4711",
    ] {
        let error = Limiter::new(&shared(bad, OnRedisError::Local), Arc::default());
        let error = error.err().unwrap();
        assert!(
            error.contains("redis_url") && !error.contains(PASSWORD),
            "{error}"
        );
    }
    let text = log.text();
    assert!(text.contains("Redis cannot be reached"), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
