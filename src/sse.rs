//! Generations as server-sent events: the body of a streaming response, with what writes each shape
//! of events behind a trait.

pub mod chunks;
pub mod completions;
pub mod responses;

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
use tracing::Span;

use crate::{
    audit::{Outcome, Record},
    engine::{EngineError, Event},
    error::ApiError,
};

/// The events of the answers to a request, each with its answer's index. It ends after an error, or
/// when every answer has finished.
pub type Answers = Pin<Box<dyn Stream<Item = Result<(usize, Event), ApiError>>>>;

/// Events taken at once: a burst of tokens becomes one write.
const BATCH: usize = 256;

/// Writes the events of a request's answers.
pub trait EventWriter {
    /// What comes before all events.
    fn head(&mut self, out: &mut BytesMut);

    /// An event of the answer `index`; whether the stream ends with it.
    fn event(&mut self, index: usize, event: Event, out: &mut BytesMut) -> bool;

    /// An error, with which the stream ends.
    fn failure(&mut self, error: &ApiError, out: &mut BytesMut);
}

struct Sending<W> {
    events: Pin<Box<stream::ReadyChunks<Answers>>>,
    writer: W,
    keep_alive: Interval,
    ended: bool,
    record: Arc<Record>,
}

/// The body of a streaming response. What `events` holds is dropped with it, whatever ends it.
pub fn body<W: EventWriter>(
    events: Answers,
    mut writer: W,
    keep_alive: Duration,
    record: Arc<Record>,
) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
    let mut head = BytesMut::new();
    writer.head(&mut head);
    let head = (!head.is_empty()).then(|| head.freeze());
    let mut keep_alive = interval(keep_alive);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keep_alive.reset();
    let sending = Sending {
        events: Box::pin(events.ready_chunks(BATCH)),
        writer,
        keep_alive,
        ended: false,
        record,
    };
    let rest = stream::unfold(sending, |mut sending| async move {
        let bytes = sending.next_bytes().await?;
        Some((bytes, sending))
    });
    stream::iter(head).chain(rest).map(Ok)
}

impl<W: EventWriter> Sending<W> {
    /// Never empty: an empty chunk would end the response.
    async fn next_bytes(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::with_capacity(512);
        while out.is_empty() {
            if self.ended {
                return None;
            }
            let batch = tokio::select! {
                biased;
                batch = self.events.next() => batch,
                // Written when nothing else is, it shows proxies a living stream and us a dead client.
                _ = self.keep_alive.tick() => return Some(Bytes::from_static(b": keep-alive\n\n")),
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
                    Ok((index, event)) => self.ended = self.writer.event(index, event, &mut out),
                    Err(error) => {
                        self.record.note(|fields| fields.error = Some(error.code()));
                        self.writer.failure(&error, &mut out);
                        self.ended = true;
                    }
                }
            }
        }
        Some(out.freeze())
    }
}

/// Writes a `data:` line and the empty one that ends it.
pub fn data(out: &mut BytesMut, value: &impl serde::Serialize) {
    out.put_slice(b"data: ");
    // Writing into memory cannot fail.
    let _ = serde_json::to_writer(out.writer(), value);
    out.put_slice(b"\n\n");
}

/// A response's body that tells the audit record how much of it was sent.
pub struct Audited {
    body: BoxBody,
    record: Option<Arc<Record>>,
    /// What log lines say of the request.
    span: Span,
    sent: u64,
    outcome: Outcome,
}

impl Audited {
    /// `body`, told to `record`.
    pub fn new(body: BoxBody, record: Option<Arc<Record>>, span: Span) -> Self {
        Self {
            body,
            record,
            span,
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
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let _inside = this.span.enter();
        let item = ready!(Pin::new(&mut this.body).poll_next(context));
        match &item {
            Some(Ok(bytes)) => this.sent += bytes.len() as u64,
            Some(Err(_)) => {}
            None => this.outcome = Outcome::Complete,
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
