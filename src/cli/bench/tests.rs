#![allow(clippy::unwrap_used)]

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};

fn parsed(args: &[&str]) -> Result<BenchArgs, String> {
    let words = ["porthole", "bench", "--url", "http://h/v1"];
    let cli = Cli::try_parse_from(words.iter().chain(args)).map_err(|e| e.to_string())?;
    match cli.command {
        Some(Command::Bench(args)) => Ok(*args),
        other => panic!("{other:?}"),
    }
}

fn plan(args: &[&str]) -> Plan {
    parsed(args).unwrap().plan(None).unwrap()
}

#[test]
fn without_flags_it_is_a_closed_loop_of_one_for_thirty_seconds() {
    let plan = plan(&[]);
    assert_eq!(plan.loads, [Load::Closed { concurrency: 1 }]);
    assert_eq!(plan.until.duration, Some(Duration::from_secs(30)));
    assert!(plan.ask.stream && plan.ask.usage && !plan.ask.images.has_images());
    assert_eq!((plan.warmup.requests, plan.target.model), (Some(4), None));
}

#[test]
fn flags_become_the_plan() {
    let plan = plan(&[
        "--rate",
        "0.5,2",
        "--arrival",
        "poisson",
        "--requests",
        "9",
        "--warmup",
        "10s",
        "--model",
        "m",
        "--no-stream",
        "--slo-ttft",
        "250",
        "--timeout",
        "1.5",
        "--image-size",
        "8x9,10x11",
    ]);
    let arrival = Arrival::Poisson;
    let loads = [0.5, 2.0].map(|rate| Load::Open { rate, arrival });
    assert_eq!(plan.loads, loads);
    assert_eq!((plan.until.requests, plan.until.duration), (Some(9), None));
    assert_eq!(plan.warmup.duration, Some(Duration::from_secs(10)));
    assert_eq!(plan.target.model.as_deref(), Some("m"));
    assert_eq!(plan.slo.ttft, Some(Duration::from_millis(250)));
    assert_eq!(plan.target.timeout, Duration::from_millis(1500));
    assert!(!plan.ask.stream);
    assert_eq!(plan.ask.sizes.len(), 2);
}

#[test]
fn what_makes_no_sense_is_said() {
    for (args, reason) in [
        (&["--rate", "0"][..], "no rate"),
        (&["--rate", "NaN"], "no rate"),
        (&["--concurrency", "0"], "no number from 1"),
        (
            &["--concurrency", "1", "--rate", "1"],
            "cannot be used with",
        ),
        (&["--duration", "0s"], "no time"),
        (&["--duration=-3s"], "no time"),
        (&["--duration", "soon"], "no time"),
        (&["--images", "1:0"], "not positive"),
        (&["--image-size", "big"], "no size"),
        (&["--extra-body", "[]"], "no JSON object"),
        (&["--extra-body", r#"{"stream": true}"#], "--no-stream"),
        (&["--slo-tpot", "0"], "milliseconds"),
        (&["--prompt-tokens", "0"], "no number from 1"),
    ] {
        let said = parsed(args).unwrap_err();
        assert!(said.contains(reason), "{args:?}: {said}");
    }
    for (url, reason) in [
        ("ftp://h/v1", "only http"),
        ("http://user:pass@h/v1", "--api-key"),
    ] {
        let mut args = parsed(&[]).unwrap();
        args.url = url.parse().unwrap();
        assert!(args.plan(None).unwrap_err().contains(reason), "{url}");
    }
}

#[test]
fn the_key_is_nowhere_to_be_seen() {
    let args = parsed(&["--api-key", "sk-secret"]).unwrap();
    let plan = args.plan(Some(Secret::from("of the environment"))).unwrap();
    assert_eq!(plan.target.key.as_ref().unwrap().expose(), "sk-secret");
    assert!(!format!("{args:?}{plan:?}").contains("sk-secret"));
    let typed = [
        "x",
        "--api-key",
        "sk-secret",
        "--api-key=sk-secret",
        "--seed",
        "1",
    ];
    let typed = typed.map(String::from);
    assert_eq!(
        without_key(&typed),
        ["x", "--api-key", "***", "--api-key=***", "--seed", "1"]
    );
    let said = hidden("bad key sk-secret".into(), plan.target.key.as_ref());
    assert_eq!(said, "bad key ***");
}

#[test]
fn more_at_once_than_files_can_be_open_is_refused() {
    let args = parsed(&["--concurrency", "100000"]).unwrap();
    assert!(args.plan(None).unwrap_err().contains("ulimit -n"));
}
