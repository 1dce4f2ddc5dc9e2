//! From an inquiry to a prompt that the engine can be given, counted, with the rules of its answer.

use std::{borrow::Cow, sync::Arc};

use mistralrs::{RequestMessage, core::MessageContent};

use super::{
    Shared,
    chooser::{Plan, Thinking},
    grammar::Rule,
    sampling::Sampling,
    template::Variables,
};
use crate::engine::{
    Effort, EngineError, Format, Input, Inquiry, Job, PromptTokens, Reasoning, convert,
    lane::Cohort,
};

/// A prompt, counted.
pub(super) struct Prepared {
    pub(super) shared: Arc<Shared>,
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
    pub(super) cohort: Cohort,
    pub(super) tokens: PromptTokens,
    rule: Rule,
    thinking: Option<Thinking>,
    is_json: bool,
}

/// Text to continue, and what it is about.
struct Rendered {
    text: String,
    cohort: Cohort,
}

impl Prepared {
    /// Renders, counts and compiles. Takes milliseconds, on megabytes more.
    pub(super) fn new(shared: &Arc<Shared>, inquiry: Inquiry) -> Result<Self, EngineError> {
        shared.refuse_what_it_cannot(&inquiry)?;
        let rule = shared.grammars.rule(&inquiry.format, &inquiry.tools)?;
        let is_chat = matches!(inquiry.input, Input::Chat(_));
        let (rendered, ids) = match inquiry.input {
            Input::Tokens(ids) => {
                let text = shared.tokenizer.decode(&ids, false).unwrap_or_default();
                let cohort = Cohort::new();
                (Rendered { text, cohort }, ids)
            }
            Input::Text(text) => {
                let text = shared.neutralizer.apply(text);
                shared.refuse_hopeless(&text)?;
                let ids = shared.encode(&text, true)?;
                let cohort = Cohort::new();
                (Rendered { text, cohort }, ids)
            }
            Input::Chat(turns) => {
                let rendered = shared.render(turns, &inquiry.tools, inquiry.effort)?;
                shared.refuse_hopeless(&rendered.text)?;
                let ids = shared.encode(&rendered.text, shared.adds_prefix(&rendered.text))?;
                (rendered, ids)
            }
        };
        if ids.is_empty() {
            return Err(EngineError::Refused {
                param: "messages".into(),
                code: "invalid_prompt",
                message: "Invalid value for 'messages': the prompt is empty.".into(),
            });
        }
        let tokens = shared.count(&rendered, ids.len())?;
        let thinking = if is_chat {
            shared.thinking(&rendered.text, inquiry.effort)
        } else {
            None
        };
        Ok(Self {
            shared: shared.clone(),
            text: rendered.text,
            ids,
            cohort: rendered.cohort,
            tokens,
            rule,
            thinking,
            is_json: inquiry.format != Format::Text,
        })
    }

    /// What decides about an answer's tokens, and the stop sequences that hold for it.
    pub(super) fn plan(&self, job: &Job) -> (Plan, Vec<String>) {
        let shared = &self.shared;
        let mut sampling = Sampling::new(&job.sampling, shared.defaults.as_ref());
        sampling.call_open = shared.calls.map(|calls| calls.open);
        let plan = Plan {
            sampling,
            rule: self.rule.fresh(),
            thinking: self.thinking.clone(),
            ends: shared.ends.clone(),
            never: shared.never.clone(),
            grammar_end: shared.grammars.end(),
            logprobs: job.sampling.logprobs,
            seed: job.sampling.seed.unwrap_or_else(rand_seed),
        };
        // What is cut anywhere is no JSON.
        let stop = if self.is_json {
            Vec::new()
        } else {
            job.sampling.stop.clone()
        };
        (plan, stop)
    }

    /// The prompt as the engine takes it. Only prompts with images go through its own tokenizer,
    /// and through its template, which passes text on as it is.
    pub(super) fn message(&self, images: Vec<image::DynamicImage>) -> RequestMessage {
        if images.is_empty() {
            return RequestMessage::CompletionTokens(self.ids.clone());
        }
        // The engine's tokenizer adds what many templates have written already.
        let text = self.shared.without_added_prefix(&self.text);
        let content: MessageContent = either::Either::Left(text.to_string());
        let role: MessageContent = either::Either::Left("user".to_string());
        let message = [("role".to_string(), role), ("content".to_string(), content)];
        RequestMessage::MultimodalChat {
            images,
            audios: Vec::new(),
            videos: Vec::new(),
            messages: vec![message.into_iter().collect()],
            enable_thinking: None,
            reasoning_effort: None,
        }
    }
}

fn rand_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

impl Shared {
    fn refuse_what_it_cannot(&self, inquiry: &Inquiry) -> Result<(), EngineError> {
        let refused = |param: &'static str, message: &str| {
            Err(EngineError::Refused {
                param: param.into(),
                code: "unsupported_parameter",
                message: message.into(),
            })
        };
        if !inquiry.tools.tools.is_empty() && !self.info.tools {
            return refused("tools", "This model's chat template has no tools.");
        }
        let thinks = self.info.reasoning != Reasoning::Never;
        if !thinks && !matches!(inquiry.effort, None | Some(Effort::None)) {
            return refused(
                "reasoning_effort",
                "This model does not think before it answers.",
            );
        }
        if matches!(inquiry.input, Input::Chat(_)) && self.template.is_none() {
            return refused(
                "messages",
                "This model has no chat template; use /v1/completions.",
            );
        }
        Ok(())
    }

    fn render(
        &self,
        turns: Vec<crate::engine::Turn>,
        tools: &crate::engine::Toolbox,
        effort: Option<Effort>,
    ) -> Result<Rendered, EngineError> {
        let Some(template) = &self.template else {
            return Err(EngineError::InvalidInput(
                "there is no chat template".into(),
            ));
        };
        let sees = self.info.geometry.is_some();
        let messages = convert::messages(turns, &self.neutralizer, sees);
        let variables = Variables {
            messages: messages.json,
            tools: convert::tools(tools, &self.neutralizer),
            enable_thinking: effort.map(|effort| effort != Effort::None),
        };
        let mut text = template
            .render(variables)
            .map_err(|reason| EngineError::Refused {
                param: "messages".into(),
                code: "invalid_prompt",
                message: format!("This model's chat template refused the messages: {reason}."),
            })?;
        if effort == Some(Effort::None) && text.trim_end().ends_with("<think>") {
            // Its template always opens the thought: close it at once.
            text.push_str(THOUGHT_END);
        }
        Ok(Rendered {
            text,
            cohort: messages.cohort,
        })
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, EngineError> {
        let encoded = self.tokenizer.encode_fast(text, special);
        encoded
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|e| EngineError::InvalidInput(format!("the text cannot be tokenized: {e}")))
    }

    /// The tokens of a prompt that is `length` long as it is rendered.
    fn count(&self, rendered: &Rendered, length: usize) -> Result<PromptTokens, EngineError> {
        let info = &self.info;
        let images = rendered.cohort.len();
        let (length, image) = match info.geometry {
            Some(geometry) if images > 0 => {
                // The engine writes more around some images, which may become one token with its
                // neighbours.
                let written = geometry.written(&rendered.text);
                let length = match written {
                    Cow::Borrowed(_) => length,
                    Cow::Owned(text) => self.encode(&text, self.adds_prefix(&text))?.len(),
                };
                let of_image = |size: &(u32, u32)| geometry.tokens(*size);
                (length, rendered.cohort.iter().map(of_image).sum())
            }
            Some(_) | None => (length, 0),
        };
        let total = length + image - images.min(length);
        if total >= info.context_length {
            return Err(EngineError::ContextLengthExceeded {
                prompt: total,
                context: info.context_length,
                at_least: false,
            });
        }
        Ok(PromptTokens { total, image })
    }

    fn thinking(&self, text: &str, effort: Option<Effort>) -> Option<Thinking> {
        let (open, close) = self.thoughts?;
        let budget = match effort {
            Some(Effort::None) => return None,
            Some(Effort::Tokens(budget)) => budget,
            Some(Effort::Unlimited) | None => usize::MAX,
        };
        let closing = self.encode(THOUGHT_END, false).unwrap_or_default();
        Some(Thinking {
            open,
            close,
            closing,
            budget,
            opened: text.trim_end().ends_with("<think>"),
        })
    }

    /// Refuses text so long that counting it exactly would take longer than it is worth.
    fn refuse_hopeless(&self, text: &str) -> Result<(), EngineError> {
        const PIECE: usize = 16 << 10;
        let context = self.info.context_length;
        // A token stands for at least one byte.
        if text.len() <= context {
            return Ok(());
        }
        let mut tokens = 0;
        let mut rest = text;
        while !rest.is_empty() && tokens < context.saturating_mul(2) {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE.min(rest.len())));
            // A cut can make two tokens of one.
            tokens += self.encode(piece, false)?.len().saturating_sub(1);
            rest = after;
        }
        if tokens < context {
            return Ok(());
        }
        Err(EngineError::ContextLengthExceeded {
            prompt: tokens,
            context,
            at_least: true,
        })
    }

    /// Whether a rendered conversation gets the token at its beginning that the tokenizer adds: as in
    /// transformers' processors, where the template has not written it, and never for a model that
    /// sees no images, whose template is all there is.
    fn adds_prefix(&self, text: &str) -> bool {
        self.info.geometry.is_some() && self.without_added_prefix(text).len() == text.len()
    }

    /// The text without the token at its beginning that the tokenizer adds by itself.
    fn without_added_prefix<'a>(&self, text: &'a str) -> &'a str {
        let added = self.tokenizer.encode_fast("", true);
        let added = added.map_or(Vec::new(), |encoding| encoding.get_ids().to_vec());
        let prefix = self.tokenizer.decode(&added, false).unwrap_or_default();
        text.strip_prefix(prefix.as_str()).unwrap_or(text)
    }
}

/// What models write between thought and answer.
const THOUGHT_END: &str = "\n</think>\n\n";
