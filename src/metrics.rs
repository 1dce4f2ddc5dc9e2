//! What can be seen from outside: counters, gauges and histograms in a registry of our own.

mod gpu;
mod labels;
mod model;
mod per_model;
mod process;

use std::sync::Arc;

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Metric, Registry, Unit},
};

pub use self::labels::{
    ImageSource, KeyLabels, LimitLabels, OutcomeLabels, ReasonLabels, RequestLabels, RouteLabels,
    SourceLabels,
};
pub use self::model::{Activity, Finish, ModelMetrics, Waited};
use crate::{
    engine::TokenUsage,
    limits::What,
    media::{MediaError, fetch::FetchError, image::ImageError},
};

/// Makes a histogram where a route is first asked for.
type NewHistogram = fn() -> Histogram;

/// Every metric, with its registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    models: model::Models,
    /// HTTP requests answered.
    pub http_requests: Family<RequestLabels, Counter>,
    /// Seconds from the first byte of a request to its response head.
    pub http_request_seconds: Family<RouteLabels, Histogram, NewHistogram>,
    /// Connections open to the API.
    pub connections: Gauge,
    /// Connections closed at once, by which limit was reached.
    pub connections_refused: Family<ReasonLabels, Counter>,
    /// Times the TLS certificate changed, by whether the new one could be used.
    pub tls_reloads: Family<OutcomeLabels, Counter>,
    /// Tokens charged, by key and kind.
    pub key_tokens: Family<KeyLabels, Counter>,
    /// Seconds until an image's server had sent it, or said that it is still the same.
    pub image_fetch_seconds: Histogram,
    /// Bytes of an encoded image.
    pub image_bytes: Histogram,
    /// Pixels of an image as it was sent.
    pub image_pixels: Histogram,
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
        let models = model::Models::default();
        let mut registry = Registry::default();
        per_model::register(&mut registry, &models);
        registry.register_collector(Box::new(process::Process::default()));
        let r = registry.sub_registry_with_prefix("porthole");
        r.register_collector(Box::new(gpu::Gpus::default()));
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The build of Porthole that runs", version);
        Self {
            http_requests: registered(r, "http_requests", "HTTP requests answered"),
            http_request_seconds: by_route(r),
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
            key_tokens: registered(r, "key_tokens", "Tokens charged, by key and kind"),
            image_fetch_seconds: seconds(
                r,
                "image_fetch",
                "Time until an image's server had sent it, or said that it is still the same",
                exponential_buckets(0.001, 2.5, 12),
            ),
            image_bytes: sizes(r, "image_bytes", "Bytes of an encoded image"),
            image_pixels: sizes(r, "image_pixels", "Pixels of an image as it was sent"),
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
            ready: registered(r, "ready", "1 while chat requests are answered"),
            draining: registered(r, "draining", "1 while the server is ending"),
            config_reloads: outcomes(
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
            models,
        }
    }
}

/// A new metric, registered.
fn registered<M: Metric + Clone + Default>(r: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    r.register(name, help, metric.clone());
    metric
}

/// A new count of what can go well or not, registered. Both are told from the start, so that the
/// first failure is seen as a rise.
fn outcomes(r: &mut Registry, name: &str, help: &str) -> Family<OutcomeLabels, Counter> {
    let family: Family<OutcomeLabels, Counter> = registered(r, name, help);
    for outcome in ["ok", "error"] {
        drop(family.get_or_create(&OutcomeLabels { outcome }));
    }
    family
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

/// The histogram of sizes of something, from 1 Ki to 64 Mi, registered.
fn sizes(r: &mut Registry, name: &str, help: &str) -> Histogram {
    let histogram = Histogram::new(exponential_buckets(1024.0, 4.0, 9));
    r.register(name, help, histogram.clone());
    histogram
}

/// How long each route takes, registered.
fn by_route(r: &mut Registry) -> Family<RouteLabels, Histogram, NewHistogram> {
    let new: NewHistogram = || Histogram::new(exponential_buckets(0.001, 2.5, 12));
    let family = Family::new_with_constructor(new);
    r.register_with_unit(
        "http_request_duration",
        "Time from the first byte of a request to its response head",
        Unit::Seconds,
        family.clone(),
    );
    family
}

impl Metrics {
    /// What is measured of the model of this name, which the configuration has.
    pub fn model(&self, name: &str) -> Arc<ModelMetrics> {
        self.models.get(name)
    }

    /// Counts an answered request.
    pub fn answered(&self, route: String, status: u16, seconds: f64) {
        let labels = RouteLabels {
            route: route.clone(),
        };
        self.http_request_seconds
            .get_or_create(&labels)
            .observe(seconds);
        let labels = RequestLabels { route, status };
        self.http_requests.get_or_create(&labels).inc();
    }

    /// Counts tokens that were charged to the key, or to a caller without one.
    pub fn charged(&self, key: Option<&str>, usage: TokenUsage) {
        for (kind, tokens) in [("prompt", usage.prompt), ("generation", usage.completion)] {
            let key = key.unwrap_or("token").to_string();
            let labels = KeyLabels { key, kind };
            self.key_tokens.get_or_create(&labels).inc_by(tokens as u64);
        }
    }

    /// All metrics in the OpenMetrics text format. Reads the system and the GPUs, so it may block
    /// for some milliseconds.
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
