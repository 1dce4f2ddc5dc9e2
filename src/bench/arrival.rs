//! When requests are due in an open loop.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::plan::Until;

/// How the time between two requests is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrival {
    /// Always the same.
    Constant,
    /// At random, as from many clients that know nothing of each other (a Poisson process).
    Poisson,
}

impl Arrival {
    /// As the command line names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }
}

/// The times at which requests are due, since the start, in rising order. The same seed gives the
/// same times.
#[derive(Debug)]
pub struct Schedule {
    rate: f64,
    arrival: Arrival,
    until: Until,
    random: ChaCha8Rng,
    given: u64,
    poisson_time: f64,
}

impl Schedule {
    /// `rate` is in requests a second and positive.
    pub fn new(rate: f64, arrival: Arrival, until: Until, seed: u64) -> Self {
        Self {
            rate,
            arrival,
            until,
            random: ChaCha8Rng::seed_from_u64(seed),
            given: 0,
            poisson_time: 0.0,
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.until.requests.is_some_and(|most| self.given >= most) {
            return None;
        }
        let seconds = match self.arrival {
            // Not a sum of gaps, which would sum up their rounding.
            Arrival::Constant => self.given as f64 / self.rate,
            Arrival::Poisson => {
                let uniform: f64 = self.random.random();
                // 1 - u lies in (0, 1]: its logarithm is finite.
                self.poisson_time -= (1.0 - uniform).ln() / self.rate;
                self.poisson_time
            }
        };
        // Beyond any time that fits there is no further request.
        let due = Duration::try_from_secs_f64(seconds).ok()?;
        if self.until.duration.is_some_and(|end| due >= end) {
            return None;
        }
        self.given += 1;
        Some(due)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seconds(rate: f64, arrival: Arrival, until: Until) -> Vec<f64> {
        Schedule::new(rate, arrival, until, 7)
            .map(|due| due.as_secs_f64())
            .collect()
    }

    #[test]
    fn constant_arrivals_are_even_and_end_at_the_first_of_both_ends() {
        let until = |requests, duration| Until { requests, duration };
        let by_count = seconds(4.0, Arrival::Constant, until(Some(3), None));
        assert_eq!(by_count, [0.0, 0.25, 0.5]);
        let by_time = until(Some(1_000), Some(Duration::from_secs(1)));
        // The request of the very end is not sent.
        assert_eq!(
            seconds(4.0, Arrival::Constant, by_time),
            [0.0, 0.25, 0.5, 0.75]
        );
        let third = seconds(3.0, Arrival::Constant, until(Some(300_001), None));
        assert!((third.last().unwrap() - 100_000.0).abs() < 1e-6);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
        let until = Until {
            requests: Some(100_000),
            duration: None,
        };
        let due = seconds(50.0, Arrival::Poisson, until);
        let mut gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let square = |gap: &f64| (gap - mean) * (gap - mean);
        let deviation = (gaps.iter().map(square).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean * 50.0 - 1.0).abs() < 0.02, "{mean}");
        // Of an exponential distribution, mean and standard deviation are the same, and the median is ln 2 of it.
        assert!((deviation / mean - 1.0).abs() < 0.03, "{deviation}");
        gaps.sort_by(f64::total_cmp);
        let median = gaps[gaps.len() / 2];
        assert!((median / mean - 2f64.ln()).abs() < 0.02, "{median}");
        assert!(gaps[0] >= 0.0);
    }

    #[test]
    fn a_seed_repeats_its_times_and_another_does_not() {
        let until = Until {
            requests: Some(10),
            duration: None,
        };
        let times =
            |seed| Schedule::new(9.0, Arrival::Poisson, until, seed).collect::<Vec<Duration>>();
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }
}
