//! A token bucket that can give back, kept as time.
//!
//! The generic cell rate algorithm: the bucket is the moment when it will be full again. A charge
//! moves the moment on by the time that the charge takes to refill; it fits while the moment stays
//! within a minute. Kept as time, a bucket survives a change of its limit with the same share of it
//! used, and microseconds since 1970 stay exact in the doubles of Lua (below 2^53).

use std::time::Duration;

use super::Window;

/// The window of every bucket in microseconds, a minute: what a full bucket's worth refills in.
pub(super) const WINDOW: u64 = 60_000_000;

/// The time in microseconds that `cost` of a limit a minute takes to refill. Rounded down, so that
/// the whole limit fits at once, however it is divided; what that gives away is less than a
/// microsecond of each charge. Never nothing for something.
pub(super) fn duration(cost: u64, limit: u64) -> u64 {
    if cost == 0 {
        return 0;
    }
    let time = u128::from(cost) * u128::from(WINDOW) / u128::from(limit.max(1));
    u64::try_from(time)
        .unwrap_or(u64::MAX)
        .clamp(1, u64::from(u32::MAX))
}

/// The same for a charge that may be refused: what exceeds the limit takes longer than the window.
pub(super) fn charge(cost: u64, limit: u64) -> u64 {
    if cost > limit {
        WINDOW + 1
    } else {
        duration(cost, limit)
    }
}

/// When it will be full again, on a clock of microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket(u64);

impl Bucket {
    /// A bucket that `owed` microseconds will fill.
    pub(super) fn owing(now: u64, owed: u64) -> Self {
        Self(now.saturating_add(owed))
    }

    /// Microseconds until it is full.
    pub(super) fn owed(self, now: u64) -> u64 {
        self.0.saturating_sub(now)
    }

    /// Whether a charge fits now.
    ///
    /// # Errors
    /// Microseconds after which it would fit; `None` if it never does.
    pub(super) fn check(self, now: u64, charge: u64) -> Result<(), Option<u64>> {
        if charge == 0 {
            return Ok(());
        }
        if charge > WINDOW {
            return Err(None);
        }
        match (self.owed(now) + charge).saturating_sub(WINDOW) {
            0 => Ok(()),
            wait => Err(Some(wait)),
        }
    }

    /// Takes a charge, whether it fits or not.
    pub(super) fn take(&mut self, now: u64, charge: u64) {
        self.0 = self.0.max(now).saturating_add(charge);
    }

    /// Gives a part of a charge back, or takes more if it is negative. A bucket that is full stays
    /// so: a moment in the past counts as now.
    pub(super) fn give_back(&mut self, now: u64, charge: i64) {
        match u64::try_from(charge) {
            Ok(back) => self.0 = self.0.saturating_sub(back),
            Err(_) => self.take(now, charge.unsigned_abs()),
        }
    }

    /// The emptier of two.
    pub(super) fn emptier(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// What is left of a limit.
    pub(super) fn window(self, now: u64, limit: u64) -> Window {
        let owed = self.owed(now);
        let free = u128::from(WINDOW.saturating_sub(owed)) * u128::from(limit) / u128::from(WINDOW);
        Window {
            limit,
            remaining: u64::try_from(free).unwrap_or(limit),
            reset: Duration::from_micros(owed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use governor::{Quota, RateLimiter, clock::FakeRelativeClock};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_limit_fits_at_once_and_not_one_more() {
        for limit in [1, 3, 7, 60, 61, 997, 7_741, 100_000] {
            let mut bucket = Bucket::default();
            for i in 0..limit {
                assert_eq!(bucket.check(0, charge(1, limit)), Ok(()), "{i} of {limit}");
                bucket.take(0, charge(1, limit));
            }
            assert!(bucket.check(0, charge(1, limit)).is_err(), "{limit}");
            assert_eq!(bucket.window(0, limit).remaining, 0);
        }
    }

    #[test]
    fn rounding_gives_away_less_than_a_microsecond_a_charge() {
        for limit in [99_991, 1_000_003, 49_999_999] {
            for cost in [100, 999] {
                let mut bucket = Bucket::default();
                let mut charges = 0;
                while bucket.check(0, charge(cost, limit)).is_ok() {
                    bucket.take(0, charge(cost, limit));
                    charges += 1;
                }
                let spare = charges * limit / WINDOW + 1;
                let most = limit + spare;
                assert!(charges * cost <= most, "{charges} of {cost}, {limit}");
            }
        }
    }

    #[test]
    fn more_than_the_limit_never_fits() {
        assert_eq!(Bucket::default().check(5, charge(101, 100)), Err(None));
        assert_eq!(Bucket::default().check(5, charge(100, 100)), Ok(()));
    }

    #[test]
    fn a_refund_never_lifts_the_bucket_above_its_burst() {
        let mut bucket = Bucket::default();
        bucket.take(1_000_000, 30);
        bucket.give_back(90_000_000, 30);
        bucket.give_back(90_000_000, 30);
        assert_eq!(bucket.owed(90_000_000), 0);
        bucket.take(90_000_000, WINDOW);
        assert_eq!(bucket.check(90_000_000, 1), Err(Some(1)));
    }

    proptest! {
        /// governor's own algorithm, in nanoseconds, is the measure for requests.
        #[test]
        fn decides_as_governor_does(
            limit in 1u32..5_000,
            gaps in prop::collection::vec(0u64..3_000_000, 1..200),
        ) {
            let clock = FakeRelativeClock::default();
            let quota = Quota::per_minute(NonZeroU32::new(limit).unwrap());
            let governor = RateLimiter::direct_with_clock(quota, clock.clone());
            let mut bucket = Bucket::default();
            let mut now = 0;
            // One unit of rounding a charge: governor keeps nanoseconds.
            let mut taken = 0;
            for gap in gaps {
                clock.advance(Duration::from_micros(gap));
                now += gap;
                let ours = bucket.check(now, charge(1, limit.into()));
                let theirs = governor.check();
                if ours.is_ok() != theirs.is_ok() {
                    let off = ours.err().flatten().unwrap_or(0);
                    prop_assert!(off <= taken + 1, "{ours:?} {theirs:?}");
                    // From here on the two have different histories.
                    return Ok(());
                }
                if ours.is_ok() {
                    bucket.take(now, charge(1, limit.into()));
                    taken += 1;
                }
            }
        }

        #[test]
        fn what_was_used_stays_within_the_limit_and_the_wait_is_true(
            limit in 1u64..1_000_000,
            steps in prop::collection::vec((0u64..20_000_000, 1u64..1_000_000, 0u64..100), 1..100),
        ) {
            let mut bucket = Bucket::default();
            let (mut now, mut used) = (0, 0u64);
            for (gap, cost, kept) in steps {
                now += gap;
                let cost = cost.min(limit);
                let time = charge(cost, limit);
                match bucket.check(now, time) {
                    Ok(()) => {
                        bucket.take(now, time);
                        let real = cost * kept / 100;
                        let back = time - duration(real, limit);
                        bucket.give_back(now, i64::try_from(back).unwrap());
                        used += duration(real, limit);
                    }
                    Err(Some(wait)) => {
                        prop_assert!(bucket.check(now + wait - 1, time).is_err());
                        now += wait;
                        prop_assert_eq!(bucket.check(now, time), Ok(()));
                    }
                    Err(None) => prop_assert!(false, "{} of {} must fit some time", cost, limit),
                }
                prop_assert!(used <= now + WINDOW);
                prop_assert!(bucket.window(now, limit).remaining <= limit);
            }
        }
    }
}
