//! What is measured of each model: handles with everything looked up, so that a token costs no
//! search of a label.

use std::{
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Instant,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

use super::{GaugeGuard, labels::escaped};
use crate::engine;

/// Seconds until something is there: the first token, a turn.
const WAITS: [f64; 17] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0,
    160.0,
];
/// Seconds between two tokens.
const GAPS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];
/// Seconds of a whole request.
const DURATIONS: [f64; 15] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 240.0, 480.0, 960.0,
];
/// Tokens of one request.
const TOKENS: [f64; 16] = [
    1.0, 4.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16_384.0,
    32_768.0, 65_536.0, 131_072.0,
];

/// How a request came out that the model was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn, or a stop sequence came.
    Stop,
    /// The answer was as long as allowed.
    Length,
    /// The model called tools.
    ToolCalls,
    /// The answer was withheld.
    ContentFilter,
    /// The engine failed, or an image could not be decoded.
    Error,
    /// Whoever asked went away, or lost the right to ask.
    Cancelled,
}

impl Finish {
    /// Every way, in the order of [`ModelMetrics::finished`].
    pub const ALL: [Self; 6] = [
        Self::Stop,
        Self::Length,
        Self::ToolCalls,
        Self::ContentFilter,
        Self::Error,
        Self::Cancelled,
    ];

    /// Its word in labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<engine::FinishReason> for Finish {
    fn from(reason: engine::FinishReason) -> Self {
        match reason {
            engine::FinishReason::Stop => Self::Stop,
            engine::FinishReason::Length => Self::Length,
            engine::FinishReason::ToolCalls => Self::ToolCalls,
        }
    }
}

/// The metrics of one model.
#[derive(Debug)]
pub struct ModelMetrics {
    /// Its name as a label has it.
    pub(super) label: String,
    /// Generations that the engine runs now.
    pub running: Gauge,
    /// Generations that wait for the engine.
    pub waiting: Gauge,
    /// Sequences that all replicas that are up compute at once.
    pub capacity: Gauge,
    /// Replicas that are wanted.
    pub replicas: Gauge,
    /// Replicas that can answer.
    pub replicas_up: Gauge,
    /// Times the engine died and was brought back.
    pub engine_restarts: Counter,
    /// Sequences that the check at load allows at once.
    pub engine_lane_width: Gauge,
    /// Prompt tokens computed.
    pub prompt_tokens: Counter,
    /// Tokens generated.
    pub generation_tokens: Counter,
    finished: [Counter; Finish::ALL.len()],
    /// Seconds from the arrival of a request to the first piece of its answer.
    pub time_to_first_token: Histogram,
    /// Seconds between two pieces of one answer.
    pub inter_token_latency: Histogram,
    /// Seconds from the arrival of a request to the end of its answer.
    pub request_duration: Histogram,
    /// Seconds that a request waited for the engine.
    pub queue_time: Histogram,
    /// Prompt tokens of an answered request.
    pub request_prompt_tokens: Histogram,
    /// Tokens generated for an answered request, over all its answers.
    pub request_generation_tokens: Histogram,
}

impl ModelMetrics {
    fn new(label: String) -> Self {
        Self {
            label,
            running: Gauge::default(),
            waiting: Gauge::default(),
            capacity: Gauge::default(),
            replicas: Gauge::default(),
            replicas_up: Gauge::default(),
            engine_restarts: Counter::default(),
            engine_lane_width: Gauge::default(),
            prompt_tokens: Counter::default(),
            generation_tokens: Counter::default(),
            finished: Default::default(),
            time_to_first_token: Histogram::new(WAITS),
            inter_token_latency: Histogram::new(GAPS),
            request_duration: Histogram::new(DURATIONS),
            queue_time: Histogram::new(WAITS),
            request_prompt_tokens: Histogram::new(TOKENS),
            request_generation_tokens: Histogram::new(TOKENS),
        }
    }

    /// The count of requests that came out so.
    pub fn finished(&self, how: Finish) -> &Counter {
        &self.finished[how as usize]
    }

    /// Requests that run or wait, as a part of those that the engine computes at once: above 1 some
    /// wait. While nothing can be computed, each counts as one whole.
    pub fn load_ratio(&self) -> f64 {
        let there = self.running.get() + self.waiting.get();
        there as f64 / self.capacity.get().max(1) as f64
    }
}

/// Every model's metrics, in the order in which they were first asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Models(Arc<RwLock<Vec<Arc<ModelMetrics>>>>);

impl Models {
    /// The model's metrics, made when first asked for.
    pub(super) fn get(&self, name: &str) -> Arc<ModelMetrics> {
        let label = escaped(name);
        let mut models = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = models.iter().find(|model| model.label == label) {
            return known.clone();
        }
        let new = Arc::new(ModelMetrics::new(label));
        models.push(new.clone());
        new
    }

    pub(super) fn all(&self) -> Vec<Arc<ModelMetrics>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// When a request began to wait for the engine, and when the first of its sequences went in.
#[derive(Debug)]
pub struct Waited {
    since: Instant,
    ran: OnceLock<Instant>,
}

impl Default for Waited {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            ran: OnceLock::new(),
        }
    }
}

impl Waited {
    /// When it began to wait.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// When the engine took it; `None` while it waits.
    pub fn ran(&self) -> Option<Instant> {
        self.ran.get().copied()
    }
}

/// A sequence as the gauges see it: it waits until the engine takes it, and runs until dropped.
#[derive(Debug)]
pub struct Activity(Option<Seen>);

#[derive(Debug)]
struct Seen {
    model: Arc<ModelMetrics>,
    waited: Arc<Waited>,
    _counted: GaugeGuard,
}

impl Activity {
    /// One that is not counted: a probe of the engine by itself.
    pub fn unseen() -> Self {
        Self(None)
    }

    /// One that waits.
    pub fn waiting(model: Arc<ModelMetrics>, waited: Arc<Waited>) -> Self {
        Self(Some(Seen {
            _counted: GaugeGuard::new(&model.waiting),
            model,
            waited,
        }))
    }

    /// It runs from now on. The first sequence of a request tells how long the request waited.
    pub fn run(&mut self) {
        let Some(seen) = &mut self.0 else { return };
        let now = Instant::now();
        seen._counted = GaugeGuard::new(&seen.model.running);
        if seen.waited.ran.set(now).is_ok() {
            let waited = now.duration_since(seen.waited.since);
            seen.model.queue_time.observe(waited.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activity_waits_then_runs_then_is_gone() {
        let model = Models::default().get("m");
        let waited = Arc::new(Waited::default());
        let mut first = Activity::waiting(model.clone(), waited.clone());
        let mut second = Activity::waiting(model.clone(), waited.clone());
        assert_eq!((model.waiting.get(), model.running.get()), (2, 0));
        assert_eq!(waited.ran(), None);
        first.run();
        let ran = waited.ran();
        second.run();
        assert_eq!((model.waiting.get(), model.running.get()), (0, 2));
        assert!(ran.is_some() && waited.ran() == ran);
        drop((first, second));
        assert_eq!((model.waiting.get(), model.running.get()), (0, 0));
    }

    #[test]
    fn the_load_is_a_part_of_the_capacity() {
        let model = Models::default().get("m");
        model.waiting.set(3);
        assert_eq!(model.load_ratio(), 3.0);
        model.running.set(3);
        model.capacity.set(4);
        assert_eq!(model.load_ratio(), 1.5);
    }

    #[test]
    fn a_name_has_one_set_of_metrics() {
        let models = Models::default();
        models.get("a \"b\"\\").prompt_tokens.inc();
        models.get("c");
        assert_eq!(models.get("a \"b\"\\").prompt_tokens.get(), 1);
        assert_eq!(models.all()[0].label, "a \\\"b\\\"\\\\");
        assert_eq!(models.all().len(), 2);
    }
}
