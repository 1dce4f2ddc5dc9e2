//! The audit log: one JSON line for each request, once its answer has been sent and the engine has
//! let go of it.
//!
//! What a line never holds: a key, a token, a message, a URL, an image's bytes. Images are told by
//! their SHA-256 and size. Lines are written by a thread of their own; when nobody reads them, they
//! are dropped and counted rather than held up the requests or filling the memory.

use std::{
    io::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    metrics::Metrics,
    trace::{Incoming, RequestTrace, Tracer},
};

/// Lines that may wait for a slow reader.
const BACKLOG: usize = 16_384;

/// Where lines go.
#[derive(Debug, Clone)]
pub struct AuditLog {
    lines: Option<SyncSender<String>>,
    /// Lines that are not written yet.
    unwritten: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    tracer: Option<Tracer>,
}

impl AuditLog {
    /// Writes to `out`, from a thread of its own.
    pub fn to(mut out: impl Write + Send + 'static, metrics: Arc<Metrics>) -> Self {
        let (sender, lines) = sync_channel::<String>(BACKLOG);
        let unwritten = Arc::new(AtomicUsize::new(0));
        let left = unwritten.clone();
        std::thread::spawn(move || {
            while let Ok(mut line) = lines.recv() {
                let mut count = 1;
                line.push('\n');
                // What has piled up goes out in one write.
                while line.len() < 1 << 16
                    && let Ok(next) = lines.try_recv()
                {
                    line.push_str(&next);
                    line.push('\n');
                    count += 1;
                }
                let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                left.fetch_sub(count, Ordering::SeqCst);
                if written.is_err() {
                    return;
                }
            }
        });
        Self {
            lines: Some(sender),
            unwritten,
            metrics,
            tracer: None,
        }
    }

    /// Writes nothing.
    pub fn off(metrics: Arc<Metrics>) -> Self {
        Self {
            lines: None,
            unwritten: Arc::default(),
            metrics,
            tracer: None,
        }
    }

    /// Waits until all lines are written, or `patience` is over: their reader may be slow.
    pub async fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.unwritten.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The same, with a trace of each request beside its line.
    #[must_use]
    pub fn traced(mut self, tracer: Option<Tracer>) -> Self {
        self.tracer = tracer;
        self
    }

    /// The record of a request that has just come in; where requests are traced, `incoming` is
    /// asked which trace it belongs to.
    pub fn open(&self, incoming: impl FnOnce() -> Incoming) -> Arc<Record> {
        let tracer = self.tracer.as_ref();
        let trace = tracer.map(|tracer| tracer.begin(&incoming()));
        Arc::new(Record {
            log: self.clone(),
            started: Instant::now(),
            fields: Mutex::new(Fields {
                time: Some(Timestamp::now()),
                trace_id: trace.as_ref().map(RequestTrace::id),
                ..Fields::default()
            }),
            trace,
        })
    }
}

/// What is known of one request. The line is written when the last who can add to it lets go.
#[derive(Debug)]
pub struct Record {
    log: AuditLog,
    started: Instant,
    fields: Mutex<Fields>,
    trace: Option<RequestTrace>,
}

impl Record {
    /// Adds to what is known.
    pub fn note(&self, change: impl FnOnce(&mut Fields)) {
        change(&mut self.lock());
    }

    /// Its trace, where requests are traced.
    pub fn trace(&self) -> Option<&RequestTrace> {
        self.trace.as_ref()
    }

    /// When the request came in.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Milliseconds since the request came in.
    pub fn elapsed_ms(&self) -> f64 {
        millis(self.started.elapsed())
    }

    /// What is known of its times, as a `Server-Timing` header tells them: milliseconds in the
    /// queue, for fetching and decoding images, until the first piece of the answer was there, and
    /// in all where the answer is whole.
    pub fn server_timing(&self, whole: bool) -> String {
        let fields = self.lock();
        let times = [
            ("queue", fields.queue_ms),
            ("images", fields.images_ms),
            ("prompt", fields.first_token_ms),
            ("total", whole.then(|| self.elapsed_ms())),
        ];
        let known = times.iter().filter_map(|(name, time)| {
            let time = (*time)?;
            Some(format!("{name};dur={time:.3}"))
        });
        known.collect::<Vec<_>>().join(", ")
    }

    fn lock(&self) -> MutexGuard<'_, Fields> {
        self.fields.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let fields = self
            .fields
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(trace) = &mut self.trace {
            trace.finish(fields);
        }
        let Some(lines) = &self.log.lines else { return };
        let Ok(line) = serde_json::to_string(fields) else {
            return;
        };
        self.log.unwritten.fetch_add(1, Ordering::SeqCst);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = lines.try_send(line) {
            self.log.unwritten.fetch_sub(1, Ordering::SeqCst);
            self.log.metrics.audit_lines_lost.inc();
        }
    }
}

/// Milliseconds with three decimals, as the log has them.
pub fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// A line. What is not known is left out.
#[derive(Debug, Default, Serialize)]
pub struct Fields {
    /// When the request came in (RFC 3339, UTC).
    pub time: Option<Timestamp>,
    /// The id in `x-request-id`.
    pub request_id: String,
    /// The trace that it belongs to, where requests are traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The client's address, seen through trusted proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<std::net::IpAddr>,
    /// The HTTP method.
    pub method: String,
    /// The pattern of the route, never the raw path.
    pub route: String,
    /// Who asked: `key:NAME`, `jwt:ISSUER#SUBJECT`, `token:ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The key behind the caller, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The model, by its own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the answer was streamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// The status code.
    pub status: u16,
    /// The error's code, in the answer or at the end of the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// How the response ended.
    pub outcome: Outcome,
    /// Why the generation ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<&'static str>,
    /// Tokens of the conversation, images included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<usize>,
    /// Tokens of the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tokens: Option<usize>,
    /// Tokens generated, whether or not anybody received them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<usize>,
    /// The images, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageFields>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// Milliseconds in the queue in front of the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<f64>,
    /// Milliseconds for fetching and decoding the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_ms: Option<f64>,
    /// Milliseconds until the first piece of the answer was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<f64>,
    /// Milliseconds until the response had been sent or the client was gone.
    pub total_ms: f64,
}

/// How a response ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The client went away before it was all sent.
    #[default]
    Disconnected,
    /// It was all sent.
    Complete,
}

/// An image, as the log tells it.
#[derive(Debug, Clone, Serialize)]
pub struct ImageFields {
    /// SHA-256 of the encoded image, in hexadecimal digits.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: usize,
    /// Width that the model saw.
    pub width: u32,
    /// Height that the model saw.
    pub height: u32,
}
