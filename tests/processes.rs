//! The binary as processes of their own: limits shared through one Redis, and memory under load.

mod process;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use process::{Keys, Server, redis_server::RedisServer};
use reqwest::Client;
use serde_json::json;

/// One test at a time: each has processes of its own, which share the machine as it is.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn ask(base: &str, key: &str) -> u16 {
    let body = json!({"model": "demo", "max_completion_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]});
    let url = format!("{base}/v1/chat/completions");
    let sent = Client::new()
        .post(url)
        .bearer_auth(key)
        .json(&body)
        .send()
        .await;
    let response = sent.unwrap();
    let status = response.status().as_u16();
    if matches!(status, 429 | 503) {
        assert!(
            response.headers().contains_key("retry-after"),
            "a {status} without Retry-After"
        );
    }
    response.bytes().await.unwrap();
    status
}

async fn two(keys: &Keys, redis: &RedisServer, on_error: &str) -> [Server; 2] {
    let url = redis.url();
    let settings = [
        ("PORTHOLE__LIMITS__REDIS_URL", url.as_str()),
        ("PORTHOLE__LIMITS__ON_REDIS_ERROR", on_error),
    ];
    [
        Server::start(keys, &settings).await,
        Server::start(keys, &settings).await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_give_one_quota() {
    let _alone = ALONE.lock().await;
    let mut keys = Keys::new();
    keys.create("partner", &["--rpm", "20"]);
    keys.create("other", &["--rpm", "20"]);
    let redis = RedisServer::start();
    let servers = two(&keys, &redis, "deny").await;
    for name in ["partner", "other"] {
        let asked = (0..60).map(|i| ask(&servers[i % 2].base, &keys.of[name]));
        let statuses = futures::future::join_all(asked).await;
        let served = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(served, 20, "{name}: {statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 429)));
    }
}

/// Redis dies under load and comes back; `while_away` says what clients may see meanwhile.
async fn outage(on_error: &str, while_away: u16) {
    let mut keys = Keys::new();
    keys.create("partner", &["--rpm", "1000000", "--tpm", "100000000"]);
    let mut redis = RedisServer::start();
    let servers = Arc::new(two(&keys, &redis, on_error).await);
    let over = Arc::new(AtomicBool::new(false));
    let strange = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..6)
        .map(|i| {
            let (servers, key) = (servers.clone(), keys.of["partner"].clone());
            let (over, strange) = (over.clone(), strange.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    if !matches!(ask(&servers[i % 2].base, &key).await, 200 | 503) {
                        strange.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    for _ in 0..2 {
        redis.kill();
        up_becomes(&servers, 0.0).await;
        for server in servers.iter() {
            assert_eq!(ask(&server.base, &keys.of["partner"]).await, while_away);
        }
        redis.run();
        up_becomes(&servers, 1.0).await;
        for server in servers.iter() {
            assert_eq!(ask(&server.base, &keys.of["partner"]).await, 200);
        }
    }
    over.store(true, Ordering::SeqCst);
    for load in load {
        load.await.unwrap();
    }
    assert_eq!(
        strange.load(Ordering::SeqCst),
        0,
        "something else than 200 and 503 was answered"
    );
}

/// Recovery is by itself, and within five seconds.
async fn up_becomes(servers: &[Server; 2], expected: f64) {
    let started = Instant::now();
    for server in servers {
        while server.metric("porthole_limits_redis_up").await != expected {
            assert!(
                started.elapsed() < Duration::from_secs(6),
                "limits_redis_up is not {expected}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_counts_for_itself_while_redis_is_away() {
    let _alone = ALONE.lock().await;
    outage("local", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_with_limits_is_served_while_redis_is_away_if_so_configured() {
    let _alone = ALONE.lock().await;
    outage("deny", 503).await;
}

fn noise(bytes: u32) -> String {
    let noise: Vec<u8> = (0..bytes)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let url = format!(
        "data:image/png;base64,{}",
        base64_simd::STANDARD.encode_to_string(&noise)
    );
    json!({"model": "demo", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_large_bodies_at_once_are_bounded_and_memory_comes_back() {
    let _alone = ALONE.lock().await;
    let mut keys = Keys::new();
    for name in ["a", "b", "c"] {
        keys.create(name, &[]);
    }
    let bound = [("PORTHOLE__SERVER__MAX_BUFFERED_BYTES", "268435456")];
    let server = Server::start(&keys, &bound).await;
    let body = noise(15 << 20);
    let send = |i: usize| {
        let key = keys.of[["a", "b", "c"][i % 3]].clone();
        let (url, body) = (format!("{}/v1/chat/completions", server.base), body.clone());
        async move {
            let request = Client::new().post(url).bearer_auth(key);
            let request = request
                .header("content-type", "application/json")
                .body(body);
            // One that is refused while it still sends may see its connection reset.
            request
                .send()
                .await
                .map(|response| response.status().as_u16())
                .ok()
        }
    };
    let highest = Arc::new(AtomicUsize::new(0));
    let mut after = Vec::new();
    for _ in 0..3 {
        storm(&server, &highest, (0..200).map(send)).await;
        after.push(server.resources().0);
    }
    let highest = highest.load(Ordering::SeqCst);
    assert!(highest < 1_000_000, "{highest} kB were resident");
    // What the allocator keeps after a storm, it uses for the next.
    assert!(after[2] < after[1] + 100_000, "it grows: {after:?} kB");
    assert_eq!(send(0).await, Some(415));
    assert_eq!(ask(&server.base, &keys.of["a"]).await, 200);
}

/// Many requests at once, while the server's memory is watched.
async fn storm<F: Future<Output = Option<u16>>>(
    server: &Server,
    highest: &AtomicUsize,
    requests: impl Iterator<Item = F>,
) {
    let over = AtomicBool::new(false);
    let watching = async {
        while !over.load(Ordering::SeqCst) {
            let (resident, _) = server.resources();
            highest.fetch_max(resident as usize, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let sending = async {
        let statuses = futures::future::join_all(requests).await;
        over.store(true, Ordering::SeqCst);
        statuses
    };
    let (statuses, ()) = tokio::join!(sending, watching);
    let answered: Vec<u16> = statuses.into_iter().flatten().collect();
    assert!(
        answered.iter().all(|status| matches!(status, 415 | 503)),
        "{answered:?}"
    );
    assert!(
        answered.contains(&415) && answered.contains(&503),
        "{answered:?}"
    );
}
