//! OpenAI's chunks, written into memory.

use std::fmt::Write;

use actix_web::web::{BufMut, BytesMut};
use serde::Serialize;

use crate::{
    engine::{Event, FinishReason, TokenLogprob, TokenUsage},
    error::ApiError,
    sse::EventWriter,
    wire,
};

/// Writes the chunks of a stream. Everything but their choice is the same for all, and is made once.
pub struct ChunkWriter {
    head: String,
    tail: &'static str,
    include_usage: bool,
    answers: usize,
    /// Answers that have not finished.
    open: usize,
    /// What those cost that have.
    usage: Option<TokenUsage>,
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
        let answers = head.answers;
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
            answers,
            open: answers,
            usage: None,
        }
    }

    /// The chunk of an event of the answer `index`.
    fn chunk(&self, out: &mut BytesMut, index: usize, event: &Event) {
        let choice = |out, tokens, delta: &dyn Fn(&mut BytesMut)| {
            self.choice(out, index, tokens, "null", delta);
        };
        match event {
            // A token that ended inside a character, when nobody asked for tokens.
            Event::Text { text, tokens } if text.is_empty() && tokens.is_empty() => {}
            Event::Text { text, tokens } => choice(out, tokens, &|out| {
                out.put_slice(br#""content":"#);
                json(out, text);
            }),
            Event::Reasoning(text) => choice(out, &[], &|out| {
                out.put_slice(br#""reasoning_content":"#);
                json(out, text);
            }),
            Event::Call { index, id, name } => choice(out, &[], &|out| {
                call(out, *index);
                out.put_slice(br#","id":"#);
                json(out, id);
                out.put_slice(br#","type":"function","function":{"name":"#);
                json(out, name);
                out.put_slice(br#","arguments":""}}]"#);
            }),
            Event::Arguments { index, text } => choice(out, &[], &|out| {
                call(out, *index);
                out.put_slice(br#","function":{"arguments":"#);
                json(out, text);
                out.put_slice(b"}}]");
            }),
            Event::Finished { reason, .. } => self.finish(out, index, *reason),
        }
    }

    fn finish(&self, out: &mut BytesMut, index: usize, reason: FinishReason) {
        let word = match reason {
            FinishReason::Stop => "\"stop\"",
            FinishReason::Length => "\"length\"",
            FinishReason::ToolCalls => "\"tool_calls\"",
        };
        self.choice(out, index, &[], word, |_| {});
    }

    /// What follows the last answer's end.
    fn end(&self, out: &mut BytesMut, usage: TokenUsage) {
        if self.include_usage {
            out.put_slice(self.head.as_bytes());
            out.put_slice(br#","choices":[],"usage":"#);
            json(out, &wire::usage(usage));
            out.put_slice(b"}\n\n");
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    fn choice(
        &self,
        out: &mut BytesMut,
        index: usize,
        tokens: &[TokenLogprob],
        finish: &str,
        delta: impl FnOnce(&mut BytesMut),
    ) {
        out.put_slice(self.head.as_bytes());
        // Writing into memory cannot fail.
        let _ = write!(out, r#","choices":[{{"index":{index},"delta":{{"#);
        delta(out);
        out.put_slice(br#"},"logprobs":"#);
        if tokens.is_empty() {
            out.put_slice(b"null");
        } else {
            json(out, &wire::logprobs(tokens));
        }
        out.put_slice(br#","finish_reason":"#);
        out.put_slice(finish.as_bytes());
        out.put_slice(b"}]");
        out.put_slice(self.tail.as_bytes());
    }
}

impl EventWriter for ChunkWriter {
    /// The first chunk of every answer.
    fn head(&mut self, out: &mut BytesMut) {
        for index in 0..self.answers {
            self.choice(out, index, &[], "null", |out| {
                out.put_slice(br#""role":"assistant","content":"","refusal":null"#);
            });
        }
    }

    fn event(&mut self, index: usize, event: Event, out: &mut BytesMut) -> bool {
        self.chunk(out, index, &event);
        let Event::Finished { usage, .. } = event else {
            return false;
        };
        let total = self.usage.map_or(usage, |before| before.and(usage));
        self.usage = Some(total);
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.end(out, total);
        }
        self.open == 0
    }

    fn failure(&mut self, error: &ApiError, out: &mut BytesMut) {
        out.put_slice(b"data: ");
        out.put_slice(error.to_json().as_bytes());
        out.put_slice(b"\n\n");
    }
}

fn call(out: &mut BytesMut, index: usize) {
    let _ = write!(out, r#""tool_calls":[{{"index":{index}"#);
}

fn json(out: &mut BytesMut, value: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out.writer(), value);
}
