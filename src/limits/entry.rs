//! A request inside, and what is set aside for it.

use std::sync::{Arc, Mutex};

use super::{
    Cost, Exceeded, Limiter, Refusal, Snapshot, What,
    clock::Period,
    local::{Back, Outcome},
    redis::{Answer, Away, Job, Member, Redis, Settlement},
    scope::{self, Scope, Scopes},
    store::lock,
    usage::is_counted,
};
use crate::caller::Caller;

/// A request inside; dropping it gives its place back.
pub struct Entry {
    limiter: Arc<Limiter>,
    caller: Arc<Caller>,
    shard: usize,
    /// The shares of all models.
    door: Scopes,
    member: Member,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// All shares, once those of the model are entered too.
    all: Option<Scopes>,
    /// Whether Redis was asked, or could not be.
    asked: bool,
}

impl Entry {
    pub(super) fn new(
        limiter: Arc<Limiter>,
        caller: Arc<Caller>,
        shard: usize,
        door: Scopes,
        member: Member,
    ) -> Self {
        Self {
            limiter,
            caller,
            shard,
            door,
            member,
            inside: Mutex::default(),
        }
    }

    /// What is left to the caller now.
    pub fn snapshot(&self) -> Snapshot {
        self.limiter.local.snapshot(self.shard, &self.scopes())
    }

    fn scopes(&self) -> Scopes {
        let inside = lock(&self.inside);
        inside.all.as_ref().unwrap_or(&self.door).clone()
    }

    /// Charges what the request costs, before any of it is spent. The first reservation of a request
    /// counts it for the model, too; `model` is the model's name, not an alias.
    ///
    /// # Errors
    /// A limit is exceeded, or the counts are out of reach; nothing is charged then, but the request
    /// stays counted as one.
    pub async fn reserve(&self, model: &str, cost: Cost) -> Result<Reservation, Exceeded> {
        let limiter = &self.limiter;
        let known = lock(&self.inside).all.clone();
        let scopes: Scopes = known.clone().unwrap_or_else(|| {
            let of_model = scope::of_model(&self.caller, model, &limiter.config.load());
            if of_model.is_empty() {
                self.door.clone()
            } else {
                self.door.iter().cloned().chain(of_model).collect()
            }
        });
        let door = known.map_or(self.door.len(), |all| all.len());
        match self.charge(&scopes, door, cost).await {
            Ok((period, made)) => {
                lock(&self.inside).all = Some(scopes.clone());
                Ok(Reservation {
                    limiter: limiter.clone(),
                    shard: self.shard,
                    scopes,
                    cost,
                    period,
                    made,
                    settled: false,
                })
            }
            Err(refusal) => Err(limiter.exceeded(self.shard, &scopes, refusal)),
        }
    }

    async fn charge(
        &self,
        scopes: &Scopes,
        door: usize,
        cost: Cost,
    ) -> Result<(Period, Made), Refusal> {
        let limiter = &self.limiter;
        if scopes.is_empty() {
            return Ok((Period::default(), Made::Here));
        }
        if let Some(redis) = &limiter.redis {
            let asked = std::mem::replace(&mut lock(&self.inside).asked, true);
            let enters = if asked { scopes.len() } else { 0 };
            let leaving = redis.is_leaving();
            let mut answer = redis.reserve(scopes, self.member, cost, enters).await;
            // The place that is missing may be one that was just left here, and Redis not yet told.
            if leaving
                && let Ok(refused) = &answer
                && refused.refusal.is_some_and(|r| r.what == What::Concurrency)
                && redis.free_places().await
            {
                let enters = if refused.at_door { 0 } else { self.door.len() };
                answer = redis.reserve(scopes, self.member, cost, enters).await;
            }
            match answer {
                Ok(answer) => return self.heard(redis, scopes, door, answer),
                Err(Away) => limiter.without_redis()?,
            }
        }
        limiter.prepare(self.shard, scopes).await?;
        let period = limiter.local.reserve(self.shard, scopes, door, cost)?;
        Ok((period, Made::Here))
    }

    fn heard(
        &self,
        redis: &Redis,
        scopes: &Scopes,
        door: usize,
        answer: Answer,
    ) -> Result<(Period, Made), Refusal> {
        let local = &self.limiter.local;
        if let Some(refusal) = answer.refusal {
            let outcome = if answer.at_door {
                Outcome::RefusedAtDoor
            } else {
                Outcome::Refused
            };
            local.mirror(self.shard, scopes, &answer.states, outcome);
            redis.leave(self.member);
            return Err(refusal);
        }
        let outcome = Outcome::Admitted { door };
        local.mirror(self.shard, scopes, &answer.states, outcome);
        Ok((answer.period, Made::InRedis(answer.born)))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let inside = std::mem::take(&mut *lock(&self.inside));
        let scopes = inside.all.as_ref().unwrap_or(&self.door);
        self.limiter.local.leave(self.shard, scopes);
        let Some(redis) = &self.limiter.redis else {
            return;
        };
        let counts = |scope: &Scope| scope.limits.requests_per_minute.is_some();
        if inside.asked {
            redis.leave(self.member);
        } else if redis.is_up() && self.door.iter().any(counts) {
            redis.later(Job::Request(self.door.clone()));
        }
    }
}

/// Where a reservation was made.
enum Made {
    Here,
    /// With the moments at which the shares' hashes were made.
    InRedis(Vec<i64>),
}

/// Tokens and pixels set aside for a request. Dropped unsettled, all go back: the engine never ran.
#[must_use = "dropped, it gives everything back"]
pub struct Reservation {
    limiter: Arc<Limiter>,
    shard: usize,
    scopes: Scopes,
    cost: Cost,
    period: Period,
    made: Made,
    settled: bool,
}

impl Reservation {
    /// Charges the tokens that were really used; what was reserved beyond them goes back. The pixels
    /// stay charged.
    pub fn settle(mut self, used_tokens: u64) {
        self.finish(Cost {
            tokens: used_tokens,
            pixels: self.cost.pixels,
        });
    }

    fn finish(&mut self, used: Cost) {
        self.settled = true;
        if self.scopes.is_empty() {
            return;
        }
        let back = self.scopes.iter();
        let back: Vec<Back> = back.map(|scope| Back::of(scope, self.cost, used)).collect();
        let local = &self.limiter.local;
        local.settle(self.shard, &self.scopes, &back, &self.period);
        let Some(redis) = &self.limiter.redis else {
            return;
        };
        match std::mem::replace(&mut self.made, Made::Here) {
            Made::InRedis(born) => {
                if back.iter().any(|back| *back != Back::default()) {
                    let settlement = Settlement::new(&self.scopes, back, born, &self.period);
                    redis.later(Job::Settle(settlement));
                }
            }
            Made::Here => {
                let counted = self.scopes.iter().any(|scope| is_counted(&scope.limits));
                if counted && used.tokens > 0 {
                    let settlement = Settlement::made_up(&self.scopes, used.tokens, &self.period);
                    redis.later(Job::Settle(settlement));
                }
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.settled {
            self.finish(Cost::default());
        }
    }
}
