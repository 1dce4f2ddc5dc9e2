//! What is measured of a request while its answers come.

use std::{sync::Arc, time::Instant};

use crate::{
    audit::Record,
    engine::{EngineError, Event, TokenUsage},
    metrics::{Finish, ModelMetrics, Waited},
};

/// A request that the model is asked, watched until its last answer has ended. One that is dropped
/// before was cancelled.
pub(super) struct Observed {
    model: Arc<ModelMetrics>,
    record: Arc<Record>,
    waited: Arc<Waited>,
    /// When the last piece of each answer came.
    last: Vec<Option<Instant>>,
    /// When the first piece came.
    first: Option<Instant>,
    /// Answers that have not ended.
    left: usize,
    usage: Option<TokenUsage>,
    over: bool,
}

impl Observed {
    pub(super) fn new(
        model: Arc<ModelMetrics>,
        record: Arc<Record>,
        waited: Arc<Waited>,
        answers: usize,
    ) -> Self {
        Self {
            model,
            record,
            waited,
            last: vec![None; answers],
            first: None,
            left: answers,
            usage: None,
            over: false,
        }
    }

    /// Takes note of an event. For each piece of an answer this reads the clock and adds to a
    /// histogram, and no more.
    pub(super) fn see(&mut self, event: &Result<(usize, Event), EngineError>) {
        match event {
            Err(_) => self.ends(Finish::Error),
            Ok((_, Event::Finished { reason, usage })) => {
                let usage = self.usage.map_or(*usage, |before| before.and(*usage));
                self.usage = Some(usage);
                self.left = self.left.saturating_sub(1);
                if self.left == 0 {
                    self.ends((*reason).into());
                }
            }
            Ok((index, _)) => self.piece(*index),
        }
    }

    fn piece(&mut self, index: usize) {
        let now = Instant::now();
        let Some(last) = self.last.get_mut(index) else {
            return;
        };
        if let Some(before) = last.replace(now) {
            let gap = now.duration_since(before).as_secs_f64();
            self.model.inter_token_latency.observe(gap);
        } else if self.first.is_none() {
            self.first = Some(now);
            let waited = now.duration_since(self.record.started()).as_secs_f64();
            self.model.time_to_first_token.observe(waited);
        }
    }

    /// The request came out so; what comes later does not count.
    pub(super) fn ends(&mut self, how: Finish) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.model.finished(how).inc();
        self.trace();
        if let (Finish::Stop | Finish::Length | Finish::ToolCalls, Some(usage)) = (how, self.usage)
        {
            let model = &self.model;
            let seconds = self.record.started().elapsed().as_secs_f64();
            model.request_duration.observe(seconds);
            model.request_prompt_tokens.observe(usage.prompt as f64);
            model
                .request_generation_tokens
                .observe(usage.completion as f64);
        }
    }

    /// Tells the trace, if there is one, what the request waited for.
    fn trace(&self) {
        let Some(trace) = self.record.trace() else {
            return;
        };
        let now = Instant::now();
        let ran = self.waited.ran();
        trace.step("queue", (self.waited.since(), ran.unwrap_or(now)), None);
        if let Some(ran) = ran {
            let first = self.first.map(|first| ("first_token", first));
            trace.step("generate", (ran, now), first);
        }
    }

    /// It was not begun after all: it is counted where it was refused.
    pub(super) fn forget(mut self) {
        self.over = true;
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.ends(Finish::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::AuditLog, engine::FinishReason, metrics::Metrics, trace::Incoming};

    fn observed(model: &Arc<ModelMetrics>, answers: usize) -> Observed {
        let log = AuditLog::off(Arc::default());
        let record = log.open(Incoming::default);
        Observed::new(model.clone(), record, Arc::default(), answers)
    }

    fn finished(completion: usize) -> Event {
        let usage = TokenUsage {
            prompt: 10,
            completion,
            ..TokenUsage::default()
        };
        Event::Finished {
            reason: FinishReason::Length,
            usage,
        }
    }

    #[test]
    fn a_request_of_two_answers_ends_once() {
        let metrics = Metrics::default();
        let model = metrics.model("m");
        let mut observed = observed(&model, 2);
        for event in [
            (0, Event::text("a")),
            (1, Event::text("b")),
            (0, Event::text("c")),
            (0, finished(2)),
        ] {
            observed.see(&Ok(event));
        }
        assert_eq!(model.finished(Finish::Length).get(), 0);
        observed.see(&Ok((1, finished(1))));
        drop(observed);
        assert_eq!(model.finished(Finish::Length).get(), 1);
        assert_eq!(model.finished(Finish::Cancelled).get(), 0);
        let text = metrics.encode();
        for line in [
            "porthole_time_to_first_token_seconds_count{model=\"m\"} 1",
            "porthole_inter_token_latency_seconds_count{model=\"m\"} 1",
            "porthole_request_prompt_tokens_sum{model=\"m\"} 10.0",
            "porthole_request_generation_tokens_sum{model=\"m\"} 3.0",
            "vllm:e2e_request_latency_seconds_count{model_name=\"m\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    /// What a token's bookkeeping costs; run with `--ignored --nocapture` in a release build.
    #[test]
    #[ignore = "a measurement"]
    fn a_token_costs_little() {
        let model = Metrics::default().model("m");
        let mut observed = observed(&model, 1);
        let event = Ok((0, Event::text("token")));
        let tokens = 5_000_000;
        let since = Instant::now();
        for _ in 0..tokens {
            observed.see(std::hint::black_box(&event));
        }
        let each = since.elapsed() / tokens;
        eprintln!("{each:?} a token");
        assert!(each.as_nanos() < 100, "{each:?}");
    }
}
