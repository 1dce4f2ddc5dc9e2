//! What the scripts are told, and what they answer.

use redis::{Script, ScriptInvocation};

use super::{LEASE, Member, Shared, places};
use crate::limits::{
    Cost, Refusal, What,
    bucket::charge,
    clock::{Period, micros},
    local::{Back, Mirrored},
    scope::{Scope, Scopes},
    usage::Usage,
};

/// Seconds after which Redis forgets an idle share: when all its buckets are long full, its day or
/// its month is over. A life's count is kept for more than a year without a request.
fn idle_seconds(scope: &Scope) -> u64 {
    const DAY: u64 = 86_400;
    if scope.limits.tokens_total.is_some() {
        400 * DAY
    } else if scope.limits.tokens_per_month.is_some() {
        32 * DAY
    } else if scope.limits.tokens_per_day.is_some() {
        2 * DAY
    } else {
        120
    }
}

impl Shared {
    /// The call of reserve.lua. Shares from `enters` on are entered; without a member, no place is
    /// taken there.
    pub(super) fn ask(
        &self,
        scopes: &[Scope],
        member: Option<Member>,
        cost: Cost,
        enters: usize,
    ) -> ScriptInvocation<'_> {
        let mut call = self.reserve.prepare_invoke();
        call.arg(self.time())
            .arg(member.map_or_else(String::new, |member| self.member(member)))
            .arg(micros(LEASE));
        for (i, scope) in scopes.iter().enumerate() {
            let limits = &scope.limits;
            let time = |cost, limit: Option<u64>| limit.map_or(0, |limit| charge(cost, limit));
            let door = match (i >= enters, &scope.model) {
                (false, _) => 0,
                (true, None) => 1,
                (true, Some(_)) => 2,
            };
            let places_limit = member.and(limits.concurrent_requests);
            call.key(&*scope.name).key(places(scope));
            call.arg(&[
                door,
                time(1, limits.requests_per_minute),
                time(cost.tokens, limits.tokens_per_minute),
                time(cost.pixels, limits.image_pixels_per_minute),
                places_limit.unwrap_or(0),
                cost.tokens,
                limits.tokens_per_day.unwrap_or(0),
                limits.tokens_per_month.unwrap_or(0),
                limits.tokens_total.unwrap_or(0),
                idle_seconds(scope),
            ]);
        }
        call
    }
}

/// What reserve.lua answers.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::limits) struct Answer {
    /// Whether it refuses at the door, where the request is not even counted.
    pub(in crate::limits) at_door: bool,
    /// Why it refuses, if it does.
    pub(in crate::limits) refusal: Option<Refusal>,
    /// The server's day and month.
    pub(in crate::limits) period: Period,
    /// What the shares have used now.
    pub(in crate::limits) states: Vec<Mirrored>,
    /// When the hashes of the shares were made.
    pub(in crate::limits) born: Vec<i64>,
}

impl Answer {
    /// Reads the numbers; `None` if they are none that the script answers.
    pub(super) fn read(numbers: &[i64], scopes: &[Scope]) -> Option<Self> {
        let ([refused, what, share, wait, day, month], shares) = numbers.split_first_chunk()?;
        let period = Period {
            day: *day,
            month: *month,
            left: 0,
        };
        let refusal = if *refused == 0 {
            None
        } else {
            let index = usize::try_from(*share).ok()?.checked_sub(1)?;
            let (what, limit) = what_refuses(*what, scopes.get(index)?)?;
            Some(Refusal::new(index, what, limit, u64::try_from(*wait).ok()))
        };
        let mut states = Vec::with_capacity(scopes.len());
        let mut born = Vec::with_capacity(scopes.len());
        for numbers in shares.chunks(7) {
            let number = |i: usize| u64::try_from(*numbers.get(i)?).ok();
            born.push(*numbers.first()?);
            states.push(Mirrored {
                requests: number(1)?,
                tokens: number(2)?,
                pixels: number(3)?,
                usage: Usage {
                    day: *day,
                    day_tokens: number(4)?,
                    month: *month,
                    month_tokens: number(5)?,
                    total_tokens: number(6)?,
                },
            });
        }
        (states.len() == scopes.len()).then_some(Self {
            at_door: *refused == 1,
            refusal,
            period,
            states,
            born,
        })
    }
}

fn what_refuses(number: i64, scope: &Scope) -> Option<(What, u64)> {
    let limits = &scope.limits;
    let (what, limit) = match number {
        1 => (What::Requests, limits.requests_per_minute),
        2 => (What::Tokens, limits.tokens_per_minute),
        3 => (What::Pixels, limits.image_pixels_per_minute),
        4 => (What::Concurrency, limits.concurrent_requests),
        5 => (What::TokensDay, limits.tokens_per_day),
        6 => (What::TokensMonth, limits.tokens_per_month),
        7 => (What::TokensTotal, limits.tokens_total),
        _ => return None,
    };
    Some((what, limit?))
}

/// What settle.lua is told.
#[derive(Debug)]
pub(in crate::limits) struct Settlement {
    scopes: Scopes,
    back: Vec<Back>,
    born: Vec<i64>,
    day: i64,
    month: i64,
}

impl Settlement {
    /// The end of a reservation that Redis made.
    pub(in crate::limits) fn new(
        scopes: &Scopes,
        back: Vec<Back>,
        born: Vec<i64>,
        period: &Period,
    ) -> Self {
        Self {
            scopes: scopes.clone(),
            back,
            born,
            day: period.day,
            month: period.month,
        }
    }

    /// Tokens that were used while Redis was away. Their minute is over when it is back; the day,
    /// the month and the life are not.
    pub(in crate::limits) fn made_up(scopes: &Scopes, tokens: u64, period: &Period) -> Self {
        let back = Back {
            counted: i64::try_from(tokens).map_or(i64::MIN, |tokens| -tokens),
            ..Back::default()
        };
        let (back, born) = (vec![back; scopes.len()], vec![0; scopes.len()]);
        Self::new(scopes, back, born, period)
    }

    /// All of a charge whose answer was not heard.
    pub(super) fn unheard(scopes: &Scopes, cost: Cost, answer: Answer) -> Self {
        let back = scopes
            .iter()
            .map(|scope| Back::of(scope, cost, Cost::default()));
        Self::new(scopes, back.collect(), answer.born, &answer.period)
    }

    /// The call of settle.lua.
    pub(super) fn call<'a>(&self, script: &'a Script, time: u64) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.arg(time);
        for ((scope, back), born) in self.scopes.iter().zip(&self.back).zip(&self.born) {
            let limits = &scope.limits;
            let counted = |limit: Option<u64>, period: i64| limit.map_or(0, |_| period);
            call.key(&*scope.name)
                .arg(*born)
                .arg(back.tokens)
                .arg(back.pixels)
                .arg(back.counted)
                .arg(counted(limits.tokens_per_day, self.day))
                .arg(counted(limits.tokens_per_month, self.month))
                .arg(counted(limits.tokens_total, 1))
                .arg(idle_seconds(scope));
        }
        call
    }
}
