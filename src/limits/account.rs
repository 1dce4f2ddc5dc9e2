//! What one share has used, and what still fits.

use super::{
    Cost, Refusal, What,
    bucket::{Bucket, charge},
    clock::Period,
    scope::Scope,
    usage::Usage,
};

/// Microseconds to wait for a place. Nobody knows when one will be free.
pub(super) const PLACE_WAIT: u64 = 1_000_000;

/// What one share has used.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) requests: Bucket,
    pub(super) tokens: Bucket,
    pub(super) pixels: Bucket,
    pub(super) usage: Usage,
    /// Whether `usage` was read from the store.
    pub(super) loaded: bool,
    /// Requests inside.
    pub(super) inside: u64,
    /// Reservations not settled yet.
    pub(super) reserved: u64,
    pub(super) touched: u64,
}

impl Account {
    pub(super) fn door(&self, index: usize, scope: &Scope, now: u64) -> [Option<Refusal>; 2] {
        let limits = &scope.limits;
        let refusal = |what, limit, wait| Refusal::new(index, what, limit, wait);
        let requests = limits.requests_per_minute.and_then(|limit| {
            let wait = self.requests.check(now, charge(1, limit)).err()?;
            Some(refusal(What::Requests, limit, wait))
        });
        let places = limits.concurrent_requests.and_then(|limit| {
            let full = self.inside >= limit;
            full.then(|| refusal(What::Concurrency, limit, Some(PLACE_WAIT)))
        });
        [requests, places]
    }

    pub(super) fn step_in(&mut self, scope: &Scope, now: u64) {
        self.touched = now;
        self.inside += 1;
        if let Some(limit) = scope.limits.requests_per_minute {
            self.requests.take(now, charge(1, limit));
        }
    }

    pub(super) fn afford(
        &self,
        index: usize,
        scope: &Scope,
        cost: Cost,
        now: u64,
        period: &Period,
    ) -> Option<Refusal> {
        let limits = &scope.limits;
        let bucket = |bucket: Bucket, limit: Option<u64>, cost, what| {
            let limit = limit?;
            let wait = bucket.check(now, charge(cost, limit)).err()?;
            Some(Refusal::new(index, what, limit, wait))
        };
        let counted = self.usage.exceeded(limits, cost.tokens, period);
        let counted = counted.map(|(what, limit, wait)| Refusal::new(index, what, limit, wait));
        let tokens = bucket(
            self.tokens,
            limits.tokens_per_minute,
            cost.tokens,
            What::Tokens,
        );
        let pixels = bucket(
            self.pixels,
            limits.image_pixels_per_minute,
            cost.pixels,
            What::Pixels,
        );
        worst(tokens.into_iter().chain(pixels).chain(counted))
    }

    pub(super) fn charge(&mut self, scope: &Scope, cost: Cost, now: u64, period: &Period) {
        let limits = &scope.limits;
        self.touched = now;
        self.reserved += 1;
        if let Some(limit) = limits.tokens_per_minute {
            self.tokens.take(now, charge(cost.tokens, limit));
        }
        if let Some(limit) = limits.image_pixels_per_minute {
            self.pixels.take(now, charge(cost.pixels, limit));
        }
        self.usage.add(limits, cost.tokens, period);
    }
}

/// The refusal that lasts longest, the first of such; `None` lasts for ever.
pub(super) fn worst(refusals: impl Iterator<Item = Refusal>) -> Option<Refusal> {
    let lasts = |refusal: &Refusal| refusal.wait.unwrap_or(u64::MAX);
    refusals.reduce(|worst, next| {
        if lasts(&next) > lasts(&worst) {
            next
        } else {
            worst
        }
    })
}
