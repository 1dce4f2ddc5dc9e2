//! Server-sent events of any shape: the body of a streaming response, with what writes each shape
//! behind a trait.

use std::{pin::Pin, sync::Arc, time::Duration};

use actix_web::web::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    audit::Record,
    engine::{EngineError, Event},
    error::ApiError,
    routes::generation::Answers,
};

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
