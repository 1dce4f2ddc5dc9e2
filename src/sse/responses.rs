//! A response as the events of the Responses API.

use actix_web::web::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    engine::{Event, FinishReason, TokenLogprob, TokenUsage},
    error::ApiError,
    openai::responses::answer::{
        Content, Failure, Head, Incomplete, Item, Logprob, Response, Status, TopLogprob, Usage,
    },
    sse::{EventWriter, data},
    state,
};

/// Turns the events of one answer into those of a response.
pub struct ResponseWriter {
    head: Head,
    sequence: u64,
    /// Items that have ended.
    output: Vec<Item>,
    open: Option<Open>,
}

/// The item that is being written; its place is behind those that have ended.
struct Open {
    item: Item,
    text: String,
    logprobs: Vec<Logprob>,
}

impl Open {
    /// The prefix of its events, and the part of it that its text is; a call has none.
    fn kind(&self) -> (&'static str, Option<Content>) {
        match self.item {
            Item::Message { .. } => {
                let part = Content::said(self.text.clone(), self.logprobs.clone());
                ("response.output_text", Some(part))
            }
            Item::Reasoning { .. } => {
                let text = self.text.clone();
                (
                    "response.reasoning_text",
                    Some(Content::ReasoningText { text }),
                )
            }
            Item::FunctionCall { .. } => ("response.function_call_arguments", None),
        }
    }
}

/// What an event tells besides its type and number.
#[derive(Default, Serialize)]
struct Body<'a> {
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'a Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a [Logprob]>,
}

impl ResponseWriter {
    /// The events of the response that `head` tells of.
    pub fn new(head: Head) -> Self {
        Self {
            head,
            sequence: 0,
            output: Vec::new(),
            open: None,
        }
    }

    fn emit(&mut self, out: &mut BytesMut, kind: &str, body: impl Serialize) {
        #[derive(Serialize)]
        struct Line<'a, T> {
            #[serde(rename = "type")]
            kind: &'a str,
            sequence_number: u64,
            #[serde(flatten)]
            body: T,
        }
        out.put_slice(b"event: ");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\n");
        let sequence_number = self.sequence;
        self.sequence += 1;
        data(
            out,
            &Line {
                kind,
                sequence_number,
                body,
            },
        );
    }

    fn snapshot(&mut self, out: &mut BytesMut, kind: &str, status: Status, usage: Option<Usage>) {
        let response = response(&self.head, status, &self.output, usage);
        let response = json!({ "response": response });
        self.emit(out, kind, response);
    }

    fn begin(&mut self, out: &mut BytesMut, item: Item) {
        self.end(out, Status::Completed);
        let output_index = self.output.len();
        let open = Open {
            item,
            text: String::new(),
            logprobs: Vec::new(),
        };
        let added = json!({ "output_index": output_index, "item": &open.item });
        self.emit(out, "response.output_item.added", added);
        if let (_, Some(part)) = open.kind() {
            let body = Body {
                item_id: open.item.id(),
                output_index,
                content_index: Some(0),
                part: Some(&part),
                ..Body::default()
            };
            self.emit(out, "response.content_part.added", body);
        }
        self.open = Some(open);
    }

    /// More text of the open item.
    fn delta(&mut self, out: &mut BytesMut, text: &str, logprobs: Vec<Logprob>) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        open.text.push_str(text);
        let is_message = matches!(open.item, Item::Message { .. });
        let (kind, part) = match open.item {
            Item::Message { .. } => ("response.output_text.delta", true),
            Item::Reasoning { .. } => ("response.reasoning_text.delta", true),
            Item::FunctionCall { .. } => ("response.function_call_arguments.delta", false),
        };
        let body = Body {
            item_id: open.item.id(),
            output_index: self.output.len(),
            content_index: part.then_some(0),
            delta: Some(text),
            logprobs: is_message.then_some(&logprobs),
            ..Body::default()
        };
        self.emit(out, kind, body);
        open.logprobs.extend(logprobs);
        self.open = Some(open);
    }

    /// Ends the open item, if there is one.
    fn end(&mut self, out: &mut BytesMut, status: Status) {
        let Some(open) = self.open.take() else {
            return;
        };
        let output_index = self.output.len();
        let (kind, part) = open.kind();
        let base = || Body {
            item_id: open.item.id(),
            output_index,
            content_index: part.as_ref().map(|_| 0),
            ..Body::default()
        };
        let done = match &open.item {
            Item::FunctionCall { name, .. } => Body {
                name: Some(name),
                arguments: Some(&open.text),
                ..base()
            },
            Item::Message { .. } => Body {
                text: Some(&open.text),
                logprobs: Some(&open.logprobs),
                ..base()
            },
            Item::Reasoning { .. } => Body {
                text: Some(&open.text),
                ..base()
            },
        };
        self.emit(out, &format!("{kind}.done"), done);
        if part.is_some() {
            let body = Body {
                part: part.as_ref(),
                ..base()
            };
            self.emit(out, "response.content_part.done", body);
        }
        let item = open.item.ended(open.text, open.logprobs, status);
        let done = json!({ "output_index": output_index, "item": &item });
        self.emit(out, "response.output_item.done", done);
        self.output.push(item);
    }

    fn finish(&mut self, out: &mut BytesMut, reason: FinishReason, usage: TokenUsage) {
        let status = ended_by(reason);
        let open = self.open.as_ref().map(|open| &open.item);
        let mut items = self.output.iter().chain(open);
        let thought = items.clone().next().is_some();
        if items.all(is_thought) && has_message(thought, status) {
            self.begin(out, Item::message());
        }
        self.end(out, status);
        let kind = match status {
            Status::Incomplete => "response.incomplete",
            Status::InProgress | Status::Completed | Status::Failed => "response.completed",
        };
        let usage = Usage::new(usage.prompt, usage.completion, usage.reasoning);
        self.snapshot(out, kind, status, Some(usage));
    }
}

impl EventWriter for ResponseWriter {
    fn head(&mut self, out: &mut BytesMut) {
        self.snapshot(out, "response.created", Status::InProgress, None);
        self.snapshot(out, "response.in_progress", Status::InProgress, None);
    }

    fn event(&mut self, _: usize, event: Event, out: &mut BytesMut) -> bool {
        let open = self.open.as_ref().map(|open| &open.item);
        match event {
            Event::Text { text, tokens } if text.is_empty() && tokens.is_empty() => {}
            Event::Text { text, tokens } => {
                if !matches!(open, Some(Item::Message { .. })) {
                    self.begin(out, Item::message());
                }
                self.delta(out, &text, logprobs(tokens));
            }
            Event::Reasoning(text) => {
                if !matches!(open, Some(Item::Reasoning { .. })) {
                    self.begin(out, Item::reasoning());
                }
                self.delta(out, &text, Vec::new());
            }
            Event::Call { id, name, .. } => self.begin(out, Item::call(id, name)),
            Event::Arguments { text, .. } => self.delta(out, &text, Vec::new()),
            Event::Finished { reason, usage } => {
                self.finish(out, reason, usage);
                return true;
            }
        }
        false
    }

    fn failure(&mut self, error: &ApiError, out: &mut BytesMut) {
        let told: Value = serde_json::from_str(&error.to_json()).unwrap_or_default();
        let error = &told["error"];
        let event = json!({
            "code": error["code"],
            "message": error["message"],
            "param": error["param"],
        });
        self.emit(out, "error", event);
        let message = error["message"].as_str().unwrap_or_default().to_string();
        let response = Response {
            error: Some(Failure {
                code: "server_error",
                message,
            }),
            ..response(&self.head, Status::Failed, &self.output, None)
        };
        let response = json!({ "response": response });
        self.emit(out, "response.failed", response);
    }
}

/// The response object as far as it has come.
pub fn response<'a>(
    head: &'a Head,
    status: Status,
    output: &'a [Item],
    usage: Option<Usage>,
) -> Response<'a> {
    Response {
        head,
        status,
        completed_at: (status == Status::Completed).then(state::now),
        error: None,
        incomplete_details: (status == Status::Incomplete).then_some(Incomplete {
            reason: "max_output_tokens",
        }),
        output,
        usage,
    }
}

/// How far a response has come that ended so.
pub fn ended_by(reason: FinishReason) -> Status {
    match reason {
        FinishReason::Stop | FinishReason::ToolCalls => Status::Completed,
        FinishReason::Length => Status::Incomplete,
    }
}

/// Whether an answer that says and calls nothing has a message all the same: it has, unless it was
/// cut off in its thoughts.
pub fn has_message(thought: bool, status: Status) -> bool {
    !thought || status == Status::Completed
}

fn is_thought(item: &Item) -> bool {
    matches!(item, Item::Reasoning { .. })
}

/// How likely tokens were, in the words of the API.
pub fn logprobs(tokens: Vec<TokenLogprob>) -> Vec<Logprob> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let tokens = tokens.into_iter().map(|token| Logprob {
        token: text(&token.token.bytes),
        logprob: finite(token.token.logprob),
        bytes: token.token.bytes,
        top_logprobs: token
            .top
            .into_iter()
            .map(|top| TopLogprob {
                token: text(&top.bytes),
                logprob: finite(top.logprob),
                bytes: top.bytes,
            })
            .collect(),
    });
    tokens.collect()
}

/// JSON has no infinity; OpenAI writes this for what cannot be.
pub fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

#[cfg(test)]
mod tests;
