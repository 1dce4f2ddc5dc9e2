//! Tokens of a day, a month and a credential's life.

use super::{What, clock::Period};
use crate::caller::Limits;

/// What was used, and when. A count whose day or month is over counts for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// The day that `day_tokens` belong to, days since 1970.
    pub(super) day: i64,
    /// Tokens of that day.
    pub(super) day_tokens: u64,
    /// The month that `month_tokens` belong to, twelve times the year plus the month.
    pub(super) month: i64,
    /// Tokens of that month.
    pub(super) month_tokens: u64,
    /// Tokens of the credential's life.
    pub(super) total_tokens: u64,
}

/// Whether any of these limits is counted by [`Usage`].
pub(super) fn is_counted(limits: &Limits) -> bool {
    limits.tokens_per_day.is_some()
        || limits.tokens_per_month.is_some()
        || limits.tokens_total.is_some()
}

impl Usage {
    fn used(&self, period: &Period) -> (u64, u64, u64) {
        let in_day = self.day == period.day;
        let in_month = self.month == period.month;
        (
            if in_day { self.day_tokens } else { 0 },
            if in_month { self.month_tokens } else { 0 },
            self.total_tokens,
        )
    }

    /// The limits that `tokens` more would exceed, each with the microseconds to wait; `None`
    /// where no wait that a client would make helps.
    pub(super) fn exceeded(
        &self,
        limits: &Limits,
        tokens: u64,
        period: &Period,
    ) -> impl Iterator<Item = (What, u64, Option<u64>)> {
        let (day, month, total) = self.used(period);
        let left = period.left;
        let over = move |limit: Option<u64>, used: u64| {
            limit.filter(|limit| used.saturating_add(tokens) > *limit)
        };
        let day = over(limits.tokens_per_day, day).map(move |limit| {
            let wait = (tokens <= limit).then_some(left);
            (What::TokensDay, limit, wait)
        });
        let month =
            over(limits.tokens_per_month, month).map(|limit| (What::TokensMonth, limit, None));
        let total = over(limits.tokens_total, total).map(|limit| (What::TokensTotal, limit, None));
        [day, month, total].into_iter().flatten()
    }

    /// Adds tokens to the counts that are limited.
    pub(super) fn add(&mut self, limits: &Limits, tokens: u64, period: &Period) {
        let (day, month, total) = self.used(period);
        if limits.tokens_per_day.is_some() {
            (self.day, self.day_tokens) = (period.day, day.saturating_add(tokens));
        }
        if limits.tokens_per_month.is_some() {
            (self.month, self.month_tokens) = (period.month, month.saturating_add(tokens));
        }
        if limits.tokens_total.is_some() {
            self.total_tokens = total.saturating_add(tokens);
        }
    }

    /// Gives tokens back that were added in `period`, or adds more if negative; what belongs to a
    /// day or month that is over stays with it.
    pub(super) fn give_back(&mut self, limits: &Limits, tokens: i64, period: &Period) {
        let less = |count: u64| count.saturating_add_signed(tokens.saturating_neg());
        if limits.tokens_per_day.is_some() && self.day == period.day {
            self.day_tokens = less(self.day_tokens);
        }
        if limits.tokens_per_month.is_some() && self.month == period.month {
            self.month_tokens = less(self.month_tokens);
        }
        if limits.tokens_total.is_some() {
            self.total_tokens = less(self.total_tokens);
        }
    }

    /// Whether nothing is left to remember.
    pub(super) fn is_over(&self, period: &Period) -> bool {
        self.used(period) == (0, 0, 0)
    }
}
