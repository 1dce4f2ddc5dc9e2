//! A generation as server-sent events, in OpenAI's chunks.
//!
//! What is ready is sent together: a burst of tokens becomes one write.

mod chunks;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    web::{BufMut, Bytes, BytesMut},
};
use futures::{Stream, StreamExt, stream};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    audit::{Outcome, Record},
    engine::{EngineError, Event, TokenUsage},
    error::ApiError,
    routes::generation::Answers,
};

pub use chunks::{ChunkWriter, Head};

/// Events taken at once.
const BATCH: usize = 256;

struct Sending {
    events: Pin<Box<stream::ReadyChunks<Answers>>>,
    writer: ChunkWriter,
    keep_alive: Interval,
    started: bool,
    ended: bool,
    /// Answers that have not finished.
    open: usize,
    /// What those cost that have.
    usage: Option<TokenUsage>,
    record: Arc<Record>,
}

/// The body of a streaming response. What `events` holds is dropped with it, whatever ends it.
pub fn body(
    events: Answers,
    writer: ChunkWriter,
    keep_alive: Duration,
    record: Arc<Record>,
) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
    let mut keep_alive = interval(keep_alive);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keep_alive.reset();
    let events = Box::pin(events.ready_chunks(BATCH));
    let sending = Sending {
        events,
        open: writer.answers(),
        usage: None,
        writer,
        keep_alive,
        started: false,
        ended: false,
        record,
    };
    stream::unfold(sending, |mut sending| async move {
        if sending.ended {
            return None;
        }
        let bytes = sending.next_bytes().await;
        Some((Ok(bytes), sending))
    })
}

impl Sending {
    async fn next_bytes(&mut self) -> Bytes {
        let mut out = BytesMut::with_capacity(512);
        if !self.started {
            self.started = true;
            self.writer.roles(&mut out);
            return out.freeze();
        }
        let batch = tokio::select! {
            biased;
            batch = self.events.next() => batch,
            // Written when nothing else is, it shows proxies a living stream and us a dead client.
            _ = self.keep_alive.tick() => return Bytes::from_static(b": keep-alive\n\n"),
        };
        self.keep_alive.reset();
        let broken_off = || {
            vec![Err(
                EngineError::Failed("the events broke off".into()).into()
            )]
        };
        for event in batch.unwrap_or_else(broken_off) {
            if self.ended {
                break;
            }
            match event {
                Ok((index, event)) => self.write(&mut out, index, &event),
                Err(error) => self.fail(&mut out, &error),
            }
        }
        out.freeze()
    }

    fn write(&mut self, out: &mut BytesMut, index: usize, event: &Event) {
        self.writer.event(out, index, event);
        if let Event::Finished { usage, .. } = event {
            let total = self.usage.map_or(*usage, |before| before.and(*usage));
            self.usage = Some(total);
            self.open = self.open.saturating_sub(1);
            if self.open == 0 {
                self.writer.end(out, total);
                self.ended = true;
            }
        }
    }

    fn fail(&mut self, out: &mut BytesMut, error: &ApiError) {
        self.record.note(|fields| fields.error = Some(error.code()));
        out.put_slice(b"data: ");
        out.put_slice(error.to_json().as_bytes());
        out.put_slice(b"\n\n");
        self.ended = true;
    }
}

/// A response's body that tells the audit record how much of it was sent.
pub struct Audited {
    body: BoxBody,
    record: Option<Arc<Record>>,
    sent: u64,
    outcome: Outcome,
}

impl Audited {
    /// `body`, told to `record`.
    pub fn new(body: BoxBody, record: Option<Arc<Record>>) -> Self {
        Self {
            body,
            record,
            sent: 0,
            outcome: Outcome::Disconnected,
        }
    }
}

impl MessageBody for Audited {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let item = ready!(Pin::new(&mut self.body).poll_next(context));
        match &item {
            Some(Ok(bytes)) => self.sent += bytes.len() as u64,
            Some(Err(_)) => {}
            None => self.outcome = Outcome::Complete,
        }
        Poll::Ready(item)
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        let Some(record) = &self.record else { return };
        // A body of known size may be dropped after its last byte, without being asked for more.
        let whole = match self.body.size() {
            BodySize::None => true,
            BodySize::Sized(size) => self.sent >= size,
            BodySize::Stream => false,
        };
        let total = record.elapsed_ms();
        record.note(|fields| {
            fields.bytes_out = self.sent;
            fields.total_ms = total;
            if whole || self.outcome == Outcome::Complete {
                fields.outcome = Outcome::Complete;
            }
        });
    }
}
