//! A generation as server-sent events, in OpenAI's chunks.
//!
//! Everything but the text of a chunk is the same for all chunks of a stream and is written once.
//! What is ready is sent together: a burst of tokens becomes one write.

use std::{pin::Pin, time::Duration};

use actix_web::web::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    engine::{EngineError, Event, EventStream, FinishReason, TokenUsage},
    error::ApiError,
    openai::response::Usage,
};

/// Events taken at once.
const BATCH: usize = 256;

/// What all chunks of a stream share.
pub struct ChunkWriter {
    head: String,
    tail: &'static str,
    include_usage: bool,
}

impl ChunkWriter {
    /// Chunks with these values; `include_usage` adds the usage chunk and `usage: null` before it.
    pub fn new(
        id: &str,
        created: u64,
        model: &str,
        fingerprint: &str,
        include_usage: bool,
    ) -> Self {
        #[derive(Serialize)]
        struct Head<'a> {
            id: &'a str,
            object: &'static str,
            created: u64,
            model: &'a str,
            system_fingerprint: &'a str,
            service_tier: &'static str,
        }
        let head = Head {
            id,
            object: "chat.completion.chunk",
            created,
            model,
            system_fingerprint: fingerprint,
            service_tier: "default",
        };
        let mut head = format!("data: {}", serde_json::to_string(&head).unwrap_or_default());
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
        self.choice(
            out,
            |_| {},
            if reason == FinishReason::Stop {
                "\"stop\""
            } else {
                "\"length\""
            },
        );
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

struct Sending<G> {
    events: Pin<Box<stream::ReadyChunks<EventStream>>>,
    writer: ChunkWriter,
    keep_alive: Interval,
    started: bool,
    ended: bool,
    _guards: G,
}

/// The body of a streaming response. `guards` are dropped with it, whatever ends it.
pub fn body<G: 'static>(
    events: EventStream,
    writer: ChunkWriter,
    keep_alive: Duration,
    guards: G,
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
        _guards: guards,
    };
    stream::unfold(sending, |mut sending| async move {
        if sending.ended {
            return None;
        }
        let bytes = sending.next_bytes().await;
        Some((Ok(bytes), sending))
    })
}

impl<G> Sending<G> {
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
        let broken_off = || vec![Err(EngineError::Failed("the events broke off".into()))];
        for event in batch.unwrap_or_else(broken_off) {
            if self.ended {
                break;
            }
            match event {
                Ok(Event::Delta(text)) => self.writer.delta(&mut out, &text),
                Ok(Event::Finished { reason, usage }) => {
                    self.writer.finish(&mut out, reason, usage);
                    self.ended = true;
                }
                Err(error) => {
                    out.put_slice(b"data: ");
                    out.put_slice(ApiError::from(error).to_json().as_bytes());
                    out.put_slice(b"\n\n");
                    self.ended = true;
                }
            }
        }
        out.freeze()
    }
}
