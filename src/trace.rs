//! Traces of requests, for an OpenTelemetry collector: one span a request, by the conventions for
//! servers and for generative AI, and one for each thing that it waited for.
//!
//! What a span tells is what the audit line tells, without who asked: no key, no message, no URL,
//! no image. Without a collector nothing here runs.

mod export;

use std::{
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    propagation::{Extractor, TextMapPropagator},
    trace::{Event, Span, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, Span as SdkSpan},
};

pub use self::export::Traces;
use crate::{
    audit::{Fields, Outcome},
    engine::SamplingParams,
};

/// What begins the traces of requests.
#[derive(Debug, Clone)]
pub struct Tracer(SdkTracer);

/// What a request says of the trace that it belongs to, in the headers of the W3C.
#[derive(Debug, Clone, Default)]
pub struct Incoming {
    /// `traceparent`; one that is malformed counts as none.
    pub traceparent: Option<String>,
    /// `tracestate`.
    pub tracestate: Option<String>,
}

impl Extractor for Incoming {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent.as_deref(),
            "tracestate" => self.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl Tracer {
    /// Begins the trace of a request that came in now.
    pub fn begin(&self, incoming: &Incoming) -> RequestTrace {
        let before = TraceContextPropagator::new().extract_with_context(&Context::new(), incoming);
        // The name is known when the request has been read.
        let builder = self.0.span_builder("request").with_kind(SpanKind::Server);
        let span = self.0.build_with_context(builder, &before);
        let context = span.span_context().clone();
        RequestTrace {
            tracer: self.0.clone(),
            recording: span.is_recording(),
            span: Mutex::new(span),
            context,
            clock: (SystemTime::now(), Instant::now()),
        }
    }
}

/// The trace of one request.
#[derive(Debug)]
pub struct RequestTrace {
    tracer: SdkTracer,
    span: Mutex<SdkSpan>,
    context: SpanContext,
    recording: bool,
    /// The same moment by both clocks.
    clock: (SystemTime, Instant),
}

impl RequestTrace {
    /// The trace's id, in hexadecimal digits.
    pub fn id(&self) -> String {
        self.context.trace_id().to_string()
    }

    /// The request's span as a `traceparent` header.
    pub fn traceparent(&self) -> String {
        let context = &self.context;
        let flags = context.trace_flags().to_u8();
        format!(
            "00-{}-{}-{flags:02x}",
            context.trace_id(),
            context.span_id()
        )
    }

    /// The model that was asked for, by the name that the client used for it.
    pub fn asked_for(&self, model: &str) {
        self.set([KeyValue::new("gen_ai.request.model", model.to_string())]);
    }

    /// How the answer was to be chosen.
    pub fn sampling(&self, sampling: &SamplingParams) {
        let number = |number: usize| Value::I64(i64::try_from(number).unwrap_or(i64::MAX));
        let known = [
            ("max_tokens", sampling.max_tokens.map(number)),
            ("temperature", sampling.temperature.map(Value::F64)),
            ("top_p", sampling.top_p.map(Value::F64)),
            ("seed", sampling.seed.map(|seed| Value::I64(seed as i64))),
        ];
        let known = known.into_iter().filter_map(|(name, value)| {
            let name = format!("gen_ai.request.{name}");
            Some(KeyValue::new(name, value?))
        });
        self.set(known);
    }

    fn set(&self, attributes: impl IntoIterator<Item = KeyValue>) {
        if self.recording {
            let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
            span.set_attributes(attributes);
        }
    }

    /// Something that the request waited for, and what happened in it.
    pub fn step(
        &self,
        name: &'static str,
        times: (Instant, Instant),
        event: Option<(&'static str, Instant)>,
    ) {
        if !self.recording {
            return;
        }
        let context = Context::new().with_remote_span_context(self.context.clone());
        let events = event.map(|(name, when)| Event::new(name, self.wall(when), Vec::new(), 0));
        let builder = self
            .tracer
            .span_builder(name)
            .with_kind(SpanKind::Internal)
            .with_start_time(self.wall(times.0))
            .with_events(events.into_iter().collect());
        let mut span = self.tracer.build_with_context(builder, &context);
        span.end_with_timestamp(self.wall(times.1));
    }

    fn wall(&self, when: Instant) -> SystemTime {
        let (wall, instant) = self.clock;
        match when.checked_duration_since(instant) {
            Some(later) => wall + later,
            None => wall - instant.duration_since(when),
        }
    }

    /// Ends the request's span with what is known of it.
    pub fn finish(&mut self, fields: &Fields) {
        if !self.recording {
            return;
        }
        let span = self.span.get_mut().unwrap_or_else(PoisonError::into_inner);
        span.set_attribute(KeyValue::new("http.request.method", fields.method.clone()));
        span.set_attribute(KeyValue::new("http.route", fields.route.clone()));
        let status = i64::from(fields.status);
        span.set_attribute(KeyValue::new("http.response.status_code", status));
        let mut name = format!("{} {}", fields.method, fields.route);
        if let Some(model) = &fields.model {
            let operation = operation(&fields.route);
            name = format!("{operation} {model}");
            span.set_attributes(generation(fields, operation, model));
        }
        span.update_name(name);
        if let Some(problem) = problem(fields) {
            span.set_attribute(KeyValue::new("error.type", problem.to_string()));
        }
        // What a client does wrong is no error of the server.
        if fields.status >= 500 || (fields.status < 400 && fields.error.is_some()) {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// The operation by the conventions for generative AI.
fn operation(route: &str) -> &'static str {
    if route == "/v1/completions" {
        "text_completion"
    } else {
        "chat"
    }
}

fn generation(fields: &Fields, operation: &'static str, model: &str) -> Vec<KeyValue> {
    let mut known = vec![
        KeyValue::new("gen_ai.operation.name", operation),
        KeyValue::new("gen_ai.provider.name", "porthole"),
        KeyValue::new("gen_ai.response.model", model.to_string()),
    ];
    let tokens = [
        ("gen_ai.usage.input_tokens", fields.prompt_tokens),
        ("gen_ai.usage.output_tokens", fields.completion_tokens),
    ];
    for (name, tokens) in tokens {
        if let Some(tokens) = tokens.and_then(|tokens| i64::try_from(tokens).ok()) {
            known.push(KeyValue::new(name, tokens));
        }
    }
    if let Some(reason) = fields.finish_reason {
        let reasons = Value::Array(Array::String(vec![StringValue::from(reason)]));
        known.push(KeyValue::new("gen_ai.response.finish_reasons", reasons));
    }
    known
}

/// A word for what went wrong.
fn problem(fields: &Fields) -> Option<&'static str> {
    if fields.error.is_some() {
        return fields.error;
    }
    let cut = fields.outcome == Outcome::Disconnected && fields.finish_reason.is_none();
    (fields.model.is_some() && cut).then_some("cancelled")
}
