#![allow(clippy::unwrap_used)]

use super::*;
use crate::bench::answer::Usage;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A stream of three events, intended at 0, sent at 100 ms.
fn streamed(usage: Option<u64>) -> Sample {
    let usage = usage.map(|tokens| Usage {
        prompt_tokens: 7,
        completion_tokens: tokens,
        prompt_tokens_details: None,
    });
    Sample {
        intended: ms(0),
        sent: ms(100),
        over: ms(400),
        images: 2,
        bytes: 1_000,
        result: Some(Ok(Answer {
            first: Some(ms(150)),
            last: Some(ms(350)),
            end: ms(400),
            gaps: vec![50_000, 150_000],
            events: 3,
            usage,
            done: true,
            finish_reason: Some("stop".into()),
        })),
    }
}

fn failed(kind: &str) -> Sample {
    Sample {
        result: Some(Err(Failure::new(kind, "said"))),
        ..streamed(None)
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= b * 0.002
}

#[test]
fn quantiles_are_those_of_the_times() {
    let mut times = Times::new().unwrap();
    for time in 1..=1_000 {
        times.add(ms(time));
    }
    for (share, expected) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
        let time = times.quantile(share);
        assert!(near(time, expected), "{share}: {time}");
    }
    assert!(near(times.mean(), 500.5) && near(times.min(), 1.0) && near(times.max(), 1000.0));
    let curve = times.curve();
    assert_eq!(curve.last().unwrap().1, 1.0);
    assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
    let (_, share) = curve.iter().find(|(time, _)| *time >= 250.0).unwrap();
    assert!((share - 0.25).abs() < 0.005, "{share}");
}

#[test]
fn an_open_loop_counts_from_the_intended_time_and_a_closed_one_from_the_send() {
    for (open, ttft, e2e) in [(true, 150.0, 400.0), (false, 50.0, 300.0)] {
        let mut tally = Tally::new(open, Slo::default()).unwrap();
        tally.add(&streamed(Some(5)));
        assert!(near(tally.ttft.max(), ttft), "{open}");
        assert!(near(tally.e2e.max(), e2e), "{open}");
        assert!(near(tally.e2e_from_send.max(), 300.0));
        assert!(near(tally.ttft_from_send.max(), 50.0));
        assert!(near(tally.send_delay.max(), 100.0));
        // 200 ms for four tokens.
        assert!(near(tally.tpot.max(), 50.0));
        assert_eq!(tally.inter_token.count(), 2);
        assert!(near(tally.inter_token.max(), 150.0));
        assert_eq!(
            (tally.prompt_tokens, tally.output_tokens, tally.events),
            (7, 5, 3)
        );
        assert_eq!((tally.images, tally.bytes, tally.wall), (2, 1_000, ms(400)));
    }
}

#[test]
fn failures_are_told_apart_up_to_a_bound_and_have_no_times() {
    let mut tally = Tally::new(true, Slo::default()).unwrap();
    for _ in 0..3 {
        tally.add(&failed("timeout"));
    }
    for kind in 0..100 {
        tally.add(&failed(&format!("http_{kind}")));
    }
    tally.add(&Sample {
        result: None,
        ..streamed(None)
    });
    assert_eq!((tally.ok, tally.failed(), tally.unfinished), (0, 103, 1));
    assert_eq!(tally.failures["timeout"].count, 3);
    assert_eq!(tally.failures["timeout"].example, "said");
    assert_eq!(tally.failures.len(), MOST_KINDS + 1);
    assert_eq!(tally.e2e.count(), 0);
}

#[test]
fn good_answers_keep_every_objective() {
    for (ttft, tpot, good) in [
        (None, None, 1),
        (Some(150), Some(50), 1),
        (Some(149), None, 0),
        (Some(150), Some(49), 0),
    ] {
        let slo = Slo {
            ttft: ttft.map(ms),
            tpot: tpot.map(ms),
        };
        let mut tally = Tally::new(true, slo).unwrap();
        tally.add(&streamed(Some(5)));
        tally.add(&failed("timeout"));
        assert_eq!(tally.good, good, "{slo:?}");
    }
}

#[test]
fn the_timeline_keeps_every_count_whatever_its_width() {
    for (scale, width) in [(1, 0.2), (60, 10.0), (100_000, 3_600.0)] {
        let mut tally = Tally::new(true, Slo::default()).unwrap();
        for number in 0..100 {
            let mut sample = streamed(None);
            sample.sent = ms(100 * number * scale);
            sample.over = sample.sent;
            if let Some(Ok(answer)) = &mut sample.result {
                answer.first = Some(sample.sent);
                answer.end = sample.sent + ms(200);
            }
            tally.add(&sample);
        }
        tally.add(&failed("timeout"));
        let (seconds, ticks) = tally.timeline();
        assert!((seconds - width).abs() < 1e-9, "{scale}: {seconds}");
        assert!(ticks.len() <= 60);
        let sum = |count: fn(&Tick) -> u64| ticks.iter().map(count).sum::<u64>();
        let sums = (
            sum(|t| t.sent),
            sum(|t| t.finished),
            sum(|t| t.failed),
            sum(|t| t.output),
        );
        assert_eq!(sums, (101, 100, 1, 300));
    }
}

#[test]
fn the_trend_compares_the_first_third_with_the_last() {
    let mut tally = Tally::new(true, Slo::default()).unwrap();
    assert_eq!(tally.trend(), None);
    for number in 0..60 {
        let mut sample = streamed(None);
        sample.intended = ms(number);
        if let Some(Ok(answer)) = &mut sample.result {
            answer.end = ms(number + if number < 30 { 100 } else { 900 });
        }
        tally.add(&sample);
    }
    assert_eq!(tally.trend(), Some((100.0, 900.0)));
}
