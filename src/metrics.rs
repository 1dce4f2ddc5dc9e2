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
    registry::{Metric, Registry, Unit},
};

use crate::{
    limits::What,
    media::{MediaError, fetch::FetchError, image::ImageError},
};

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

/// Label of an image by URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabels {
    /// Where it came from.
    pub source: &'static str,
}

/// Where an image by URL came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSource {
    /// Its server sent it.
    Network,
    /// Its server said that it is still the same.
    Revalidated,
    /// It was kept, and nobody was asked.
    Cache,
}

/// Label of something tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// What became of it.
    pub outcome: &'static str,
}

/// Label of a request that a limit refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabels {
    /// Which limit.
    pub what: &'static str,
}

/// Every metric, with its registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// HTTP requests answered.
    pub http_requests: Family<RequestLabels, Counter>,
    /// Seconds from the first byte of a request to its response head.
    pub http_request_seconds: Histogram,
    /// Connections open to the API.
    pub connections: Gauge,
    /// Connections closed at once, by which limit was reached.
    pub connections_refused: Family<ReasonLabels, Counter>,
    /// Times the TLS certificate changed, by whether the new one could be used.
    pub tls_reloads: Family<OutcomeLabels, Counter>,
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
    /// Images by URL, by where they came from.
    pub image_fetches: Family<SourceLabels, Counter>,
    /// Bytes of fetched images that are kept.
    pub image_cache_bytes: Gauge,
    /// Bytes of memory held for decoding and for decoded pixels.
    pub image_decoded_bytes: Gauge,
    /// Requests refused for their credential.
    pub auth_refusals: Family<ReasonLabels, Counter>,
    /// Attempts to fetch an issuer's keys.
    pub jwks_fetches: Family<OutcomeLabels, Counter>,
    /// Requests that a limit refused.
    pub limit_refusals: Family<LimitLabels, Counter>,
    /// Requests refused because there was no place, or no room in the queue.
    pub overload_refusals: Family<ReasonLabels, Counter>,
    /// 1 while Redis counts the limits.
    pub limits_redis_up: Gauge,
    /// Times that Redis could not be asked or told.
    pub limits_redis_errors: Counter,
    /// Seconds that Redis took to decide on a request.
    pub limits_redis_seconds: Histogram,
    /// Times the engine died and was brought back.
    pub engine_restarts: Counter,
    /// Sequences that the check at load allows at once.
    pub engine_lane_width: Gauge,
    /// 1 while chat requests are answered.
    pub ready: Gauge,
    /// 1 while the server is ending.
    pub draining: Gauge,
    /// Times the configuration was read anew, by whether it could be used.
    pub config_reloads: Family<OutcomeLabels, Counter>,
    /// 1 while the keys file is as good as the keys in use.
    pub keys_file_valid: Gauge,
    /// Times the keys file was read anew, by outcome.
    pub keys_reloads: Family<ReasonLabels, Counter>,
    /// Audit lines lost because nobody read them.
    pub audit_lines_lost: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("porthole");
        let r = &mut registry;
        Self {
            http_requests: registered(r, "http_requests", "HTTP requests answered"),
            http_request_seconds: seconds(
                r,
                "http_request_duration",
                "Time from the first byte of a request to its response head",
                exponential_buckets(0.001, 2.5, 12),
            ),
            connections: registered(r, "connections", "Connections open to the API"),
            connections_refused: registered(
                r,
                "connections_refused",
                "Connections closed at once, by which limit was reached",
            ),
            tls_reloads: registered(
                r,
                "tls_reloads",
                "Times the TLS certificate changed, by whether the new one could be used",
            ),
            running: registered(
                r,
                "requests_running",
                "Generations that the engine runs now",
            ),
            waiting: registered(
                r,
                "requests_waiting",
                "Generations that wait for the engine",
            ),
            prompt_tokens: registered(r, "prompt_tokens", "Prompt tokens computed"),
            generation_tokens: registered(r, "generation_tokens", "Tokens generated"),
            image_decode_seconds: seconds(
                r,
                "image_decode",
                "Time to decode and resize one image",
                exponential_buckets(0.001, 2.5, 12),
            ),
            image_refusals: registered(r, "image_refusals", "Images refused"),
            image_fetches: registered(r, "image_fetches", "Images by URL, by where they came from"),
            image_cache_bytes: registered(r, "image_cache_bytes", "Fetched images that are kept"),
            image_decoded_bytes: registered(
                r,
                "image_decoded_bytes",
                "Memory held for decoding and for decoded pixels",
            ),
            auth_refusals: registered(r, "auth_refusals", "Requests refused for their credential"),
            jwks_fetches: registered(r, "jwks_fetches", "Attempts to fetch an issuer's keys"),
            limit_refusals: registered(r, "limit_refusals", "Requests that a limit refused"),
            overload_refusals: registered(
                r,
                "overload_refusals",
                "Requests refused because there was no place, or no room in the queue",
            ),
            limits_redis_up: registered(r, "limits_redis_up", "1 while Redis counts the limits"),
            limits_redis_errors: registered(
                r,
                "limits_redis_errors",
                "Times that Redis could not be asked or told",
            ),
            limits_redis_seconds: seconds(
                r,
                "limits_redis",
                "Time that Redis took to decide on a request",
                exponential_buckets(0.0001, 2.0, 12),
            ),
            engine_restarts: registered(
                r,
                "engine_restarts",
                "Times the engine died and was brought back",
            ),
            engine_lane_width: registered(
                r,
                "engine_lane_width",
                "Sequences that the check at load allows at once",
            ),
            ready: registered(r, "ready", "1 while chat requests are answered"),
            draining: registered(r, "draining", "1 while the server is ending"),
            config_reloads: registered(
                r,
                "config_reloads",
                "Times the configuration was read anew, by whether it could be used",
            ),
            keys_file_valid: registered(
                r,
                "keys_file_valid",
                "1 while the keys file is as good as the keys in use",
            ),
            keys_reloads: registered(
                r,
                "keys_reloads",
                "Times the keys file was read anew, by outcome",
            ),
            audit_lines_lost: registered(
                r,
                "audit_lines_lost",
                "Audit lines lost because nobody read them",
            ),
            registry,
        }
    }
}

/// A new metric, registered.
fn registered<M: Metric + Clone + Default>(r: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    r.register(name, help, metric.clone());
    metric
}

/// A new histogram of seconds, registered.
fn seconds(
    r: &mut Registry,
    name: &str,
    help: &str,
    buckets: impl Iterator<Item = f64>,
) -> Histogram {
    let histogram = Histogram::new(buckets);
    r.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

impl Metrics {
    /// All metrics in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Counts a request refused for its credential.
    pub fn refused_auth(&self, reason: &'static str) {
        self.auth_refusals
            .get_or_create(&ReasonLabels { reason })
            .inc();
    }

    /// Attempts with this outcome to take on a changed configuration.
    pub fn config_reloads_of(&self, outcome: &'static str) -> Counter {
        let labels = OutcomeLabels { outcome };
        self.config_reloads.get_or_create_owned(&labels)
    }

    /// Counts an attempt to fetch an issuer's keys.
    pub fn fetched_jwks(&self, outcome: &'static str) {
        self.jwks_fetches
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// Counts a request that a limit refused.
    pub fn refused_limit(&self, what: What) {
        let labels = LimitLabels { what: what.name() };
        self.limit_refusals.get_or_create(&labels).inc();
    }

    /// Counts a request for which there was no room.
    pub fn refused_for_overload(&self, reason: &'static str) {
        self.overload_refusals
            .get_or_create(&ReasonLabels { reason })
            .inc();
    }

    /// Counts an image by URL by where it came from.
    pub fn image_from(&self, source: ImageSource) {
        let source = match source {
            ImageSource::Network => "network",
            ImageSource::Revalidated => "revalidated",
            ImageSource::Cache => "cache",
        };
        let labels = SourceLabels { source };
        self.image_fetches.get_or_create(&labels).inc();
    }

    /// Counts a refused image by its reason.
    pub fn refused_image(&self, error: &MediaError) {
        let reason = match error {
            MediaError::Url(_) | MediaError::Fetch(FetchError::Url(_)) => "url",
            MediaError::Base64 => "base64",
            MediaError::TooLarge(_) | MediaError::Fetch(FetchError::TooLarge(_)) => "bytes",
            MediaError::Fetch(FetchError::Timeout(_)) => "timeout",
            MediaError::Fetch(FetchError::Redirects(_)) => "redirects",
            MediaError::Fetch(
                FetchError::Unreachable
                | FetchError::Status(_)
                | FetchError::Encoding
                | FetchError::Interrupted,
            ) => "fetch",
            MediaError::Image(ImageError::Unsupported) => "type",
            MediaError::Image(ImageError::Broken) => "damaged",
            MediaError::Image(ImageError::TooManyScans(_)) => "scans",
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
