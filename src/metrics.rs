//! What can be seen from outside: counters, gauges and histograms in a registry of our own.
//! Labels are bounded: route patterns, status codes, reasons from enums; never a client's text.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::media::{MediaError, fetch::FetchError, image::ImageError};

/// Labels of a served request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's pattern.
    pub route: String,
    /// The status code.
    pub status: u16,
}

/// Label of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// Why.
    pub reason: &'static str,
}

/// Every metric, with its registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// HTTP requests answered.
    pub http_requests: Family<RequestLabels, Counter>,
    /// Seconds from the first byte of a request to its response head.
    pub http_request_seconds: Histogram,
    /// Generations that the engine runs now.
    pub running: Gauge,
    /// Generations that wait for the engine.
    pub waiting: Gauge,
    /// Prompt tokens computed.
    pub prompt_tokens: Counter,
    /// Tokens generated.
    pub generation_tokens: Counter,
    /// Seconds to decode and resize one image.
    pub image_decode_seconds: Histogram,
    /// Images refused.
    pub image_refusals: Family<ReasonLabels, Counter>,
    /// Times the engine died and was brought back.
    pub engine_restarts: Counter,
    /// Sequences that the check at load allows at once.
    pub engine_lane_width: Gauge,
    /// 1 while chat requests are answered.
    pub ready: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.5, 12));
        let mut metrics = Self {
            registry: Registry::with_prefix("porthole"),
            http_requests: Family::default(),
            http_request_seconds: seconds(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            prompt_tokens: Counter::default(),
            generation_tokens: Counter::default(),
            image_decode_seconds: seconds(),
            image_refusals: Family::default(),
            engine_restarts: Counter::default(),
            engine_lane_width: Gauge::default(),
            ready: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "http_requests",
            "HTTP requests answered",
            self.http_requests.clone(),
        );
        r.register_with_unit(
            "http_request_duration",
            "Time from the first byte of a request to its response head",
            Unit::Seconds,
            self.http_request_seconds.clone(),
        );
        r.register(
            "requests_running",
            "Generations that the engine runs now",
            self.running.clone(),
        );
        r.register(
            "requests_waiting",
            "Generations that wait for the engine",
            self.waiting.clone(),
        );
        r.register(
            "prompt_tokens",
            "Prompt tokens computed",
            self.prompt_tokens.clone(),
        );
        r.register(
            "generation_tokens",
            "Tokens generated",
            self.generation_tokens.clone(),
        );
        r.register_with_unit(
            "image_decode",
            "Time to decode and resize one image",
            Unit::Seconds,
            self.image_decode_seconds.clone(),
        );
        r.register(
            "image_refusals",
            "Images refused",
            self.image_refusals.clone(),
        );
        r.register(
            "engine_restarts",
            "Times the engine died and was brought back",
            self.engine_restarts.clone(),
        );
        r.register(
            "engine_lane_width",
            "Sequences that the check at load allows at once",
            self.engine_lane_width.clone(),
        );
        r.register(
            "ready",
            "1 while chat requests are answered",
            self.ready.clone(),
        );
    }

    /// All metrics in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Counts a refused image by its reason.
    pub fn refused_image(&self, error: &MediaError) {
        let reason = match error {
            MediaError::Url(_) | MediaError::Fetch(FetchError::Url(_)) => "url",
            MediaError::Base64 => "base64",
            MediaError::TooLarge(_) | MediaError::Fetch(FetchError::TooLarge(_)) => "bytes",
            MediaError::Fetch(FetchError::Timeout(_)) => "timeout",
            MediaError::Fetch(FetchError::Redirects(_)) => "redirects",
            MediaError::Fetch(FetchError::Unreachable | FetchError::Status(_)) => "fetch",
            MediaError::Image(ImageError::Unsupported) => "type",
            MediaError::Image(ImageError::Broken) => "damaged",
            MediaError::Image(ImageError::TooManyPixels { .. }) => "pixels",
            MediaError::Image(ImageError::AspectRatio { .. }) => "aspect_ratio",
            MediaError::TooMany { .. } => "count",
        };
        self.image_refusals
            .get_or_create(&ReasonLabels { reason })
            .inc();
    }
}

/// Counts one while it lives.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    /// Adds one to `gauge` until dropped.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
