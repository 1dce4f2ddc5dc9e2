//! Sending spans to an OpenTelemetry collector. It goes on beside serving, on a runtime and a
//! thread of its own: what cannot be sent is dropped, and said so now and then.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter},
};
use tokio::runtime::{Builder, Handle, Runtime};

use super::Tracer;
use crate::config::{OtlpProtocol, TelemetryConfig};

/// How long the collector may take over a batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last batch may take when the server ends.
const LAST: Duration = Duration::from_secs(5);
/// How often a failure is told.
const QUIET: Duration = Duration::from_secs(60);

/// The traces of this process, on their way to a collector.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    /// Taken when dropped: a runtime must not be dropped where others wait for it.
    runtime: Option<Runtime>,
}

impl Traces {
    /// Starts sending, where an endpoint is configured. Whether the collector is there shows later.
    ///
    /// # Errors
    /// In words for the operator: what is configured cannot be used.
    pub fn start(config: &TelemetryConfig) -> Result<Option<Self>, String> {
        if config.otlp_endpoint.is_empty() {
            return Ok(None);
        }
        let problem = |error: &dyn std::fmt::Display| format!("telemetry: {error}");
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .map_err(|e| problem(&e))?;
        let exporter = {
            // Connections are made by tasks of this runtime.
            let _inside = runtime.enter();
            exporter(config, runtime.handle())?
        };
        let sampler = Sampler::TraceIdRatioBased(config.sample_ratio);
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Telling::new(exporter))
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource)
            .build();
        Ok(Some(Self {
            provider,
            runtime: Some(runtime),
        }))
    }

    /// What begins traces.
    pub fn tracer(&self) -> Tracer {
        Tracer(self.provider.tracer("porthole"))
    }

    /// Sends what is left, for a few seconds at most.
    pub async fn finish(self) {
        let finished = tokio::task::spawn_blocking(move || {
            if let Err(error) = self.provider.shutdown_with_timeout(LAST) {
                tracing::warn!(%error, "the last traces could not be sent");
            }
        });
        let _ = finished.await;
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn exporter(
    config: &TelemetryConfig,
    runtime: &Handle,
) -> Result<opentelemetry_otlp::SpanExporter, String> {
    let endpoint = config.otlp_endpoint.trim_end_matches('/');
    let builder = opentelemetry_otlp::SpanExporter::builder();
    let built = match config.otlp_protocol {
        OtlpProtocol::Grpc => builder
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(TIMEOUT)
            .build(),
        OtlpProtocol::Http => {
            let client = Client::new(runtime.clone())?;
            let endpoint = if endpoint.ends_with("/v1/traces") {
                endpoint.to_string()
            } else {
                format!("{endpoint}/v1/traces")
            };
            builder
                .with_http()
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_http_client(client)
                .with_endpoint(endpoint)
                .with_timeout(TIMEOUT)
                .build()
        }
    };
    built.map_err(|error| format!("telemetry.otlp_endpoint: {error}"))
}

/// Sends requests from tasks of a runtime: spans are exported on a thread that has none.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

impl Client {
    fn new(runtime: Handle) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| format!("telemetry: {error}"))?;
        Ok(Self { client, runtime })
    }
}

/// Most that is read of a collector's answer, which is a few bytes.
const MAX_ANSWER: usize = 64 << 10;

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let request = reqwest::Request::try_from(request)?;
            let mut response = client.execute(request).await?;
            let mut answer = Response::builder().status(response.status());
            if let Some(headers) = answer.headers_mut() {
                headers.extend(std::mem::take(response.headers_mut()));
            }
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if body.len() + chunk.len() > MAX_ANSWER {
                    return Err(HttpError::from("the answer is too long"));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(answer.body(Bytes::from(body))?)
        });
        sent.await?
    }
}

/// An exporter whose failures are told in the log, once a minute at most.
#[derive(Debug)]
struct Telling<E> {
    exporter: E,
    lost: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl<E> Telling<E> {
    fn new(exporter: E) -> Self {
        Self {
            exporter,
            lost: AtomicU64::new(0),
            told: Mutex::new(None),
        }
    }

    /// Counts spans that could not be sent; how many there are to tell of, if it is time to.
    fn failed(&self, spans: u64) -> Option<u64> {
        let lost = self.lost.fetch_add(spans, Ordering::Relaxed) + spans;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < QUIET) {
            return None;
        }
        *told = Some(Instant::now());
        self.lost.store(0, Ordering::Relaxed);
        Some(lost)
    }
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        if let Err(error) = &result
            && let Some(lost) = self.failed(spans)
        {
            tracing::warn!(%error, lost, "spans could not be sent to telemetry.otlp_endpoint");
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_once_in_a_while_and_none_is_forgotten() {
        let telling = Telling::new(());
        assert_eq!(telling.failed(3), Some(3));
        assert_eq!(telling.failed(4), None);
        assert_eq!(telling.failed(5), None);
        let past = Instant::now().checked_sub(2 * QUIET);
        *telling.told.lock().unwrap() = past;
        assert!(past.is_none() || telling.failed(1) == Some(10));
    }
}
