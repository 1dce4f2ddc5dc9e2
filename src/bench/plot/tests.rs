#![allow(clippy::unwrap_used)]

use std::time::Duration;

use clap::Parser;

use super::*;
use crate::bench::{
    answer::{Answer, Failure},
    arrival::Arrival,
    drive::{Sample, Sent},
    plan::{Load, Plan},
    report::{Measured, SCHEMA, Settings, TargetReport},
    tally::{Tally, Times},
};
use crate::cli::{Cli, Command};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn plan() -> Plan {
    let words = "porthole bench --url http://h/v1 --slo-ttft 40";
    let cli = Cli::parse_from(words.split(' '));
    let Some(Command::Bench(args)) = cli.command else {
        panic!("no bench");
    };
    args.plan(None).unwrap()
}

/// A point whose answers take ever longer; without streams where `stream` is false.
fn point(load: Load, answers: u64, stream: bool) -> PointReport {
    let plan = plan();
    let mut tally = Tally::new(true, plan.slo).unwrap();
    for number in 0..answers {
        let sent = ms(10 * number);
        let first = sent + ms(20 + number / 2);
        let mut answer = Answer {
            end: first + ms(200),
            done: true,
            ..Answer::default()
        };
        if stream {
            answer.first = Some(first);
            answer.last = Some(first + ms(50));
            answer.gaps = vec![50_000];
            answer.events = 2;
        }
        tally.add(&Sample {
            intended: sent,
            sent,
            over: answer.end,
            images: 0,
            bytes: 10,
            result: Some(match number % 10 {
                9 => Err(Failure::new("timeout", "late")),
                _ => Ok(answer),
            }),
        });
    }
    let measured = Measured {
        load,
        tally,
        sent: Sent::default(),
        timer_delay: Times::new().unwrap(),
    };
    PointReport::of(&measured, &plan)
}

fn drawn(points: Vec<PointReport>) -> String {
    let report = Report {
        schema: SCHEMA,
        porthole: "0",
        command: Vec::new(),
        started: String::new(),
        ended: String::new(),
        interrupted: false,
        target: TargetReport {
            url: "http://h/v1".into(),
            model: "<a&b>".into(),
            server: None,
        },
        settings: Settings::of(&plan()),
        points,
    };
    svg(&report).unwrap()
}

/// Coordinates of every polyline, all of them inside the picture.
fn lines(svg: &str) -> Vec<Vec<(f64, f64)>> {
    let coordinates = svg.split(" points=\"").skip(1).map(|rest| {
        let points = rest.split('"').next().unwrap().split_whitespace();
        let number = |text: &str| text.parse::<f64>().unwrap();
        let points = points.map(|point| point.split_once(',').unwrap());
        points.map(|(x, y)| (number(x), number(y))).collect()
    });
    let lines: Vec<Vec<(f64, f64)>> = coordinates.collect();
    let (width, height) = (f64::from(SIZE.0), f64::from(SIZE.1));
    for (x, y) in lines.iter().flatten() {
        assert!((0.0..=width).contains(x) && (0.0..=height).contains(y));
    }
    lines
}

fn open(rate: f64) -> Load {
    Load::Open {
        rate,
        arrival: Arrival::Constant,
    }
}

#[test]
fn one_load_is_drawn_as_distributions_and_a_timeline() {
    let svg = drawn(vec![point(open(100.0), 300, true)]);
    for text in [
        "Time to first token",
        "Inter-token gap",
        "End to end",
        "% of answers",
        "Output events per second",
        "Requests per second",
        "failed",
        "seconds since the start",
        "&lt;a&amp;b&gt;",
    ] {
        assert!(svg.contains(text), "{text} is missing");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    // A distribution never falls: on the screen, y never grows.
    let curves = lines(&svg);
    let steps = curves.iter().filter(|line| line.len() > 100);
    let mut seen = 0;
    for line in steps {
        assert!(line.is_sorted_by(|a, b| a.0 <= b.0 && a.1 >= b.1));
        seen += 1;
    }
    assert!(seen >= 2, "{seen}");
}

#[test]
fn a_sweep_is_drawn_over_its_loads() {
    let points = [1.0, 8.0, 32.0].map(|rate| point(open(rate), 100, true));
    let svg = drawn(points.to_vec());
    for text in [
        "p50",
        "p90",
        "p99",
        "requests/s sent",
        "within the objectives",
    ] {
        assert!(svg.contains(text), "{text} is missing");
    }
    // Three panels of three lines, tokens, and requests twice; each over three loads.
    let over_loads = lines(&svg).into_iter().filter(|line| line.len() == 3);
    assert!(over_loads.count() >= 12);
}

#[test]
fn what_was_not_measured_is_left_out() {
    let svg = drawn(vec![point(open(1.0), 50, false)]);
    assert!(svg.contains("End to end") && !svg.contains("Time to first token"));
    let closed = Load::Closed { concurrency: 1 };
    for points in [Vec::new(), vec![point(closed, 0, true)]] {
        let svg = drawn(points);
        assert!(!svg.contains("NaN") && svg.contains("</svg>"));
        lines(&svg);
    }
    let nothing = [1, 2].map(|concurrency| point(Load::Closed { concurrency }, 0, true));
    assert!(drawn(nothing.to_vec()).contains("requests at once"));
}
