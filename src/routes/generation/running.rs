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
            tally
                .record
                .note(|fields| fields.completion_tokens = Some(usage.completion));
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
                record.note(|fields| fields.first_token_ms = Some(record.elapsed_ms()));
            }
            Ok(_) | Err(_) => {}
        }
        Poll::Ready(Some(event.map_err(ApiError::from)))
    })
}

/// The events, until the credential is revoked: then an error.
pub(super) fn until_revoked(
    events: impl Stream<Item = Result<(usize, Event), ApiError>> + 'static,
    mut session: Session,
) -> impl Stream<Item = Result<(usize, Event), ApiError>> {
    let mut events = Box::pin(events);
    let mut revoked = Box::pin(async move { session.revoked().await });
    let mut over = false;
    stream::poll_fn(move |context| {
        if over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(event) = events.as_mut().poll_next(context) {
            return Poll::Ready(event);
        }
        // Only between tokens: a model takes far longer over one than this takes.
        ready!(revoked.as_mut().poll(context));
        over = true;
        Poll::Ready(Some(Err(AuthError::Invalid("revoked").into())))
    })
}
