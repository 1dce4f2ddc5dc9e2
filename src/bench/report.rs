//! The result as data: what `--json` writes. `docs/bench.schema.json` describes it.

pub mod point;

use serde::Serialize;
use serde_json::{Map, Value};

use super::plan::{Plan, Until};
pub use point::{Measured, Percentiles, PointReport};

/// The format's name and version. A field that goes or changes its meaning raises it.
pub const SCHEMA: &str = "porthole-bench/1";

/// A whole measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The generator's version.
    pub porthole: &'static str,
    /// The command line, with the key struck out.
    pub command: Vec<String>,
    /// When it began, RFC 3339.
    pub started: String,
    /// When it was over, RFC 3339.
    pub ended: String,
    /// It was interrupted, and the last point is not whole.
    pub interrupted: bool,
    /// Who was asked.
    pub target: TargetReport,
    /// What was asked.
    pub settings: Settings,
    /// What was measured, a load a point.
    pub points: Vec<PointReport>,
}

/// Who was asked.
#[derive(Debug, Clone, Serialize)]
pub struct TargetReport {
    /// The API's base.
    pub url: String,
    /// The model's name.
    pub model: String,
    /// The `Server` header.
    pub server: Option<String>,
}

/// What was asked.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// What all chance came from.
    pub seed: u64,
    /// Answers as streams.
    pub stream: bool,
    /// Words of a prompt.
    pub prompt_words: usize,
    /// Longest answer.
    pub max_tokens: u64,
    /// Shares of requests by their number of images.
    pub images: Vec<ImageShare>,
    /// Sizes chosen from.
    pub image_sizes: Vec<String>,
    /// `jpeg` or `png`.
    pub image_format: &'static str,
    /// The same images in every request.
    pub same_image: bool,
    /// Further fields of bodies.
    pub extra_body: Map<String, Value>,
    /// A request's longest time, seconds.
    pub timeout_s: f64,
    /// Requests of each point at most.
    pub requests: Option<u64>,
    /// Seconds in which each point sends, at most.
    pub duration_s: Option<f64>,
    /// What was sent before each point.
    pub warmup: Option<WarmupReport>,
    /// Requests of an open loop under way at once, at most.
    pub max_in_flight: usize,
    /// The objective of the time to first token, milliseconds.
    pub slo_ttft_ms: Option<f64>,
    /// The objective of the time per output token, milliseconds.
    pub slo_tpot_ms: Option<f64>,
}

/// What was sent before each point.
#[derive(Debug, Clone, Serialize)]
pub struct WarmupReport {
    /// Requests at most.
    pub requests: Option<u64>,
    /// Seconds at most.
    pub duration_s: Option<f64>,
}

/// A share of the requests.
#[derive(Debug, Clone, Serialize)]
pub struct ImageShare {
    /// Images in each of them.
    pub count: usize,
    /// From 0 to 1.
    pub share: f64,
}

impl Settings {
    /// As planned.
    pub fn of(plan: &Plan) -> Self {
        let ask = &plan.ask;
        let shares = ask.images.shares().iter();
        let seconds = |until: Until| until.duration.map(|d| d.as_secs_f64());
        Self {
            seed: ask.seed,
            stream: ask.stream,
            prompt_words: ask.prompt_tokens,
            max_tokens: ask.max_tokens,
            images: shares
                .map(|&(count, share)| ImageShare { count, share })
                .collect(),
            image_sizes: ask.sizes.iter().map(ToString::to_string).collect(),
            image_format: ask.format.name(),
            same_image: ask.same_image,
            extra_body: ask.extra.clone(),
            timeout_s: plan.target.timeout.as_secs_f64(),
            requests: plan.until.requests,
            duration_s: seconds(plan.until),
            warmup: (!plan.warmup.is_nothing()).then(|| WarmupReport {
                requests: plan.warmup.requests,
                duration_s: seconds(plan.warmup),
            }),
            max_in_flight: plan.max_in_flight,
            slo_ttft_ms: plan.slo.ttft.map(|d| d.as_secs_f64() * 1e3),
            slo_tpot_ms: plan.slo.tpot.map(|d| d.as_secs_f64() * 1e3),
        }
    }
}
