//! Brings a dead engine back: mistral.rs restarts its thread on the kept weights when it is next
//! asked; where that does not help, the model is loaded anew. Until a probe generation succeeds the
//! engine counts as away.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use image::RgbImage;
use tokio::sync::mpsc;

use super::{Shared, load, prepare::Prepared, sequence};
use crate::{
    engine::{Event, Health, Input, Inquiry, Job, Part, Role, SamplingParams, Turn, convert},
    metrics::Activity,
};

/// Probes on the restarted thread before the model is loaded anew.
const PROBES_BEFORE_RELOAD: u32 = 3;
/// The time in which attempts are counted against `max_restarts`.
const LATELY: Duration = Duration::from_secs(600);
const PROBE_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts bringing the engine back, unless that is going on already.
pub(super) fn recover(shared: &Arc<Shared>, reason: String) {
    start(shared, reason, false);
}

/// Starts loading the model anew, unless the engine is being brought back already.
pub(super) fn reload(shared: &Arc<Shared>, reason: String) {
    start(shared, reason, true);
}

fn start(shared: &Arc<Shared>, reason: String, mut reload: bool) {
    let started = shared.health.send_if_modified(|health| {
        let up = *health == Health::Up;
        if up {
            *health = Health::Recovering(reason.clone());
        }
        up
    });
    if !started {
        return;
    }
    tracing::error!(%reason, "the engine is away; bringing it back");
    let shared = shared.clone();
    tokio::spawn(async move {
        let mut attempt = 0;
        while shared.may_revive() {
            attempt += 1;
            // The thread that died may still be unwinding; later attempts back off.
            tokio::time::sleep(Duration::from_millis(50) * (1 << attempt.min(9))).await;
            reload |= attempt > PROBES_BEFORE_RELOAD;
            match revive(&shared, reload).await {
                Ok(()) => {
                    shared.metrics.engine_restarts.inc();
                    tracing::info!("the engine is back");
                    shared.health.send_replace(Health::Up);
                    return;
                }
                Err(error) => tracing::error!(attempt, %error, "the engine did not come back"),
            }
        }
        tracing::error!(%reason, "the engine died too often; it is given up");
        shared.health.send_replace(Health::Lost(reason));
    });
}

impl Shared {
    /// Whether one more attempt to bring it back is allowed; it counts.
    fn may_revive(&self) -> bool {
        let mut revivals = self.revivals.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        revivals.retain(|at| now - *at < LATELY);
        revivals.push_back(now);
        revivals.len() <= self.config.max_restarts
    }
}

async fn revive(shared: &Arc<Shared>, reload: bool) -> Result<(), String> {
    if reload {
        let loaded = load::load(&shared.config, shared.device).await?;
        *shared
            .runner
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = loaded.runner;
    }
    let sender = shared.sender().map_err(|e| e.to_string())?;
    if sender.is_closed() {
        return Err("its thread is still ending".into());
    }
    probe(shared).await
}

/// One short generation, around the lane.
pub(super) async fn probe(shared: &Arc<Shared>) -> Result<(), String> {
    let turn = Turn::new(Role::User, vec![Part::Text("Hi".into())]);
    let answer = tokio::time::timeout(PROBE_TIMEOUT, generate(shared, vec![turn], &[], 2)).await;
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("the probe generation failed: {error}")),
        Err(_) => Err("the probe generation did not end".into()),
    }
}

/// The greedy answer to a conversation, around the lane: for probes and for the self-check.
pub(super) async fn generate(
    shared: &Arc<Shared>,
    turns: Vec<Turn>,
    images: &[RgbImage],
    max_tokens: usize,
) -> Result<String, String> {
    let sampling = SamplingParams {
        temperature: Some(0.0),
        max_tokens: Some(max_tokens),
        ..SamplingParams::default()
    };
    let inquiry = if shared.template.is_some() {
        Inquiry::chat(turns)
    } else {
        Inquiry::of(Input::Text("Hi".into()))
    };
    let prompt = Prepared::new(shared, inquiry).map_err(|e| e.to_string())?;
    let job = Job {
        images: Arc::new(images.to_vec()),
        sampling,
        activity: Activity::unseen(),
        on_end: Box::new(|_| {}),
    };
    let job = sequence::Job::new(
        &prompt,
        &job,
        convert::images(images, shared.salt, shared.shows_alpha()),
    );
    let (events, mut stream) = mpsc::unbounded_channel();
    let running = tokio::spawn({
        let shared = shared.clone();
        async move { sequence::run_in_lane(&shared, job, &events).await }
    });
    let mut text = String::new();
    let mut finished = false;
    while let Some(event) = stream.recv().await {
        match event.map_err(|e| e.to_string())? {
            Event::Text { text: more, .. } | Event::Reasoning(more) => text.push_str(&more),
            Event::Call { .. } | Event::Arguments { .. } => {}
            Event::Finished { .. } => finished = true,
        }
    }
    running.await.map_err(|e| e.to_string())?;
    if finished {
        Ok(text)
    } else {
        Err("the generation did not finish".into())
    }
}
