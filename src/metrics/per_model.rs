//! The exposition of each model's metrics: under our names with the label `model`, and some under
//! vLLM's names with the label `model_name`, so that dashboards made for vLLM work. Both are read
//! off the same instruments.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::model::{Finish, ModelMetrics, Models};

/// Writes the value of one model.
type Write = fn(&ModelMetrics, MetricEncoder<'_>) -> fmt::Result;

/// A metric of every model.
struct Row {
    name: &'static str,
    vllm: Option<&'static str>,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    write: Write,
}

impl Row {
    fn new(name: &'static str, help: &'static str, kind: MetricType, write: Write) -> Self {
        Self {
            name,
            vllm: None,
            help,
            unit: None,
            kind,
            write,
        }
    }

    /// As vLLM calls it.
    fn or(self, vllm: &'static str) -> Self {
        let vllm = Some(vllm);
        Self { vllm, ..self }
    }

    fn seconds(self) -> Self {
        let unit = Some(Unit::Seconds);
        Self { unit, ..self }
    }
}

fn gauges() -> [Row; 7] {
    let gauge = |name, help, write| Row::new(name, help, MetricType::Gauge, write);
    [
        gauge(
            "requests_running",
            "Generations that the engine runs now",
            |model, out| model.running.encode(out),
        )
        .or("num_requests_running"),
        gauge(
            "requests_waiting",
            "Generations that wait for the engine",
            |model, out| model.waiting.encode(out),
        )
        .or("num_requests_waiting"),
        gauge(
            "request_capacity",
            "Sequences that all replicas that are up compute at once",
            |model, out| model.capacity.encode(out),
        ),
        gauge(
            "load_ratio",
            "Requests that run or wait, divided by the capacity",
            |model, mut out| out.encode_gauge(&model.load_ratio()),
        ),
        gauge("replicas", "Replicas that are wanted", |model, out| {
            model.replicas.encode(out)
        }),
        gauge("replicas_up", "Replicas that can answer", |model, out| {
            model.replicas_up.encode(out)
        }),
        gauge(
            "engine_lane_width",
            "Sequences that the check at load allows at once",
            |model, out| model.engine_lane_width.encode(out),
        ),
    ]
}

fn counters() -> [Row; 3] {
    let counter = |name, help, write| Row::new(name, help, MetricType::Counter, write);
    [
        counter("prompt_tokens", "Prompt tokens computed", |model, out| {
            model.prompt_tokens.encode(out)
        })
        .or("prompt_tokens"),
        counter("generation_tokens", "Tokens generated", |model, out| {
            model.generation_tokens.encode(out)
        })
        .or("generation_tokens"),
        counter(
            "engine_restarts",
            "Times the engine died and was brought back",
            |model, out| model.engine_restarts.encode(out),
        ),
    ]
}

fn histograms() -> [Row; 6] {
    let histogram = |name, help, write| Row::new(name, help, MetricType::Histogram, write);
    [
        histogram(
            "time_to_first_token",
            "Time from the arrival of a request to the first piece of its answer",
            |model, out| model.time_to_first_token.encode(out),
        )
        .seconds()
        .or("time_to_first_token"),
        histogram(
            "inter_token_latency",
            "Time between two pieces of one answer",
            |model, out| model.inter_token_latency.encode(out),
        )
        .seconds()
        .or("inter_token_latency"),
        histogram(
            "request_duration",
            "Time from the arrival of a request to the end of its answer, of those answered",
            |model, out| model.request_duration.encode(out),
        )
        .seconds()
        .or("e2e_request_latency"),
        histogram(
            "request_queue_time",
            "Time that a request waited for the engine",
            |model, out| model.queue_time.encode(out),
        )
        .seconds()
        .or("request_queue_time"),
        histogram(
            "request_prompt_tokens",
            "Prompt tokens of an answered request",
            |model, out| model.request_prompt_tokens.encode(out),
        )
        .or("request_prompt_tokens"),
        histogram(
            "request_generation_tokens",
            "Tokens generated for an answered request",
            |model, out| model.request_generation_tokens.encode(out),
        )
        .or("request_generation_tokens"),
    ]
}

/// Registers every metric that models have: ours in `own`, vLLM's in `root`, which has no prefix.
pub(super) fn register(root: &mut Registry, models: &Models) {
    let rows = gauges().into_iter().chain(counters()).chain(histograms());
    let (mut ours, mut aliases) = (Vec::new(), Vec::new());
    for row in rows {
        let metric = |label| PerModel {
            models: models.clone(),
            label,
            kind: row.kind,
            write: row.write,
        };
        if let Some(vllm) = row.vllm {
            let name = format!("vllm:{vllm}");
            aliases.push((name, row.help, row.unit.clone(), metric("model_name")));
        }
        ours.push((row.name.to_string(), row.help, row.unit, metric("model")));
    }
    let own = root.sub_registry_with_prefix("porthole");
    put(own, ours);
    own.register(
        "requests_finished",
        "Requests that the model was asked, by how they came out",
        Finished {
            models: models.clone(),
            labels: ("model", "reason"),
            count: |model| {
                Finish::ALL
                    .map(|how| (how.word(), model.finished(how).get()))
                    .into()
            },
        },
    );
    put(root, aliases);
    root.register(
        "vllm:request_success",
        "Requests that the model was asked, by how they came out",
        Finished {
            models: models.clone(),
            labels: ("model_name", "finished_reason"),
            count: as_vllm,
        },
    );
}

fn put(registry: &mut Registry, metrics: Vec<(String, &'static str, Option<Unit>, PerModel)>) {
    for (name, help, unit, metric) in metrics {
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, metric),
            None => registry.register(name, help, metric),
        }
    }
}

/// vLLM's reasons: calls of tools are a stop there, and a client that left an abort.
fn as_vllm(model: &ModelMetrics) -> Vec<(&'static str, u64)> {
    let sum = |hows: &[Finish]| hows.iter().map(|how| model.finished(*how).get()).sum();
    vec![
        (
            "stop",
            sum(&[Finish::Stop, Finish::ToolCalls, Finish::ContentFilter]),
        ),
        ("length", sum(&[Finish::Length])),
        ("abort", sum(&[Finish::Cancelled])),
        ("error", sum(&[Finish::Error])),
    ]
}

/// One metric of every model.
#[derive(Debug)]
struct PerModel {
    models: Models,
    label: &'static str,
    kind: MetricType,
    write: Write,
}

impl EncodeMetric for PerModel {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for model in self.models.all() {
            let labels = [(self.label, model.label.as_str())];
            (self.write)(&model, encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }

    fn is_empty(&self) -> bool {
        self.models.all().is_empty()
    }
}

/// How the requests of every model came out.
#[derive(Debug)]
struct Finished {
    models: Models,
    /// Of the model and of the reason.
    labels: (&'static str, &'static str),
    count: fn(&ModelMetrics) -> Vec<(&'static str, u64)>,
}

impl EncodeMetric for Finished {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for model in self.models.all() {
            for (reason, count) in (self.count)(&model) {
                let (of_model, of_reason) = self.labels;
                let labels = [(of_model, model.label.as_str()), (of_reason, reason)];
                encoder
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }

    fn is_empty(&self) -> bool {
        self.models.all().is_empty()
    }
}
