//! Counting what became of requests.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use super::{
    answer::{Answer, Failure},
    drive::Sample,
    plan::Slo,
};

/// Times longer than this are taken for it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Kinds of failure that are told apart; further ones are `other`.
const MOST_KINDS: usize = 32;

/// The finest resolution of the timeline.
const TICK: Duration = Duration::from_millis(100);

/// A distribution of times, to three significant digits.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

impl Times {
    /// An empty one.
    ///
    /// # Errors
    /// None for these bounds; the histogram's constructor has them.
    pub fn new() -> Result<Self, String> {
        // Microseconds.
        let histogram = Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3);
        histogram.map(Self).map_err(|e| e.to_string())
    }

    /// Adds a time.
    pub fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The mean, milliseconds.
    pub fn mean(&self) -> f64 {
        self.0.mean() / 1e3
    }

    /// The least, milliseconds.
    pub fn min(&self) -> f64 {
        self.0.min() as f64 / 1e3
    }

    /// The greatest, milliseconds.
    pub fn max(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    /// The time that this share of all keeps, milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }

    /// The distribution function: milliseconds, and the share of all that took no longer.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let total = self.count() as f64;
        let mut seen = 0;
        let recorded = self.0.iter_recorded().map(|step| {
            seen += step.count_since_last_iteration();
            (step.value_iterated_to() as f64 / 1e3, seen as f64 / total)
        });
        recorded.collect()
    }
}

/// Failures of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// How many.
    pub count: u64,
    /// What the first said.
    pub example: String,
}

/// A tick of the timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tick {
    /// Requests sent.
    pub sent: u64,
    /// Good answers that ended.
    pub finished: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Events with output; tokens where answers come whole.
    pub output: u64,
}

/// The counts of one point.
#[derive(Debug, Clone)]
pub struct Tally {
    open: bool,
    slo: Slo,
    /// Time to first token, from the intended send in an open loop, from the actual one in a
    /// closed loop; as all times that do not say otherwise.
    pub ttft: Times,
    /// Between two events with output.
    pub inter_token: Times,
    /// Mean time per output token after the first, of each answer.
    pub tpot: Times,
    /// The whole request.
    pub e2e: Times,
    /// Time to first token from the actual send.
    pub ttft_from_send: Times,
    /// The whole request from the actual send.
    pub e2e_from_send: Times,
    /// How much later than intended requests were sent.
    pub send_delay: Times,
    /// Good answers.
    pub ok: u64,
    /// Requests that were interrupted.
    pub unfinished: u64,
    /// The others, by kind.
    pub failures: BTreeMap<String, Failures>,
    /// Why models ended.
    pub finish_reasons: BTreeMap<String, u64>,
    /// Good answers that kept the objectives.
    pub good: u64,
    /// Good answers whose usage the server told.
    pub with_usage: u64,
    /// Good streams without `[DONE]`.
    pub without_done: u64,
    /// Tokens of the prompts, as far as told.
    pub prompt_tokens: u64,
    /// ... of them from a cache.
    pub cached_tokens: u64,
    /// Tokens of the answers, told or else counted as events.
    pub output_tokens: u64,
    /// Events with output.
    pub events: u64,
    /// Images sent.
    pub images: u64,
    /// Bytes of bodies sent.
    pub bytes: u64,
    /// From the start until the last request was over.
    pub wall: Duration,
    ticks: Vec<Tick>,
    /// Intended send and whole time of every good answer.
    course: Vec<(Duration, Duration)>,
}

impl Tally {
    /// Nothing counted yet. `open` says that times count from the intended send.
    ///
    /// # Errors
    /// As [`Times::new`].
    pub fn new(open: bool, slo: Slo) -> Result<Self, String> {
        let times = Times::new()?;
        Ok(Self {
            open,
            slo,
            ttft: times.clone(),
            inter_token: times.clone(),
            tpot: times.clone(),
            e2e: times.clone(),
            ttft_from_send: times.clone(),
            e2e_from_send: times.clone(),
            send_delay: times,
            ok: 0,
            unfinished: 0,
            failures: BTreeMap::new(),
            finish_reasons: BTreeMap::new(),
            good: 0,
            with_usage: 0,
            without_done: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
            output_tokens: 0,
            events: 0,
            images: 0,
            bytes: 0,
            wall: Duration::ZERO,
            ticks: Vec::new(),
            course: Vec::new(),
        })
    }

    /// Counts a request.
    pub fn add(&mut self, sample: &Sample) {
        self.wall = self.wall.max(sample.over);
        let Some(result) = &sample.result else {
            self.unfinished += 1;
            return;
        };
        self.images += sample.images as u64;
        self.bytes += sample.bytes as u64;
        self.send_delay
            .add(sample.sent.saturating_sub(sample.intended));
        self.tick(sample.sent).sent += 1;
        match result {
            Ok(answer) => self.answered(sample, answer),
            Err(failure) => {
                self.tick(sample.over).failed += 1;
                self.fail(failure);
            }
        }
    }

    fn answered(&mut self, sample: &Sample, answer: &Answer) {
        let from = if self.open {
            sample.intended
        } else {
            sample.sent
        };
        self.ok += 1;
        self.tick(answer.end).finished += 1;
        let ttft = answer.first.map(|first| first.saturating_sub(from));
        if let Some((first, ttft)) = answer.first.zip(ttft) {
            self.ttft.add(ttft);
            self.ttft_from_send.add(first.saturating_sub(sample.sent));
        }
        let tpot = answer.time_per_output_token();
        tpot.into_iter().for_each(|tpot| self.tpot.add(tpot));
        let e2e = answer.end.saturating_sub(from);
        self.e2e.add(e2e);
        self.e2e_from_send
            .add(answer.end.saturating_sub(sample.sent));
        self.course.push((sample.intended, e2e));
        self.output(answer);
        // An answer without a first token has kept no time to it; one of a single token has no
        // time per further one to keep.
        let kept = |limit: Option<Duration>, time: Option<Duration>, none: bool| {
            limit.is_none_or(|limit| time.map_or(none, |time| time <= limit))
        };
        if kept(self.slo.ttft, ttft, false) && kept(self.slo.tpot, tpot, true) {
            self.good += 1;
        }
    }

    fn output(&mut self, answer: &Answer) {
        self.output_tokens += answer.output_tokens();
        self.events += answer.events;
        if let Some(usage) = answer.usage {
            self.with_usage += 1;
            self.prompt_tokens += usage.prompt_tokens;
            self.cached_tokens += usage.cached();
        }
        let reason = answer.finish_reason.as_deref().unwrap_or("none");
        // A stranger's word: as many of them as failures at most.
        let known = self.finish_reasons.contains_key(reason);
        let reason = if known || self.finish_reasons.len() < MOST_KINDS {
            super::answer::plain(reason, 64)
        } else {
            "other".into()
        };
        *self.finish_reasons.entry(reason).or_default() += 1;
        let Some(mut at) = answer.first else {
            self.tick(answer.end).output += answer.output_tokens();
            return;
        };
        self.without_done += u64::from(!answer.done);
        self.tick(at).output += 1;
        for gap in &answer.gaps {
            let gap = Duration::from_micros(u64::from(*gap));
            self.inter_token.add(gap);
            at += gap;
            self.tick(at).output += 1;
        }
    }

    fn fail(&mut self, failure: &Failure) {
        let known = self.failures.contains_key(&failure.kind);
        let kind = if known || self.failures.len() < MOST_KINDS {
            failure.kind.clone()
        } else {
            "other".into()
        };
        let failures = self.failures.entry(kind).or_insert_with(|| Failures {
            count: 0,
            example: failure.message.clone(),
        });
        failures.count += 1;
    }

    fn tick(&mut self, at: Duration) -> &mut Tick {
        let longest = LONGEST.as_millis() / TICK.as_millis();
        let tick = (at.as_millis() / TICK.as_millis()).min(longest) as usize;
        if self.ticks.len() <= tick {
            self.ticks.resize(tick + 1, Tick::default());
        }
        &mut self.ticks[tick]
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().map(|failures| failures.count).sum()
    }

    /// The timeline in ticks of a round length, in seconds, few enough to look at.
    pub fn timeline(&self) -> (f64, Vec<Tick>) {
        let wide_enough = |ticks: &usize| self.ticks.len() <= ticks * 60;
        let widths = [1, 2, 5, 10, 20, 50, 100, 300, 600, 3_000];
        let width = widths.into_iter().find(wide_enough).unwrap_or(36_000);
        let sum = |ticks: &[Tick]| {
            ticks.iter().fold(Tick::default(), |sum, tick| Tick {
                sent: sum.sent + tick.sent,
                finished: sum.finished + tick.finished,
                failed: sum.failed + tick.failed,
                output: sum.output + tick.output,
            })
        };
        let seconds = width as f64 * TICK.as_secs_f64();
        (seconds, self.ticks.chunks(width).map(sum).collect())
    }

    /// Median whole times of the first and the last third of the answers, by when they were to be
    /// sent, in milliseconds; none where there are too few to say.
    pub fn trend(&self) -> Option<(f64, f64)> {
        let mut course = self.course.clone();
        course.sort_unstable();
        let third = course.len() / 3;
        let median = |part: &[(Duration, Duration)]| {
            let mut times: Vec<Duration> = part.iter().map(|(_, time)| *time).collect();
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1e3
        };
        (third >= 10).then(|| {
            (
                median(&course[..third]),
                median(&course[course.len() - third..]),
            )
        })
    }
}

#[cfg(test)]
#[path = "tally/tests.rs"]
mod tests;
