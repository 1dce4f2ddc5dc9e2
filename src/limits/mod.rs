//! How much each caller may ask for.
//!
//! A request enters at the door, where it counts as a request and takes a place; it reserves its
//! tokens and pixels when they are known, and settles what it used. Each step passes in every share
//! that it counts against, or changes none: the caller's, that of the key behind a minted token, and
//! both again for the model. Counts are kept in memory and, for days, months and lives, in a file;
//! or in Redis, for all replicas together.
//!
//! The minute's limits are token buckets: the whole limit at once, refilled evenly. What was used in
//! any span is at most the limit for each of its minutes, and the limit once more.

mod account;
mod bucket;
mod clock;
mod entry;
mod local;
mod redis;
mod scope;
mod store;
mod usage;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use self::{
    account::PLACE_WAIT, local::Local, redis::Redis, scope::Scopes, store::Store, usage::is_counted,
};
pub use self::{
    clock::{Clock, SystemClock},
    entry::{Entry, Reservation},
};
use crate::{
    caller::{Caller, Limits},
    config::{LimitsConfig, OnRedisError},
    metrics::Metrics,
};

/// What a request costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Tokens of the prompt, and the most that the answer may have.
    pub tokens: u64,
    /// Pixels that the model sees.
    pub pixels: u64,
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The limit a minute.
    pub limit: u64,
    /// What may be used now.
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
}

/// What is left to a caller, in the tightest of its shares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Requests a minute, where they are limited.
    pub requests: Option<Window>,
    /// Tokens a minute, where they are limited.
    pub tokens: Option<Window>,
}

/// Which limit a request exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// Requests a minute.
    Requests,
    /// Tokens a minute.
    Tokens,
    /// Pixels a minute.
    Pixels,
    /// Requests inside at once.
    Concurrency,
    /// Tokens a day.
    TokensDay,
    /// Tokens a month.
    TokensMonth,
    /// Tokens in the life of the credential.
    TokensTotal,
    /// None: the counts are out of reach, and whoever has limits is refused.
    Unavailable,
}

impl What {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Pixels => "pixels",
            Self::Concurrency => "concurrency",
            Self::TokensDay => "tokens_day",
            Self::TokensMonth => "tokens_month",
            Self::TokensTotal => "tokens_total",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A request that is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {} is {limit}", .what.name())]
pub struct Exceeded {
    /// Which limit.
    pub what: What,
    /// The model whose share it is; `None` for that of all models.
    pub model: Option<String>,
    /// The limit itself; 0 where the counts are out of reach.
    pub limit: u64,
    /// After this the same request passes, if nothing else comes; a place may be free sooner or
    /// later. `None` where waiting does not help: the request alone is more than the limit, or the
    /// month or the life of the credential is used up.
    pub retry_after: Option<Duration>,
    /// What is left.
    pub snapshot: Snapshot,
}

/// Why a request is not let in, before it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    /// Which of the request's shares.
    scope: usize,
    what: What,
    limit: u64,
    /// Microseconds; `None` for ever.
    wait: Option<u64>,
}

impl Refusal {
    fn new(scope: usize, what: What, limit: u64, wait: Option<u64>) -> Self {
        Self {
            scope,
            what,
            limit,
            wait,
        }
    }

    fn unavailable() -> Self {
        Self::new(0, What::Unavailable, 0, Some(PLACE_WAIT))
    }
}

/// Whether the configuration's own limits count by the day, the month or the life.
fn counts(config: &LimitsConfig) -> bool {
    let none = Limits::default();
    let mut own = config.models.iter().map(|entry| &entry.limits);
    is_counted(&config.default.or(&none)) || own.any(|limits| is_counted(&limits.or(&none)))
}

/// The limits of all callers.
pub struct Limiter {
    config: ArcSwap<LimitsConfig>,
    metrics: Arc<Metrics>,
    local: Local,
    redis: Option<Redis>,
}

impl Limiter {
    /// Limits as configured. Where Redis is, waits up to a second for it.
    ///
    /// # Errors
    /// In words for the operator: `redis_url` is no such URL, or the store cannot be opened though
    /// the configuration's own limits need it.
    pub fn new(config: &LimitsConfig, metrics: Arc<Metrics>) -> Result<Arc<Self>, String> {
        Self::with_clock(config, metrics, Arc::new(SystemClock::default()))
    }

    /// The same, on another clock.
    ///
    /// # Errors
    /// As for [`Limiter::new`].
    pub fn with_clock(
        config: &LimitsConfig,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, String> {
        let redis = if config.redis_url.is_empty() {
            None
        } else {
            let url = config.redis_url.expose();
            Some(Redis::start(url, clock.clone(), metrics.clone())?)
        };
        // What Redis counts is not counted in the file as well.
        let store = redis
            .is_none()
            .then(|| Arc::new(Store::new(config.store.clone(), clock.clone())));
        if let Some(store) = &store
            && counts(config)
        {
            store.open()?;
        }
        Ok(Arc::new(Self {
            config: ArcSwap::from_pointee(config.clone()),
            metrics,
            local: Local::new(clock, store),
            redis,
        }))
    }

    /// Takes other limits from the configuration; where counts are kept stays as it is.
    ///
    /// # Errors
    /// In words for the operator: the store cannot be opened though the new limits need it.
    pub fn reconfigure(&self, config: &LimitsConfig) -> Result<(), String> {
        if self.redis.is_none() && counts(config) {
            self.local.open_store()?;
        }
        self.config.store(Arc::new(config.clone()));
        Ok(())
    }

    /// Lets a request in, while its body is unread: counts it and takes a place.
    ///
    /// # Errors
    /// A limit of requests is exceeded, or the counts are out of reach.
    pub async fn enter(self: &Arc<Self>, caller: &Arc<Caller>) -> Result<Entry, Exceeded> {
        let door = scope::of_caller(caller, &self.config.load());
        let shard = self.local.shard(caller.root());
        if let Err(refusal) = self.door(shard, &door).await {
            return Err(self.exceeded(shard, &door, refusal));
        }
        let member = self.redis.as_ref().map_or(0, Redis::member);
        Ok(Entry::new(
            self.clone(),
            caller.clone(),
            shard,
            door,
            member,
        ))
    }

    async fn door(&self, shard: usize, door: &Scopes) -> Result<(), Refusal> {
        if door.is_empty() {
            return Ok(());
        }
        if let Some(redis) = &self.redis
            && !redis.is_up()
        {
            self.without_redis()?;
        }
        self.prepare(shard, door).await?;
        self.local.enter(shard, door)
    }

    /// Whether memory counts while Redis is away.
    fn without_redis(&self) -> Result<(), Refusal> {
        match self.config.load().on_redis_error {
            OnRedisError::Local => Ok(()),
            OnRedisError::Deny => Err(Refusal::unavailable()),
        }
    }

    async fn prepare(&self, shard: usize, scopes: &Scopes) -> Result<(), Refusal> {
        let prepared = self.local.prepare(shard, scopes).await;
        prepared.map_err(|()| Refusal::unavailable())
    }

    fn exceeded(&self, shard: usize, scopes: &Scopes, refusal: Refusal) -> Exceeded {
        self.metrics.refused_limit(refusal.what);
        let of = scopes.get(refusal.scope);
        let model = of.and_then(|scope| scope.model.as_deref());
        Exceeded {
            what: refusal.what,
            model: model.map(str::to_owned),
            limit: refusal.limit,
            retry_after: local::wait(refusal.wait),
            snapshot: self.local.snapshot(shard, scopes),
        }
    }

    /// Waits until Redis, where it counts, was told of all that ended so far and of the requests
    /// that are still inside.
    pub async fn flush(&self) {
        if let Some(redis) = &self.redis {
            redis.flush(true).await;
        }
    }

    /// Before the process ends: the same, and waits until the counts that the file keeps are in it.
    pub async fn finish(&self) {
        self.flush().await;
        self.local.flush().await;
    }

    /// Shares that memory holds now; those of idle callers are forgotten.
    pub fn shares(&self) -> usize {
        self.local.len()
    }
}
