//! The result as a picture: distributions and a timeline of one load, or lines over the loads of a
//! sweep.

pub mod axis;

use plotters::{coord::Shift, prelude::*};

use super::{
    report::{Percentiles, PointReport, Report, point::LoadReport},
    table,
};
use axis::{Axis, short, unit};

const SIZE: (u32, u32) = (1280, 900);
const HEADER: i32 = 92;
/// Of a panel's name and legend.
const CAPTION: i32 = 52;

const INK: RGBColor = RGBColor(31, 41, 55);
const FAINT: RGBColor = RGBColor(107, 114, 128);
const GRID: RGBColor = RGBColor(229, 231, 235);
const BLUE: RGBColor = RGBColor(37, 99, 235);
const ORANGE: RGBColor = RGBColor(217, 119, 6);
const RED: RGBColor = RGBColor(220, 38, 38);
const GREEN: RGBColor = RGBColor(22, 130, 70);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A line in a panel, and its entry in the legend.
struct Line {
    name: String,
    color: RGBColor,
    points: Vec<(f64, f64)>,
    /// Points that get a dot.
    dots: Vec<(f64, f64)>,
}

/// A part of the picture.
struct Panel {
    title: String,
    x: (Axis, String),
    y: (Axis, String),
    lines: Vec<Line>,
}

/// The picture as SVG.
///
/// # Errors
/// In words: it cannot be drawn.
pub fn svg(report: &Report) -> Result<String, String> {
    let mut text = String::new();
    draw(report, &mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

fn draw(report: &Report, text: &mut String) -> Drawn {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, rest) = root.split_vertically(HEADER);
    header(&head, report)?;
    let (latencies, rates) = match report.points.as_slice() {
        [] => (Vec::new(), Vec::new()),
        [point] => (distributions(point), timeline(point)),
        points => (latency_lines(points), rate_lines(points)),
    };
    let half = (SIZE.1 as i32 - HEADER) / 2;
    let (above, below) = rest.split_vertically(if latencies.is_empty() { 0 } else { half });
    for (area, panels) in [(above, latencies), (below, rates)] {
        if panels.is_empty() {
            continue;
        }
        let areas = area.split_evenly((1, panels.len()));
        for (area, panel) in areas.iter().zip(&panels) {
            panel.draw(area)?;
        }
    }
    root.present()?;
    Ok(())
}

fn header(area: &Area<'_>, report: &Report) -> Drawn {
    let target = &report.target;
    let server = target.server.as_deref();
    let server = server.map_or_else(String::new, |server| format!(" ({server})"));
    let title = format!("{} at {}{server}", target.model, target.url);
    words(area, &cut(&title, 95), (24, 18), 24, INK)?;
    let settings = &report.settings;
    let images = settings.images.iter();
    let images = images.map(|i| format!("{:.0} % with {}", i.share * 100.0, i.count));
    let asked = format!(
        "prompts of {} words, at most {} tokens back; images: {}",
        settings.prompt_words,
        settings.max_tokens,
        images.collect::<Vec<_>>().join(", ")
    );
    let done = match report.points.as_slice() {
        [point] => summary(point),
        points => format!("{} loads, {asked}", points.len()),
    };
    words(area, &cut(&done, 150), (24, 50), 16, FAINT)?;
    let further = match report.points.as_slice() {
        [_] => asked,
        points => from(points),
    };
    words(area, &cut(&further, 150), (24, 72), 16, FAINT)
}

/// One load in a line.
fn summary(point: &PointReport) -> String {
    let requests = &point.requests;
    let throughput = &point.throughput;
    format!(
        "{}: {} ok, {} failed in {:.1} s; {:.2} requests/s, {:.1} output tokens/s; latency from the {}",
        table::in_words(&point.load),
        requests.ok,
        requests.failed,
        point.wall_s,
        throughput.requests_per_s,
        throughput.output_tokens_per_s,
        point.measured_from
    )
}

fn from(points: &[PointReport]) -> String {
    let failed: u64 = points.iter().map(|point| point.requests.failed).sum();
    let from = points.first().map_or("", |point| point.measured_from);
    format!("latency from the {from}, of good answers; {failed} requests failed")
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

fn words(area: &Area<'_>, text: &str, at: (i32, i32), size: u32, color: RGBColor) -> Drawn {
    let style = ("sans-serif", size).into_font().color(&color);
    area.draw(&Text::new(text.to_string(), at, style))?;
    Ok(())
}

fn distributions(point: &PointReport) -> Vec<Panel> {
    let latency = &point.latency_ms;
    let curves = &point.curves;
    let panels = [
        (
            "Time to first token",
            &latency.ttft,
            &curves.ttft,
            "answers",
        ),
        (
            "Inter-token gap",
            &latency.inter_token,
            &curves.inter_token,
            "gaps",
        ),
        ("End to end", &latency.e2e, &curves.e2e, "answers"),
    ];
    let panels = panels.into_iter().filter_map(|(name, times, curve, of)| {
        let panel = distribution(name, times.as_ref()?, curve, of);
        Some(panel)
    });
    panels.collect()
}

fn distribution(name: &str, times: &Percentiles, curve: &[(f64, f64)], of: &str) -> Panel {
    let (unit, divisor) = unit(times.max);
    // The fastest in a hundred may be any fraction of a millisecond: they are drawn at the edge.
    let low = curve.iter().find(|(_, share)| *share >= 0.01);
    let low = low.map_or(times.min, |(time, _)| *time).max(1e-3);
    let x = Axis::spread(low / divisor, times.p50 / divisor, times.max / divisor);
    let mut points = Vec::with_capacity(2 * curve.len());
    let mut share_before = 0.0;
    for (time, share) in curve {
        // A step: the share grows at the time, not before.
        points.push((time / divisor, share_before * 100.0));
        points.push((time / divisor, share * 100.0));
        share_before = *share;
    }
    let marked = [
        ("p50", times.p50, 50.0),
        ("p90", times.p90, 90.0),
        ("p99", times.p99, 99.0),
    ];
    let named = marked.map(|(name, time, _)| format!("{name} {}", short(time / divisor)));
    Panel {
        title: name.into(),
        x: (x, unit.into()),
        y: (Axis::linear(100.0), format!("% of {of}")),
        lines: vec![Line {
            name: format!("{} {unit}", named.join(", ")),
            color: BLUE,
            points,
            dots: marked
                .map(|(_, time, share)| (time / divisor, share))
                .to_vec(),
        }],
    }
}

fn timeline(point: &PointReport) -> Vec<Panel> {
    let timeline = &point.timeline;
    let width = timeline.bucket_s;
    let end = point.wall_s;
    // The last bucket is only as long as the run: a short rest would look like a collapse.
    let whole = |at: usize| (at as f64 + 0.5) * width <= end || at == 0;
    let line = |name: &str, color, count: &dyn Fn(usize) -> u64| {
        let shown = (0..timeline.buckets.len()).filter(|at| whole(*at));
        let points: Vec<(f64, f64)> = shown
            .map(|at| {
                let middle = ((at as f64 + 0.5) * width).min(end);
                let length = width.min(end - at as f64 * width).max(width / 2.0);
                (middle, count(at) as f64 / length)
            })
            .collect();
        Line {
            name: name.into(),
            color,
            dots: if points.len() < 4 {
                points.clone()
            } else {
                Vec::new()
            },
            points,
        }
    };
    let buckets = &timeline.buckets;
    let output = line(&format!("in pieces of {} s", short(width)), BLUE, &|at| {
        buckets[at].output
    });
    let mut requests = vec![
        line("sent", ORANGE, &|at| buckets[at].sent),
        line("finished", BLUE, &|at| buckets[at].finished),
    ];
    if point.requests.failed > 0 {
        requests.push(line("failed", RED, &|at| buckets[at].failed));
    }
    let panel = |title: String, lines: Vec<Line>| Panel {
        title,
        x: (Axis::exact(end), "seconds since the start".into()),
        y: (Axis::linear(highest(&lines)), "per second".into()),
        lines,
    };
    vec![
        panel(
            format!("Output {} per second", timeline.output_unit),
            vec![output],
        ),
        panel("Requests per second".into(), requests),
    ]
}

fn highest(lines: &[Line]) -> f64 {
    let values = lines.iter().flat_map(|line| &line.points);
    values.map(|(_, y)| *y).fold(0.0, f64::max)
}

fn level(point: &PointReport) -> f64 {
    match point.load {
        LoadReport::Closed { concurrency } => concurrency as f64,
        LoadReport::Open { rate, .. } => rate,
    }
}

fn levels(points: &[PointReport]) -> (Axis, String) {
    let values: Vec<f64> = points.iter().map(level).collect();
    let name = match points.first().map(|point| &point.load) {
        Some(LoadReport::Open { .. }) => "requests/s sent",
        Some(LoadReport::Closed { .. }) | None => "requests at once",
    };
    (Axis::levels(&values), name.into())
}

/// A line over the loads; those that have no such value are passed over.
fn over(
    points: &[PointReport],
    name: &str,
    color: RGBColor,
    value: impl Fn(&PointReport) -> Option<f64>,
) -> Line {
    let known = points.iter().filter_map(|p| Some((level(p), value(p)?)));
    let mut known: Vec<(f64, f64)> = known.collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    Line {
        name: name.into(),
        color,
        dots: known.clone(),
        points: known,
    }
}

fn latency_lines(points: &[PointReport]) -> Vec<Panel> {
    type Of = fn(&PointReport) -> Option<&Percentiles>;
    let panels: [(&str, Of); 3] = [
        ("Time to first token", |p| p.latency_ms.ttft.as_ref()),
        ("Inter-token gap", |p| p.latency_ms.inter_token.as_ref()),
        ("End to end", |p| p.latency_ms.e2e.as_ref()),
    ];
    let panel = |(title, of): (&str, Of)| {
        let times: Vec<&Percentiles> = points.iter().filter_map(of).collect();
        let high = times.iter().map(|t| t.p99).fold(0.0, f64::max);
        let low = times.iter().map(|t| t.p50).fold(f64::MAX, f64::min);
        let (unit, divisor) = unit(high);
        let line = |name, color, value: fn(&Percentiles) -> f64| {
            over(points, name, color, |point| {
                Some(value(of(point)?) / divisor)
            })
        };
        let middle = (low * high).sqrt();
        (!times.is_empty()).then(|| Panel {
            title: title.into(),
            x: levels(points),
            y: (
                Axis::spread(low / divisor, middle / divisor, high / divisor),
                unit.into(),
            ),
            lines: vec![
                line("p50", GREEN, |t| t.p50),
                line("p90", ORANGE, |t| t.p90),
                line("p99", RED, |t| t.p99),
            ],
        })
    };
    panels.into_iter().filter_map(panel).collect()
}

fn rate_lines(points: &[PointReport]) -> Vec<Panel> {
    let panel = |title: &str, lines: Vec<Line>| Panel {
        title: title.into(),
        x: levels(points),
        y: (Axis::linear(highest(&lines)), "per second".into()),
        lines,
    };
    let mut requests = vec![over(points, "good answers", BLUE, |point| {
        Some(point.throughput.requests_per_s)
    })];
    if points.iter().any(|point| point.goodput.is_some()) {
        requests.push(over(points, "within the objectives", GREEN, |point| {
            Some(point.goodput.as_ref()?.requests_per_s)
        }));
    }
    let tokens = over(points, "of good answers", BLUE, |point| {
        Some(point.throughput.output_tokens_per_s)
    });
    vec![
        panel("Output tokens per second", vec![tokens]),
        panel("Requests per second", requests),
    ]
}

impl Panel {
    fn draw(&self, area: &Area<'_>) -> Drawn {
        let area = area.margin(6, 10, 24, 18);
        let (caption, body) = area.split_vertically(CAPTION);
        words(&caption, &self.title, (0, 4), 18, INK)?;
        let mut left = 0;
        for line in &self.lines {
            let mark = [(left, 36), (left + 14, 40)];
            caption.draw(&Rectangle::new(mark, line.color.filled()))?;
            words(&caption, &line.name, (left + 20, 30), 14, FAINT)?;
            // There is no font to measure with; this is more than sans-serif ones need.
            left += 44 + 8 * line.name.chars().count() as i32;
        }
        let mut chart = ChartBuilder::on(&body)
            .margin_top(6)
            .margin_right(18)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(self.x.0.clone(), self.y.0.clone())?;
        let text = ("sans-serif", 14).into_font().color(&INK);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .x_desc(self.x.0.name(&self.x.1))
            .y_desc(self.y.0.name(&self.y.1))
            .label_style(text.clone())
            .axis_desc_style(text)
            .draw()?;
        for line in &self.lines {
            let style = line.color.stroke_width(2);
            chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
            let dot = |point: &(f64, f64)| Circle::new(*point, 4, line.color.filled());
            chart.draw_series(line.dots.iter().map(dot))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "plot/tests.rs"]
mod tests;
