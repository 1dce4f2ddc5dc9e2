//! Counting in memory.
//!
//! Where Redis counts, memory mirrors its last answer: the door asks memory alone, and what is
//! counted here goes on from there while Redis is away.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    Cost, Refusal, Snapshot, Window,
    account::{Account, worst},
    bucket::{Bucket, WINDOW, duration},
    clock::{Clock, Period, micros},
    scope::Scope,
    store::{Store, lock},
    usage::{Usage, is_counted},
};

const SHARDS: usize = 64;
/// Microseconds after which the state of a caller with nothing inside is forgotten. All buckets are
/// full again by then.
const IDLE: u64 = 2 * WINDOW;
/// Microseconds between sweeps; each looks at one shard.
const SWEEP: u64 = 1_000_000;
/// How long a server that ends waits for its last counts to be written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);

/// What Redis knows of a share, with moments as time from now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mirrored {
    pub(super) requests: u64,
    pub(super) tokens: u64,
    pub(super) pixels: u64,
    pub(super) usage: Usage,
}

/// What Redis decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The request is not even counted.
    RefusedAtDoor,
    /// It is counted and costs nothing else.
    Refused,
    /// Its reservation is made, and the shares from `door` on are entered.
    Admitted { door: usize },
}

/// What goes back to a share when a reservation ends; negative where more was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Back {
    /// Microseconds of the tokens' bucket.
    pub(super) tokens: i64,
    /// Microseconds of the pixels' bucket.
    pub(super) pixels: i64,
    /// Tokens of the day, the month and the life.
    pub(super) counted: i64,
}

impl Back {
    /// What a share gets back of `reserved` when `used` is what it came to.
    pub(super) fn of(scope: &Scope, reserved: Cost, used: Cost) -> Self {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let time = |reserved, used, limit: Option<u64>| {
            limit.map_or(0, |limit| {
                signed(duration(reserved, limit)) - signed(duration(used, limit))
            })
        };
        let limits = &scope.limits;
        Self {
            tokens: time(reserved.tokens, used.tokens, limits.tokens_per_minute),
            pixels: time(reserved.pixels, used.pixels, limits.image_pixels_per_minute),
            counted: signed(reserved.tokens).saturating_sub(signed(used.tokens)),
        }
    }
}

type Shard = Mutex<HashMap<Arc<str>, Account>>;

/// All accounts. What one request counts against lies in one shard, so that it is checked and
/// charged under one lock.
pub(super) struct Local {
    shards: Box<[Shard]>,
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    /// `None` where Redis keeps the counts.
    store: Option<Arc<Store>>,
    next_sweep: AtomicU64,
    swept: AtomicUsize,
}

impl Local {
    pub(super) fn new(clock: Arc<dyn Clock>, store: Option<Arc<Store>>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            clock,
            store,
            next_sweep: AtomicU64::new(0),
            swept: AtomicUsize::new(0),
        }
    }

    /// Where the accounts of a root lie.
    /// Opens the store, where there is one.
    ///
    /// # Errors
    /// In words for the operator.
    pub(super) fn open_store(&self) -> Result<(), String> {
        self.store.as_ref().map_or(Ok(()), |store| store.open())
    }

    /// Waits, not for ever, until the store has all counts.
    pub(super) async fn flush(&self) {
        if let Some(store) = &self.store {
            store.flush(WRITTEN_WITHIN).await;
        }
    }

    pub(super) fn shard(&self, root: &str) -> usize {
        usize::try_from(self.hasher.hash_one(root) % SHARDS as u64).unwrap_or(0)
    }

    fn accounts(&self, shard: usize) -> &Shard {
        &self.shards[shard % SHARDS]
    }

    fn now(&self) -> u64 {
        micros(self.clock.monotonic())
    }

    fn period(&self, scopes: &[Scope]) -> Period {
        if scopes.iter().any(|scope| is_counted(&scope.limits)) {
            Period::at(self.clock.unix())
        } else {
            Period::default()
        }
    }

    /// Reads from the store what is not in memory yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn prepare(&self, shard: usize, scopes: &[Scope]) -> Result<(), ()> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let counted = || scopes.iter().filter(|scope| is_counted(&scope.limits));
        if counted().next().is_none() {
            return Ok(());
        }
        let missing: Vec<Arc<str>> = {
            let accounts = lock(self.accounts(shard));
            let loaded = |name| accounts.get(name).is_some_and(|a: &Account| a.loaded);
            let missing = counted().filter(|scope| !loaded(&scope.name));
            missing.map(|scope| scope.name.clone()).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let store = store.clone();
        let read = move || {
            let usage = |name: Arc<str>| store.load(&name).map(|usage| (name, usage));
            missing.into_iter().map(usage).collect::<Option<Vec<_>>>()
        };
        let read = tokio::task::spawn_blocking(read).await;
        let read = read.ok().flatten().ok_or(())?;
        let mut accounts = lock(self.accounts(shard));
        for (name, usage) in read {
            let account = accounts.entry(name).or_default();
            account.touched = self.now();
            if !std::mem::replace(&mut account.loaded, true) {
                account.usage = usage;
            }
        }
        Ok(())
    }

    /// Counts a request and takes a place in every share, or in none.
    pub(super) fn enter(&self, shard: usize, scopes: &[Scope]) -> Result<(), Refusal> {
        let now = self.now();
        self.sweep(now);
        let mut accounts = lock(self.accounts(shard));
        let refusals = scopes.iter().enumerate().flat_map(|(i, scope)| {
            let account = accounts.get(&scope.name);
            account.map_or([None, None], |account| account.door(i, scope, now))
        });
        if let Some(refusal) = worst(refusals.flatten()) {
            return Err(refusal);
        }
        for scope in scopes {
            let account = accounts.entry(scope.name.clone()).or_default();
            account.step_in(scope, now);
        }
        Ok(())
    }

    /// Charges a request's cost to every share, or to none. Shares from `door` on are entered as
    /// well.
    pub(super) fn reserve(
        &self,
        shard: usize,
        scopes: &[Scope],
        door: usize,
        cost: Cost,
    ) -> Result<Period, Refusal> {
        let now = self.now();
        let period = self.period(scopes);
        let mut accounts = lock(self.accounts(shard));
        let mut refusal = None;
        for (i, scope) in scopes.iter().enumerate() {
            let account = accounts.entry(scope.name.clone()).or_default();
            if is_counted(&scope.limits) && self.store.is_some() && !account.loaded {
                return Err(Refusal::unavailable());
            }
            let door = if i < door {
                [None, None]
            } else {
                account.door(i, scope, now)
            };
            let rest = account.afford(i, scope, cost, now, &period);
            refusal = worst(
                refusal
                    .into_iter()
                    .chain(door.into_iter().flatten())
                    .chain(rest),
            );
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        for (i, scope) in scopes.iter().enumerate() {
            let account = accounts.entry(scope.name.clone()).or_default();
            if i >= door {
                account.step_in(scope, now);
            }
            account.charge(scope, cost, now, &period);
            self.remember(scope, account);
        }
        Ok(period)
    }

    /// Takes over what Redis answered.
    pub(super) fn mirror(
        &self,
        shard: usize,
        scopes: &[Scope],
        states: &[Mirrored],
        outcome: Outcome,
    ) {
        let now = self.now();
        let mut accounts = lock(self.accounts(shard));
        for (i, (scope, state)) in scopes.iter().zip(states).enumerate() {
            let account = accounts.entry(scope.name.clone()).or_default();
            account.touched = now;
            let requests = Bucket::owing(now, state.requests);
            account.requests = match outcome {
                // It was counted when it entered here, and must not have been.
                Outcome::RefusedAtDoor => requests,
                // Requests that are inside and not yet told to Redis stay counted.
                Outcome::Refused | Outcome::Admitted { .. } => account.requests.emptier(requests),
            };
            account.tokens = Bucket::owing(now, state.tokens);
            account.pixels = Bucket::owing(now, state.pixels);
            account.usage = state.usage;
            if let Outcome::Admitted { door } = outcome {
                account.reserved += 1;
                account.inside += u64::from(i >= door);
            }
        }
    }

    /// Gives the places of a request back.
    pub(super) fn leave(&self, shard: usize, scopes: &[Scope]) {
        let now = self.now();
        let mut accounts = lock(self.accounts(shard));
        for scope in scopes {
            if let Some(account) = accounts.get_mut(&scope.name) {
                account.inside = account.inside.saturating_sub(1);
                account.touched = now;
            }
        }
    }

    /// Ends a reservation.
    pub(super) fn settle(&self, shard: usize, scopes: &[Scope], back: &[Back], period: &Period) {
        let now = self.now();
        let mut accounts = lock(self.accounts(shard));
        for (scope, back) in scopes.iter().zip(back) {
            if let Some(account) = accounts.get_mut(&scope.name) {
                account.reserved = account.reserved.saturating_sub(1);
                account.touched = now;
                account.tokens.give_back(now, back.tokens);
                account.pixels.give_back(now, back.pixels);
                let usage = &mut account.usage;
                usage.give_back(&scope.limits, back.counted, period);
                self.remember(scope, account);
            }
        }
    }

    fn remember(&self, scope: &Scope, account: &Account) {
        if let Some(store) = &self.store
            && is_counted(&scope.limits)
        {
            store.put(&scope.name, account.usage);
        }
    }

    /// What is left of the tightest share.
    pub(super) fn snapshot(&self, shard: usize, scopes: &[Scope]) -> Snapshot {
        let now = self.now();
        let accounts = lock(self.accounts(shard));
        let tightest = |limit: fn(&Scope) -> Option<u64>, bucket: fn(&Account) -> Bucket| {
            let windows = scopes.iter().filter_map(|scope| {
                let bucket = accounts.get(&scope.name).map(bucket).unwrap_or_default();
                Some(bucket.window(now, limit(scope)?))
            });
            windows.min_by_key(|window: &Window| (window.remaining, window.limit))
        };
        Snapshot {
            requests: tightest(|s| s.limits.requests_per_minute, |a| a.requests),
            tokens: tightest(|s| s.limits.tokens_per_minute, |a| a.tokens),
        }
    }

    /// Accounts in memory.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Forgets idle callers of one shard after another, a shard a second.
    fn sweep(&self, now: u64) {
        let due = self.next_sweep.load(Ordering::Relaxed);
        if now < due {
            return;
        }
        let next = now + SWEEP;
        let won = self
            .next_sweep
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        if won.is_ok() {
            let turn = self.swept.fetch_add(1, Ordering::Relaxed);
            let idle = |account: &Account| {
                account.inside == 0
                    && account.reserved == 0
                    && now.saturating_sub(account.touched) > IDLE
            };
            let mut accounts = lock(self.accounts(turn));
            let before = accounts.len();
            accounts.retain(|_, account| !idle(account));
            if accounts.len() < before / 2 {
                accounts.shrink_to_fit();
            }
        }
    }
}

/// A wait in microseconds.
pub(super) fn wait(micros: Option<u64>) -> Option<Duration> {
    micros.map(Duration::from_micros)
}
