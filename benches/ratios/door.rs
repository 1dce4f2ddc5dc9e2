//! What the doors cost: credentials, limits, and the whole door of a request.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use porthole::{
    auth::{Authenticator, Source, keys_edit::KeysEditor},
    caller::{Caller, Limits, Rights, Role},
    config::{AuthConfig, Config, LimitsConfig, OnRedisError, Secret},
    limits::{Cost, Limiter},
    metrics::Metrics,
};
use serde_json::json;

use super::null_engine::{NullEngine, serve, serve_with};
use crate::{ROUNDS, ratio, row};

const SOURCE: Source<'static> = Source {
    address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    origin: None,
};

/// Microseconds an operation takes, on average.
async fn timed<F: Future>(times: u32, mut operation: impl FnMut() -> F) -> f64 {
    let started = Instant::now();
    for _ in 0..times {
        black_box(operation().await);
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(times)
}

async fn credentials(keys: &KeysEditor, config: &AuthConfig) {
    let rights = Rights {
        roles: vec![Role::MintTokens],
        ..Rights::default()
    };
    let key = keys.create("bench", None, &rights).expect("a key");
    let metrics = Arc::new(Metrics::default());
    let (auth, _) = Authenticator::new(config, true, metrics).expect("an authenticator");
    let bearer = format!("Bearer {}", key.expose());
    let session = auth
        .authenticate(Some(&bearer), SOURCE)
        .await
        .expect("a session");
    let tokens: Vec<String> = (0..2_000)
        .map(|_| {
            auth.mint(&session, &Default::default())
                .expect("a token")
                .token
        })
        .map(|token| format!("Bearer {token}"))
        .collect();
    let (mut of_key, mut uncached, mut cached) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        of_key.push(timed(20_000, || auth.authenticate(Some(&bearer), SOURCE)).await);
        // Each token once: none is known yet.
        let mut fresh = tokens.iter().skip(round * 200);
        uncached.push(
            timed(200, || {
                auth.authenticate(fresh.next().map(String::as_str), SOURCE)
            })
            .await,
        );
        cached.push(timed(20_000, || auth.authenticate(Some(&tokens[0]), SOURCE)).await);
    }
    let against_key = |side: Vec<f64>| -> Vec<(f64, f64)> {
        side.into_iter().zip(of_key.iter().copied()).collect()
    };
    ratio("a token seen before / an API key", &against_key(cached), "");
    ratio(
        "a token not seen before / an API key",
        &against_key(uncached),
        "",
    );
    row("an API key", of_key, "us");
}

async fn charge(limiter: &Arc<Limiter>, caller: &Arc<Caller>) {
    let entry = limiter.enter(caller).await.expect("within the limits");
    let cost = Cost {
        tokens: 100,
        pixels: 0,
    };
    let reservation = entry
        .reserve("demo", cost)
        .await
        .expect("within the limits");
    reservation.settle(80);
}

async fn limits() {
    let limits = Limits {
        requests_per_minute: Some(1_000_000_000),
        tokens_per_minute: Some(1_000_000_000_000),
        concurrent_requests: Some(1_000_000),
        ..Limits::default()
    };
    let caller = Arc::new(Caller {
        rights: Rights {
            limits,
            ..Rights::default()
        },
        ..Caller::anonymous()
    });
    let config = LimitsConfig {
        store: "".into(),
        ..LimitsConfig::default()
    };
    let memory = Limiter::new(&config, Arc::new(Metrics::default())).expect("a limiter");
    let redis = std::env::var("PORTHOLE_BENCH_REDIS").ok();
    let redis = redis.map(|url| {
        let config = LimitsConfig {
            redis_url: Secret::from(url.as_str()),
            on_redis_error: OnRedisError::Deny,
            ..config.clone()
        };
        Limiter::new(&config, Arc::new(Metrics::default())).expect("a limiter")
    });
    let (mut in_memory, mut on_redis) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        in_memory.push(timed(20_000, || charge(&memory, &caller)).await);
        if let Some(redis) = &redis {
            on_redis.push(timed(1_000, || charge(redis, &caller)).await);
        }
    }
    if on_redis.is_empty() {
        println!("PORTHOLE_BENCH_REDIS names no Redis: limits there are not measured");
    } else {
        let pairs: Vec<_> = on_redis
            .into_iter()
            .zip(in_memory.iter().copied())
            .collect();
        ratio("limits on Redis / in memory", &pairs, "");
    }
    row("limits in memory: enter, reserve, settle", in_memory, "us");
}

/// Requests a second of one connection that asks and waits.
async fn rate(client: &reqwest::Client, url: &str, key: Option<&str>) -> f64 {
    let body =
        json!({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}).to_string();
    let started = Instant::now();
    let mut answered = 0_u32;
    while started.elapsed() < Duration::from_millis(700) {
        let mut request = client
            .post(url)
            .header("content-type", "application/json")
            .body(body.clone());
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success());
        response.bytes().await.expect("a body");
        answered += 1;
    }
    f64::from(answered) / started.elapsed().as_secs_f64()
}

async fn whole(keys: &KeysEditor, auth: &AuthConfig) {
    let limits = Limits {
        requests_per_minute: Some(1_000_000_000),
        tokens_per_minute: Some(1_000_000_000_000),
        ..Limits::default()
    };
    let rights = Rights {
        limits,
        ..Rights::default()
    };
    let key = keys.create("door", None, &rights).expect("a key");
    let open = serve(NullEngine::new());
    let mut config = Config {
        auth: auth.clone(),
        ..Config::default()
    };
    config.limits.store = "".into();
    let guarded = serve_with(config, NullEngine::new());
    let client = reqwest::Client::new();
    let url = |port: u16| format!("http://127.0.0.1:{port}/v1/chat/completions");
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        let without = rate(&client, &url(open), None).await;
        let with = rate(&client, &url(guarded), Some(key.expose())).await;
        pairs.push((with, without));
    }
    ratio(
        "requests a second, one connection: key and limits / neither",
        &pairs,
        "",
    );
}

pub(crate) fn run() {
    actix_web::rt::System::new().block_on(measure());
}

async fn measure() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = AuthConfig {
        keys_file: folder.path().join("keys.toml"),
        ..AuthConfig::default()
    };
    let keys = KeysEditor::new(&config.keys_file, Secret::default());
    credentials(&keys, &config).await;
    limits().await;
    whole(&keys, &config).await;
}
