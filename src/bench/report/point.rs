//! What was measured at one load, as data.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bench::{
    drive::Sent,
    plan::{Load, Plan},
    tally::{Tally, Times},
    verdict,
};

/// One load.
#[derive(Debug, Clone, Serialize)]
pub struct PointReport {
    /// How requests followed each other.
    pub load: LoadReport,
    /// From when on `latency_ms` counts.
    pub measured_from: &'static str,
    /// From the start until the last request was over, seconds.
    pub wall_s: f64,
    /// What became of them.
    pub requests: Requests,
    /// Those that failed, most frequent first.
    pub failures: Vec<FailureReport>,
    /// Why models ended, and how often.
    pub finish_reasons: BTreeMap<String, u64>,
    /// Tokens.
    pub tokens: Tokens,
    /// Per second of `wall_s`.
    pub throughput: Throughput,
    /// Of the answers that kept the objectives; none where there are no objectives.
    pub goodput: Option<Goodput>,
    /// Of good answers, milliseconds.
    pub latency_ms: Latencies,
    /// Of good answers from the actual send, milliseconds.
    pub from_send_ms: FromSend,
    /// How well the generator did its own part.
    pub generator: Generator,
    /// What happened when.
    pub timeline: Timeline,
    /// What to know before believing the numbers.
    pub warnings: Vec<String>,
    /// Distribution functions, for the plot.
    #[serde(skip)]
    pub curves: Curves,
}

/// How requests followed each other.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LoadReport {
    /// So many at once.
    Closed {
        /// Requests at once.
        concurrency: usize,
    },
    /// At their times.
    Open {
        /// Requests a second.
        rate: f64,
        /// `constant` or `poisson`.
        arrival: &'static str,
    },
}

impl From<Load> for LoadReport {
    fn from(load: Load) -> Self {
        match load {
            Load::Closed { concurrency } => Self::Closed { concurrency },
            Load::Open { rate, arrival } => Self::Open {
                rate,
                arrival: arrival.name(),
            },
        }
    }
}

/// What became of requests.
#[derive(Debug, Clone, Serialize)]
pub struct Requests {
    /// Answered well.
    pub ok: u64,
    /// Not answered well.
    pub failed: u64,
    /// Interrupted.
    pub unfinished: u64,
    /// Due, but not sent: the generator was too far behind.
    pub unsent: u64,
    /// Images in those that were not interrupted.
    pub images: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Failures of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct FailureReport {
    /// `http_429 rate_limit_exceeded`, `timeout`, `connect`, ...
    pub kind: String,
    /// How many.
    pub count: u64,
    /// What the first said.
    pub example: String,
}

/// Tokens of good answers.
#[derive(Debug, Clone, Serialize)]
pub struct Tokens {
    /// Whence `output` is known: `usage`, `events`, `mixed`, or `none` without an answer.
    pub source: &'static str,
    /// Of prompts, as the server told.
    pub prompt: u64,
    /// ... of them from a cache.
    pub cached: u64,
    /// Of answers.
    pub output: u64,
    /// Events with output.
    pub events: u64,
}

/// Per second.
#[derive(Debug, Clone, Serialize)]
pub struct Throughput {
    /// Good answers.
    pub requests_per_s: f64,
    /// Their tokens.
    pub output_tokens_per_s: f64,
    /// Their prompts' tokens.
    pub prompt_tokens_per_s: f64,
}

/// Of the answers that kept the objectives.
#[derive(Debug, Clone, Serialize)]
pub struct Goodput {
    /// Of them, a second.
    pub requests_per_s: f64,
    /// Of all requests that were due, interrupted ones left out; from 0 to 1.
    pub share: f64,
}

/// Times of good answers.
#[derive(Debug, Clone, Serialize)]
pub struct Latencies {
    /// Until the first event with output.
    pub ttft: Option<Percentiles>,
    /// Between two events with output.
    pub inter_token: Option<Percentiles>,
    /// Mean time per output token after the first, of each answer.
    pub tpot: Option<Percentiles>,
    /// The whole request.
    pub e2e: Option<Percentiles>,
}

/// Times from the actual send.
#[derive(Debug, Clone, Serialize)]
pub struct FromSend {
    /// Until the first event with output.
    pub ttft: Option<Percentiles>,
    /// The whole request.
    pub e2e: Option<Percentiles>,
}

/// A distribution, milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Percentiles {
    /// How many times there are.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The least.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// Nine of ten take no longer.
    pub p90: f64,
    /// 95 of a hundred take no longer.
    pub p95: f64,
    /// 99 of a hundred take no longer.
    pub p99: f64,
    /// 999 of a thousand take no longer.
    pub p999: f64,
    /// The greatest.
    pub max: f64,
}

impl Percentiles {
    /// None where there are no times.
    pub fn of(times: &Times) -> Option<Self> {
        (times.count() > 0).then(|| Self {
            count: times.count(),
            mean: times.mean(),
            min: times.min(),
            p50: times.quantile(0.5),
            p90: times.quantile(0.9),
            p95: times.quantile(0.95),
            p99: times.quantile(0.99),
            p999: times.quantile(0.999),
            max: times.max(),
        })
    }
}

/// How well the generator did its own part.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    /// How much later than intended requests were sent.
    pub send_delay_ms: Option<Percentiles>,
    /// How late its own timers were.
    pub timer_delay_ms: Option<Percentiles>,
    /// Both stayed small, and nothing was left unsent.
    pub keeps_up: bool,
}

/// What happened when.
#[derive(Debug, Clone, Serialize)]
pub struct Timeline {
    /// Seconds of a bucket.
    pub bucket_s: f64,
    /// What `output` counts: `events` of streams, or `tokens` of whole answers.
    pub output_unit: &'static str,
    /// From the start on.
    pub buckets: Vec<Bucket>,
}

/// A piece of time.
#[derive(Debug, Clone, Serialize)]
pub struct Bucket {
    /// Requests sent.
    pub sent: u64,
    /// Good answers that ended.
    pub finished: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Output that came.
    pub output: u64,
}

/// Distribution functions: milliseconds, and the share that took no longer.
#[derive(Debug, Clone, Default)]
pub struct Curves {
    /// Time to first token.
    pub ttft: Vec<(f64, f64)>,
    /// Between two events with output.
    pub inter_token: Vec<(f64, f64)>,
    /// The whole request.
    pub e2e: Vec<(f64, f64)>,
}

/// What was measured at one load.
#[derive(Debug)]
pub struct Measured {
    /// The load.
    pub load: Load,
    /// Its requests.
    pub tally: Tally,
    /// What was not sent.
    pub sent: Sent,
    /// How late the generator's timers were.
    pub timer_delay: Times,
}

impl PointReport {
    /// The report of a point of `plan`.
    pub fn of(measured: &Measured, plan: &Plan) -> Self {
        let tally = &measured.tally;
        let seconds = tally.wall.as_secs_f64();
        let per_second = |count: u64| match count {
            0 => 0.0,
            count => count as f64 / seconds,
        };
        let unsent = measured.sent.unsent;
        let due = tally.ok + tally.failed() + unsent;
        let goodput = (plan.slo.is_set() && due > 0).then(|| Goodput {
            requests_per_s: per_second(tally.good),
            share: tally.good as f64 / due as f64,
        });
        Self {
            load: measured.load.into(),
            measured_from: match measured.load {
                Load::Open { .. } => "intended send",
                Load::Closed { .. } => "actual send",
            },
            wall_s: seconds,
            requests: Requests {
                ok: tally.ok,
                failed: tally.failed(),
                unfinished: tally.unfinished,
                unsent,
                images: tally.images,
                bytes: tally.bytes,
            },
            failures: failures(tally),
            finish_reasons: tally.finish_reasons.clone(),
            tokens: tokens(tally),
            throughput: Throughput {
                requests_per_s: per_second(tally.ok),
                output_tokens_per_s: per_second(tally.output_tokens),
                prompt_tokens_per_s: per_second(tally.prompt_tokens),
            },
            goodput,
            latency_ms: latencies(tally),
            from_send_ms: FromSend {
                ttft: Percentiles::of(&tally.ttft_from_send),
                e2e: Percentiles::of(&tally.e2e_from_send),
            },
            generator: Generator {
                send_delay_ms: Percentiles::of(&tally.send_delay),
                timer_delay_ms: Percentiles::of(&measured.timer_delay),
                keeps_up: verdict::keeps_up(measured),
            },
            timeline: timeline(tally, plan.ask.stream),
            warnings: verdict::warnings(measured, plan),
            curves: Curves {
                ttft: tally.ttft.curve(),
                inter_token: tally.inter_token.curve(),
                e2e: tally.e2e.curve(),
            },
        }
    }
}

fn latencies(tally: &Tally) -> Latencies {
    Latencies {
        ttft: Percentiles::of(&tally.ttft),
        inter_token: Percentiles::of(&tally.inter_token),
        tpot: Percentiles::of(&tally.tpot),
        e2e: Percentiles::of(&tally.e2e),
    }
}

fn failures(tally: &Tally) -> Vec<FailureReport> {
    let mut failures: Vec<FailureReport> = tally
        .failures
        .iter()
        .map(|(kind, failures)| FailureReport {
            kind: kind.clone(),
            count: failures.count,
            example: failures.example.clone(),
        })
        .collect();
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.count));
    failures
}

fn tokens(tally: &Tally) -> Tokens {
    Tokens {
        source: match (tally.ok, tally.with_usage) {
            (0, _) => "none",
            (_, 0) if tally.events == 0 => "none",
            (_, 0) => "events",
            (ok, with_usage) if ok == with_usage => "usage",
            _ => "mixed",
        },
        prompt: tally.prompt_tokens,
        cached: tally.cached_tokens,
        output: tally.output_tokens,
        events: tally.events,
    }
}

fn timeline(tally: &Tally, stream: bool) -> Timeline {
    let (bucket_s, ticks) = tally.timeline();
    let buckets = ticks.into_iter().map(|tick| Bucket {
        sent: tick.sent,
        finished: tick.finished,
        failed: tick.failed,
        output: tick.output,
    });
    Timeline {
        bucket_s,
        output_unit: if stream { "events" } else { "tokens" },
        buckets: buckets.collect(),
    }
}
