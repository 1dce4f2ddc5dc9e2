//! Answers under way: what they hold, what is noted of them, and what ends them early.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, ready},
};

use futures::{Stream, stream};

use super::observed::Observed;
use crate::{
    admission::{Permit, Slot},
    audit::Record,
    auth::{AuthError, Session},
    engine::{EngineError, Event, TokenUsage},
    error::ApiError,
    lifecycle::{Lifecycle, Phase},
    limits::{Entry, Reservation},
    media::DecodedPermit,
    metrics::{Finish, Metrics, ModelMetrics},
};

/// What a request holds while the engine works on it, and what that has cost.
pub(super) struct Work {
    used: Mutex<Option<TokenUsage>>,
    account: Option<(Reservation, Slot)>,
    tally: Tally,
    _held: (DecodedPermit, Arc<Entry>),
}

/// Where the tokens of a request are written down.
pub(super) struct Tally {
    pub(super) metrics: Arc<Metrics>,
    pub(super) model: Arc<ModelMetrics>,
    /// The key that pays, if one does.
    pub(super) key: Option<String>,
    pub(super) record: Arc<Record>,
}

impl Work {
    pub(super) fn new(
        account: (Reservation, Slot),
        tally: Tally,
        held: (DecodedPermit, Arc<Entry>),
    ) -> Self {
        Self {
            used: Mutex::new(None),
            account: Some(account),
            tally,
            _held: held,
        }
    }

    /// Adds what one sequence was, once the engine has let go of it.
    pub(super) fn add(&self, usage: TokenUsage) {
        let model = &self.tally.model;
        model.prompt_tokens.inc_by(usage.prompt as u64);
        model.generation_tokens.inc_by(usage.completion as u64);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = Some(used.map_or(usage, |before| before.and(usage)));
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let used = self.used.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Where the engine never had it, what was reserved is given back.
        if let (Some(usage), Some((reservation, slot))) = (used.take(), self.account.take()) {
            let worked = (usage.prompt + usage.completion) as u64;
            reservation.settle(worked);
            slot.worked(worked);
            let tally = &self.tally;
            tally.metrics.charged(tally.key.as_deref(), usage);
            // A request of several prompts has several of these.
            tally.record.note(|fields| {
                *fields.completion_tokens.get_or_insert(0) += usage.completion;
            });
        }
    }
}

/// The events, with what is measured of them and what the audit line tells of them noted.
pub(super) fn noted(
    events: impl Stream<Item = Result<(usize, Event), EngineError>> + 'static,
    permit: Permit,
    record: Arc<Record>,
    mut observed: Observed,
) -> impl Stream<Item = Result<(usize, Event), ApiError>> + 'static {
    let mut silent = true;
    let mut events = Box::pin(events);
    stream::poll_fn(move |context| {
        let _held = &permit;
        let Some(event) = ready!(events.as_mut().poll_next(context)) else {
            // Where the last answer has not ended, the events broke off.
            observed.ends(Finish::Error);
            return Poll::Ready(None);
        };
        observed.see(&event);
        match &event {
            Ok((_, Event::Finished { reason, .. })) => {
                record.note(|fields| fields.finish_reason = Some(reason.word()));
            }
            Ok(_) if silent => {
                silent = false;
                let now = record.elapsed_ms();
                record.note(|fields| {
                    fields.first_token_ms.get_or_insert(now);
                });
            }
            Ok(_) | Err(_) => {}
        }
        Poll::Ready(Some(event.map_err(ApiError::from)))
    })
}

/// The events, until something ends them early: then what it says.
pub(super) fn until(
    end: impl Future<Output = ApiError> + 'static,
    events: impl Stream<Item = Result<(usize, Event), ApiError>> + 'static,
) -> impl Stream<Item = Result<(usize, Event), ApiError>> {
    let mut events = Box::pin(events);
    let mut end = Box::pin(end);
    let mut over = false;
    stream::poll_fn(move |context| {
        if over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(event) = events.as_mut().poll_next(context) {
            return Poll::Ready(event);
        }
        // Only between tokens: a model takes far longer over one than this takes.
        let error = ready!(end.as_mut().poll(context));
        over = true;
        Poll::Ready(Some(Err(error)))
    })
}

/// What ends answers early: a revoked credential, a server that can wait no longer.
pub(super) async fn early_end(mut session: Session, lifecycle: Arc<Lifecycle>) -> ApiError {
    tokio::select! {
        () = session.revoked() => AuthError::Invalid("revoked").into(),
        () = lifecycle.reached(Phase::Ending) => ApiError::ShuttingDown,
    }
}
