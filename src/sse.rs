//! A generation as server-sent events, in OpenAI's chunks.
//!
//! Everything but the text of a chunk is the same for all chunks of a stream and is written once.
//! What is ready is sent together: a burst of tokens becomes one write.

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
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    audit::{Outcome, Record},
    engine::{EngineError, Event, FinishReason, TokenUsage},
    openai::response::Usage,
    routes::generation::Answers,
};

/// Events taken at once.
const BATCH: usize = 256;

/// What all chunks of a stream share.
pub struct ChunkWriter {
    head: String,
    tail: &'static str,
    include_usage: bool,
}

/// The values that all chunks of a stream have.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `chatcmpl-...`
    pub id: &'a str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's name as the client called it.
    pub model: &'a str,
    /// Names the build and the weights.
    pub fingerprint: &'a str,
    /// The tier it is served in.
    pub tier: &'static str,
    /// Add the usage chunk, and `usage: null` before it.
    pub include_usage: bool,
    /// Answers that the stream carries.
    pub answers: usize,
}

impl ChunkWriter {
    /// Chunks with these values.
    pub fn new(head: Head<'_>) -> Self {
        #[derive(Serialize)]
        struct Values<'a> {
            id: &'a str,
            object: &'static str,
            created: u64,
            model: &'a str,
            system_fingerprint: &'a str,
            service_tier: &'static str,
        }
        let values = Values {
            id: head.id,
            object: "chat.completion.chunk",
            created: head.created,
            model: head.model,
            system_fingerprint: head.fingerprint,
            service_tier: head.tier,
        };
        let include_usage = head.include_usage;
        let values = serde_json::to_string(&values).unwrap_or_default();
        let mut head = format!("data: {values}");
        head.pop(); // the closing brace: the choices follow
        let tail = if include_usage {
            ",\"usage\":null}\n\n"
        } else {
            "}\n\n"
        };
        Self {
            head,
            tail,
            include_usage,
        }
    }

    fn choice(&self, out: &mut BytesMut, delta: impl FnOnce(&mut BytesMut), finish: &str) {
        out.put_slice(self.head.as_bytes());
        out.put_slice(br#","choices":[{"index":0,"delta":{"#);
        delta(out);
        out.put_slice(br#"},"logprobs":null,"finish_reason":"#);
        out.put_slice(finish.as_bytes());
        out.put_slice(b"}]");
        out.put_slice(self.tail.as_bytes());
    }

    fn role(&self, out: &mut BytesMut) {
        self.choice(
            out,
            |out| out.put_slice(br#""role":"assistant","content":"","refusal":null"#),
            "null",
        );
    }

    fn delta(&self, out: &mut BytesMut, text: &str) {
        self.choice(
            out,
            |out| {
                out.put_slice(br#""content":"#);
                // Writing into memory cannot fail.
                let _ = serde_json::to_writer(out.writer(), text);
            },
            "null",
        );
    }

    fn finish(&self, out: &mut BytesMut, reason: FinishReason, usage: TokenUsage) {
        let word = match reason {
            FinishReason::Stop => "\"stop\"",
            FinishReason::Length => "\"length\"",
            FinishReason::ToolCalls => "\"tool_calls\"",
        };
        self.choice(out, |_| {}, word);
        if self.include_usage {
            out.put_slice(self.head.as_bytes());
            out.put_slice(br#","choices":[],"usage":"#);
            let usage = Usage::new(usage.prompt, usage.image, usage.completion);
            let _ = serde_json::to_writer(out.writer(), &usage);
            out.put_slice(b"}\n\n");
        }
        out.put_slice(b"data: [DONE]\n\n");
    }
}

struct Sending {
    events: Pin<Box<stream::ReadyChunks<Answers>>>,
    writer: ChunkWriter,
    keep_alive: Interval,
    started: bool,
    ended: bool,
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
            self.writer.role(&mut out);
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
                Ok((_, Event::Text { text, .. })) => self.writer.delta(&mut out, &text),
                Ok((_, Event::Reasoning(_) | Event::Call { .. } | Event::Arguments { .. })) => {}
                Ok((_, Event::Finished { reason, usage })) => {
                    self.writer.finish(&mut out, reason, usage);
                    self.ended = true;
                }
                Err(error) => {
                    self.record.note(|fields| fields.error = Some(error.code()));
                    out.put_slice(b"data: ");
                    out.put_slice(error.to_json().as_bytes());
                    out.put_slice(b"\n\n");
                    self.ended = true;
                }
            }
        }
        out.freeze()
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
