//! What to know before believing the numbers.

use super::{
    plan::{Load, Plan},
    report::point::Measured,
};

/// Later sends than this, at the 99th percentile, are no longer small beside what is measured;
/// milliseconds.
const LATE: f64 = 10.0;

/// Answers below which a 99th percentile is little but the maximum.
const FEW: u64 = 100;

/// Whether the generator did its own part in time.
pub fn keeps_up(measured: &Measured) -> bool {
    let late = measured.tally.send_delay.quantile(0.99) > LATE;
    let slow = measured.timer_delay.quantile(0.99) > LATE;
    !late && !slow && measured.sent.unsent == 0
}

/// What to know, in sentences.
pub fn warnings(measured: &Measured, plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(generator(measured));
    warnings.extend(server(measured));
    warnings.extend(counting(measured, plan));
    warnings
}

fn generator(measured: &Measured) -> Vec<String> {
    let mut warnings = Vec::new();
    let delay = &measured.tally.send_delay;
    if delay.quantile(0.99) > LATE {
        let (late, latest) = (delay.quantile(0.99), delay.max());
        let counted = match measured.load {
            Load::Open { .. } => "which is in the latencies",
            Load::Closed { .. } => "so that fewer were at once than asked for",
        };
        warnings.push(format!(
            "the generator did not keep up: 1 % of the requests were sent {late:.0} ms late or more (at worst \
             {latest:.0} ms), {counted}. Bodies were not ready, --max-in-flight was reached or cores were missing"
        ));
    }
    if measured.sent.unsent > 0 {
        warnings.push(format!(
            "{} requests were due and never sent, since the generator was too far behind",
            measured.sent.unsent
        ));
    }
    let timer = measured.timer_delay.quantile(0.99);
    if timer > LATE {
        warnings.push(format!(
            "the generator's own timers were {timer:.0} ms late at the 99th percentile: it shares its cores with \
             something busy, and so may see answers late"
        ));
    }
    warnings
}

fn server(measured: &Measured) -> Vec<String> {
    let mut warnings = Vec::new();
    let tally = &measured.tally;
    if let (Load::Open { .. }, Some((first, last))) = (measured.load, tally.trend())
        && last > 2.0 * first + 50.0
    {
        warnings.push(format!(
            "the server did not keep up with this rate: answers took {first:.0} ms in the first third of the run and \
             {last:.0} ms in the last. Such latencies say how long the run was"
        ));
    }
    if tally.failed() > 0 {
        warnings.push(format!(
            "{} requests failed; latencies are of the {} good answers alone",
            tally.failed(),
            tally.ok
        ));
    }
    if tally.unfinished > 0 {
        warnings.push(format!(
            "{} requests were interrupted; they would have been among the slow ones",
            tally.unfinished
        ));
    }
    if tally.without_done > 0 {
        warnings.push(format!(
            "{} streams ended with a finish reason and without [DONE]",
            tally.without_done
        ));
    }
    warnings
}

fn counting(measured: &Measured, plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    let tally = &measured.tally;
    if (1..FEW).contains(&tally.ok) {
        warnings.push(format!(
            "only {} good answers: high percentiles are little but the maximum",
            tally.ok
        ));
    }
    if tally.ok > tally.with_usage {
        let told = match (tally.with_usage, plan.ask.stream) {
            (0, true) => "no answer had usage: output tokens are counted as events",
            (0, false) => "no answer had usage: output tokens are not known",
            _ => "some answers had no usage: their output tokens are counted as events",
        };
        warnings.push(told.into());
    } else if tally.events > 0 && tally.output_tokens > 0 {
        let each = tally.output_tokens as f64 / tally.events as f64;
        if !(0.9..=1.1).contains(&each) {
            warnings.push(format!(
                "an event with output holds {each:.2} tokens on average: inter-token times are those between events"
            ));
        }
    }
    if tally.cached_tokens > 0 {
        warnings.push(format!(
            "{} of {} prompt tokens came from a cache",
            tally.cached_tokens, tally.prompt_tokens
        ));
    }
    warnings
}
