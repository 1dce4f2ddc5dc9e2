//! Continued text as the chunks of the completions API.

use actix_web::web::{BufMut, BytesMut};

use crate::{
    engine::{Event, FinishReason},
    error::ApiError,
    openai::{
        completions::{Choice, Completion},
        response::Usage,
    },
    sse::{EventWriter, data},
    wire::legacy_logprobs::TokenOffsets,
};

/// Turns the events of all answers to a request into chunks.
pub struct CompletionWriter {
    /// What all chunks share.
    head: CompletionHead,
    /// For each answer, in the order of their indices, the text to be echoed before it.
    echoes: Vec<Option<String>>,
    /// Alternatives to each token, where those are told.
    logprobs: Option<usize>,
    /// End with a chunk that has the usage.
    include_usage: bool,
    /// Tokens of all prompts.
    prompt_tokens: usize,
    answers: Vec<TokenOffsets>,
    finished: usize,
    completion_tokens: usize,
}

/// What all chunks of a stream share.
pub struct CompletionHead {
    /// `cmpl-...`
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's name as the client called it.
    pub model: String,
    /// Names the build and the weights.
    pub fingerprint: String,
}

impl CompletionHead {
    /// The answer, or a chunk of it.
    pub fn completion(&self, choices: Vec<Choice>, usage: Option<Option<Usage>>) -> Completion<'_> {
        Completion {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: &self.model,
            system_fingerprint: &self.fingerprint,
            choices,
            usage,
        }
    }
}

impl CompletionWriter {
    /// Chunks of as many answers as there are `echoes`.
    pub fn new(
        head: CompletionHead,
        echoes: Vec<Option<String>>,
        logprobs: Option<usize>,
        include_usage: bool,
        prompt_tokens: usize,
    ) -> Self {
        let answers = echoes.iter().map(|_| TokenOffsets::default()).collect();
        Self {
            head,
            echoes,
            logprobs,
            include_usage,
            prompt_tokens,
            answers,
            finished: 0,
            completion_tokens: 0,
        }
    }

    fn chunk(&self, out: &mut BytesMut, choice: Choice) {
        let usage = self.include_usage.then_some(None);
        data(out, &self.head.completion(vec![choice], usage));
    }
}

impl EventWriter for CompletionWriter {
    fn head(&mut self, out: &mut BytesMut) {
        let echoes = std::mem::take(&mut self.echoes);
        for (index, echo) in echoes.into_iter().enumerate() {
            let Some(text) = echo else { continue };
            let choice = Choice {
                text,
                index,
                logprobs: None,
                finish_reason: None,
            };
            self.chunk(out, choice);
        }
    }

    fn event(&mut self, index: usize, event: Event, out: &mut BytesMut) -> bool {
        match event {
            Event::Text { text, tokens } if text.is_empty() && tokens.is_empty() => {}
            Event::Text { text, tokens } => {
                let offsets = self.answers.get_mut(index);
                let logprobs = self.logprobs.zip(offsets);
                let logprobs = logprobs.map(|(top, offsets)| offsets.logprobs(&tokens, top));
                let choice = Choice {
                    text,
                    index,
                    logprobs,
                    finish_reason: None,
                };
                self.chunk(out, choice);
            }
            // Text that is continued as it is has neither thoughts nor calls.
            Event::Reasoning(_) | Event::Call { .. } | Event::Arguments { .. } => {}
            Event::Finished { reason, usage } => {
                let choice = Choice {
                    text: String::new(),
                    index,
                    logprobs: None,
                    finish_reason: Some(FinishReason::word(reason)),
                };
                self.chunk(out, choice);
                self.completion_tokens += usage.completion;
                self.finished += 1;
            }
        }
        let ended = self.finished == self.answers.len();
        if ended && self.include_usage {
            let usage = Usage::new(self.prompt_tokens, 0, self.completion_tokens);
            data(out, &self.head.completion(Vec::new(), Some(Some(usage))));
        }
        if ended {
            out.put_slice(b"data: [DONE]\n\n");
        }
        ended
    }

    fn failure(&mut self, error: &ApiError, out: &mut BytesMut) {
        out.put_slice(b"data: ");
        out.put_slice(error.to_json().as_bytes());
        out.put_slice(b"\n\n");
    }
}
