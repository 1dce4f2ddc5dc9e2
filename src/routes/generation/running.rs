//! Answers under way: what they hold, what is noted of them, and what ends them early.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, ready},
};

use futures::{Stream, StreamExt, stream};

use crate::{
    admission::{Permit, Slot},
    audit::Record,
    auth::{AuthError, Session},
    engine::{EngineError, Event, TokenUsage},
    error::ApiError,
    limits::{Entry, Reservation},
    media::DecodedPermit,
};

/// What a request holds while the engine works on it, and what that has cost.
pub(super) struct Work {
    used: Mutex<Option<TokenUsage>>,
    account: Option<(Reservation, Slot)>,
    record: Arc<Record>,
    _held: (DecodedPermit, Arc<Entry>),
}

impl Work {
    pub(super) fn new(
        account: (Reservation, Slot),
        record: Arc<Record>,
        held: (DecodedPermit, Arc<Entry>),
    ) -> Self {
        Self {
            used: Mutex::new(None),
            account: Some(account),
            record,
            _held: held,
        }
    }

    pub(super) fn add(&self, usage: TokenUsage) {
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
            // A request of several prompts has several of these.
            self.record.note(|fields| {
                *fields.completion_tokens.get_or_insert(0) += usage.completion;
            });
        }
    }
}

/// The events, with what the audit line tells of them noted.
pub(super) fn noted(
    events: impl Stream<Item = Result<(usize, Event), EngineError>> + 'static,
    permit: Permit,
    record: Arc<Record>,
) -> impl Stream<Item = Result<(usize, Event), ApiError>> + 'static {
    let mut silent = true;
    events.map(move |event| {
        let _held = &permit;
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
        event.map_err(ApiError::from)
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
