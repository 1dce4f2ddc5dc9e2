//! The result for a reader at a terminal.

use std::fmt::Write;

use super::{
    plan::Load,
    report::{
        Percentiles, PointReport, Report,
        point::{LoadReport, Requests},
    },
};

/// Lines up the names of rows.
const NAME: usize = 22;

/// A load in words.
pub fn load(load: Load) -> String {
    in_words(&load.into())
}

/// A load in words.
pub fn in_words(load: &LoadReport) -> String {
    match load {
        LoadReport::Closed { concurrency } => format!("closed loop, {concurrency} at once"),
        LoadReport::Open { rate, arrival } => format!("open loop, {rate} requests/s, {arrival}"),
    }
}

/// Milliseconds to three significant digits or the millisecond.
pub fn ms(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// The whole report.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail; that goes for the whole file.
    let target = &report.target;
    let _ = writeln!(
        text,
        "{}, model {}, server {}{}",
        target.url,
        target.model,
        target.server.as_deref().unwrap_or("unknown"),
        if report.interrupted {
            " (interrupted)"
        } else {
            ""
        }
    );
    for point in &report.points {
        text.push('\n');
        one(&mut text, point);
    }
    if report.points.len() > 1 {
        text.push('\n');
        sweep(&mut text, &report.points);
    }
    text
}

fn one(text: &mut String, point: &PointReport) {
    let from = match &point.load {
        LoadReport::Closed { .. } => {
            "latency from the actual send; a closed loop sends nothing while it waits, and so hides queueing"
        }
        LoadReport::Open { .. } => "latency from the intended send",
    };
    let _ = writeln!(text, "{} ({from})", in_words(&point.load));
    counts(text, point);
    let latency = &point.latency_ms;
    let rows = [
        ("time to first token", &latency.ttft),
        ("inter-token gap", &latency.inter_token),
        ("time per output token", &latency.tpot),
        ("end to end", &latency.e2e),
        ("send delay", &point.generator.send_delay_ms),
    ];
    if latency.e2e.is_some() {
        let heads = ["mean", "p50", "p90", "p99", "p99.9", "max"];
        let heads = heads.map(|head| format!("{head:>9}")).concat();
        let _ = writeln!(text, "  {:<NAME$}{heads}", "ms");
    }
    for (name, row) in rows {
        if let Some(row) = row {
            let _ = writeln!(text, "  {name:<NAME$}{}", percentiles(row));
        }
    }
    for failure in &point.failures {
        let _ = writeln!(
            text,
            "  failed: {} x {}: {}",
            failure.count, failure.kind, failure.example
        );
    }
    for warning in &point.warnings {
        let _ = writeln!(text, "  note: {warning}");
    }
}

fn percentiles(row: &Percentiles) -> String {
    let values = [row.mean, row.p50, row.p90, row.p99, row.p999, row.max];
    values.map(|value| format!("{:>9}", ms(value))).concat()
}

fn counts(text: &mut String, point: &PointReport) {
    let Requests {
        ok,
        failed,
        unfinished,
        unsent,
        images,
        ..
    } = point.requests;
    let mut further = String::new();
    for (count, what) in [(unfinished, "interrupted"), (unsent, "never sent")] {
        if count > 0 {
            let _ = write!(further, ", {count} {what}");
        }
    }
    let _ = writeln!(
        text,
        "  {:<NAME$}{ok} ok, {failed} failed{further}; {images} images; {:.2} s",
        "requests", point.wall_s
    );
    let throughput = &point.throughput;
    let _ = writeln!(
        text,
        "  {:<NAME$}{:.2} requests/s, {:.1} output tokens/s (by {}), {:.1} prompt tokens/s",
        "throughput",
        throughput.requests_per_s,
        throughput.output_tokens_per_s,
        point.tokens.source,
        throughput.prompt_tokens_per_s
    );
    if let Some(goodput) = &point.goodput {
        let _ = writeln!(
            text,
            "  {:<NAME$}{:.2} requests/s, {:.1} % of all, kept the objectives",
            "goodput",
            goodput.requests_per_s,
            goodput.share * 100.0
        );
    }
}

fn sweep(text: &mut String, points: &[PointReport]) {
    let heads = [
        "load", "req/s", "tok/s", "TTFT p50", "TTFT p99", "TPOT", "e2e p50", "e2e p99", "failed",
    ];
    let heads = heads.map(|head| format!("{head:>10}")).concat();
    let _ = writeln!(text, "{heads}");
    for point in points {
        let load = match &point.load {
            LoadReport::Closed { concurrency } => concurrency.to_string(),
            LoadReport::Open { rate, .. } => format!("{rate}/s"),
        };
        let latency = &point.latency_ms;
        let value = |row: &Option<Percentiles>, of: fn(&Percentiles) -> f64| {
            row.as_ref().map_or_else(|| "-".into(), |row| ms(of(row)))
        };
        let row = [
            load,
            format!("{:.2}", point.throughput.requests_per_s),
            format!("{:.1}", point.throughput.output_tokens_per_s),
            value(&latency.ttft, |row| row.p50),
            value(&latency.ttft, |row| row.p99),
            value(&latency.tpot, |row| row.mean),
            value(&latency.e2e, |row| row.p50),
            value(&latency.e2e, |row| row.p99),
            point.requests.failed.to_string(),
        ];
        let row = row.map(|value| format!("{value:>10}")).concat();
        let _ = writeln!(text, "{row}");
    }
}
