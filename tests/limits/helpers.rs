//! A clock that is moved by hand, callers, and Redis servers.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use porthole::{
    caller::{Caller, Limits, Rights},
    config::{LimitsConfig, OnRedisError},
    limits::{Clock, Cost, Exceeded, Limiter, Reservation},
    metrics::Metrics,
};

pub use crate::redis_server::{RedisServer, free_port};

/// 2026-03-30 12:00 UTC.
pub const NOON: Duration = Duration::from_secs(1_774_872_000);

/// Microseconds since [`NOON`].
#[derive(Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn advance(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap();
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn unix(&self) -> Duration {
        NOON + self.monotonic()
    }

    fn for_redis(&self) -> Option<Duration> {
        Some(self.unix())
    }
}

pub fn in_memory() -> LimitsConfig {
    LimitsConfig {
        store: PathBuf::new(),
        ..LimitsConfig::default()
    }
}

pub fn limiter(config: &LimitsConfig) -> (Arc<Limiter>, Arc<ManualClock>) {
    let clock = ManualClock::new();
    (on_clock(config, &clock), clock)
}

pub fn on_clock(config: &LimitsConfig, clock: &Arc<ManualClock>) -> Arc<Limiter> {
    Limiter::with_clock(config, Arc::default(), clock.clone()).unwrap()
}

pub fn caller(id: &str, limits: Limits) -> Arc<Caller> {
    Arc::new(plain(id, limits))
}

pub fn plain(id: &str, limits: Limits) -> Caller {
    Caller {
        id: id.into(),
        label: "test".into(),
        rights: Rights {
            limits,
            ..Rights::default()
        },
        ..Caller::anonymous()
    }
}

pub fn tokens(tokens: u64) -> Cost {
    Cost { tokens, pixels: 0 }
}

/// A whole request that uses all it reserves.
pub async fn ask(limiter: &Arc<Limiter>, caller: &Arc<Caller>, cost: Cost) -> Result<(), Exceeded> {
    reserve(limiter, caller, cost).await?.settle(cost.tokens);
    Ok(())
}

/// A request that left, but for its reservation.
pub async fn reserve(
    limiter: &Arc<Limiter>,
    caller: &Arc<Caller>,
    cost: Cost,
) -> Result<Reservation, Exceeded> {
    limiter.enter(caller).await?.reserve("demo", cost).await
}

impl RedisServer {
    pub fn config(&self, on_redis_error: OnRedisError) -> LimitsConfig {
        shared(&self.url(), on_redis_error)
    }
}

pub fn shared(url: &str, on_redis_error: OnRedisError) -> LimitsConfig {
    LimitsConfig {
        redis_url: url.into(),
        on_redis_error,
        ..LimitsConfig::default()
    }
}

/// Waits until Redis counts, or does not, for as long as a recovery may take.
pub async fn up_becomes(metrics: &Metrics, up: bool) {
    let started = Instant::now();
    while (metrics.limits_redis_up.get() == 1) != up {
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "limits_redis_up is not {up} after five seconds"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
