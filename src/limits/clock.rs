//! Time, as limits see it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the limiter takes its time from; tests bring one that they move themselves.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment; it never goes back. Minutes and waits are measured with it.
    fn monotonic(&self) -> Duration;
    /// Time since 1970 in UTC. Days and months are told by it.
    fn unix(&self) -> Duration;
    /// What Redis is to take for the time since 1970. Its own where `None`, so that the clocks of
    /// replicas need not agree.
    fn for_redis(&self) -> Option<Duration> {
        None
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn unix(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }
}

/// Microseconds, as buckets and Lua count them.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The day and the month of a moment, in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Period {
    /// Days since 1970.
    pub(super) day: i64,
    /// Twelve times the year, plus the month from 1 on.
    pub(super) month: i64,
    /// Microseconds until midnight.
    pub(super) left: u64,
}

const DAY: u64 = 86_400_000_000;

impl Period {
    /// The period of a moment since 1970.
    pub(super) fn at(unix: Duration) -> Self {
        let unix = micros(unix);
        let date = i64::try_from(unix)
            .ok()
            .and_then(|unix| jiff::Timestamp::from_microsecond(unix).ok())
            .unwrap_or(jiff::Timestamp::MAX)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date();
        Self {
            day: i64::try_from(unix / DAY).unwrap_or(i64::MAX),
            month: i64::from(date.year()) * 12 + i64::from(date.month()),
            left: DAY - unix % DAY,
        }
    }
}
