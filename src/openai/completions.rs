//! The body of `POST /v1/completions`, and its answers: text that is continued, without a template.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::{
    InvalidRequest,
    fields::{Rule, check_accepted},
    json::Json,
    read,
    response::Usage,
    sampling::{Sampling, SamplingDraft},
};

/// Most answers to one request: prompts times `n`.
pub const MAX_CHOICES: usize = 16;
/// Tokens of an answer where nothing is said, as OpenAI has it.
pub const DEFAULT_MAX_TOKENS: usize = 16;
/// Most alternatives to a token.
pub const MAX_LOGPROBS: usize = 5;

/// Every field (OpenAI's, and those of its kin that choose tokens) and its rule.
pub const FIELDS: &[(&str, Rule)] = &[
    ("model", Rule::Honoured),
    ("prompt", Rule::Honoured),
    ("max_tokens", Rule::Honoured),
    ("n", Rule::Honoured),
    ("best_of", Rule::Honoured),
    ("echo", Rule::Honoured),
    ("logprobs", Rule::Honoured),
    ("stream", Rule::Honoured),
    ("stream_options", Rule::Honoured),
    ("temperature", Rule::Honoured),
    ("top_p", Rule::Honoured),
    ("top_k", Rule::Honoured),
    ("min_p", Rule::Honoured),
    ("presence_penalty", Rule::Honoured),
    ("frequency_penalty", Rule::Honoured),
    ("repetition_penalty", Rule::Honoured),
    ("logit_bias", Rule::Honoured),
    ("seed", Rule::Honoured),
    ("stop", Rule::Honoured),
    ("user", Rule::Accepted),
    ("suffix", Rule::Refused),
];

/// A request to continue text.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// The model's name as the client calls it.
    pub model: String,
    /// What to continue; never empty, and with `n` not more than [`MAX_CHOICES`] answers.
    pub prompts: Vec<Prompt>,
    /// Answers to each prompt; at least 1.
    pub n: usize,
    /// Put the prompt's text before each answer's.
    pub echo: bool,
    /// How tokens are chosen, and when an answer ends.
    pub sampling: Sampling,
    /// Server-sent events instead of one JSON document.
    pub stream: bool,
    /// End the stream with a chunk that has the usage.
    pub include_usage: bool,
    /// Fields that were accepted without effect.
    pub ignored: Vec<&'static str>,
}

/// What to continue.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Text.
    Text(String),
    /// Ids of tokens; never empty.
    Tokens(Vec<u32>),
}

#[derive(Default)]
struct Draft {
    model: Option<String>,
    prompts: Option<Vec<Prompt>>,
    max_tokens: Option<usize>,
    n: Option<usize>,
    best_of: Option<usize>,
    echo: bool,
    logprobs: Option<usize>,
    sampling: SamplingDraft,
    stream: bool,
    include_usage: Option<bool>,
    ignored: Vec<&'static str>,
}

impl CompletionRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// The first fault found, with the field it is in.
    pub fn parse(body: &Bytes) -> Result<Self, InvalidRequest> {
        let mut draft = Draft::default();
        for (key, value) in read::root(body)? {
            let known = FIELDS.iter().find(|(name, _)| *name == key);
            match known {
                _ if value.is_null() && key != "model" && key != "prompt" => {}
                Some((_, Rule::Honoured)) => draft.set(&key, value)?,
                Some((name, Rule::Accepted)) => {
                    check_accepted(name, value)?;
                    draft.ignored.push(name);
                }
                // What asks for nothing; SDKs send defaults.
                Some((_, Rule::Refused)) if matches!(&value, Json::String(s) if s.is_empty()) => {}
                Some((name, Rule::Refused)) => return Err(read::unsupported(*name)),
                None => return Err(read::unknown("", &key)),
            }
        }
        draft.finish()
    }
}

impl Draft {
    fn set(&mut self, key: &str, value: Json<'_>) -> Result<(), InvalidRequest> {
        match key {
            "model" => self.model = Some(read::text(key, value)?.into_owned()),
            "prompt" => self.prompts = Some(prompts(value)?),
            "max_tokens" => self.max_tokens = Some(read::integer(key, &value, 1..=usize::MAX)?),
            "n" => self.n = Some(read::integer(key, &value, 1..=MAX_CHOICES)?),
            "best_of" => self.best_of = Some(read::integer(key, &value, 1..=MAX_CHOICES)?),
            "echo" => self.echo = read::boolean(key, &value)?,
            "logprobs" => self.logprobs = Some(read::integer(key, &value, 0..=MAX_LOGPROBS)?),
            "stream" => self.stream = read::boolean(key, &value)?,
            "stream_options" => self.stream_options(value)?,
            _ => drop(self.sampling.set(key, key, &value)?),
        }
        Ok(())
    }

    fn stream_options(&mut self, value: Json<'_>) -> Result<(), InvalidRequest> {
        let mut include_usage = false;
        for (key, value) in read::object("stream_options", value)? {
            let param = read::field("stream_options", &key);
            match key.as_ref() {
                _ if value.is_null() => {}
                "include_usage" => include_usage = read::boolean(&param, &value)?,
                "include_obfuscation" => {
                    read::boolean(&param, &value)?;
                    self.ignored.push("stream_options.include_obfuscation");
                }
                _ => return Err(read::unknown("stream_options", &key)),
            }
        }
        self.include_usage = Some(include_usage);
        Ok(())
    }

    fn finish(self) -> Result<CompletionRequest, InvalidRequest> {
        let wrong = |param, rule: &str| Err(InvalidRequest::wrong_value(param, rule));
        let model = self.model.ok_or_else(|| read::missing("model"))?;
        let prompts = self.prompts.ok_or_else(|| read::missing("prompt"))?;
        if self.include_usage.is_some() && !self.stream {
            return wrong("stream_options", "it is only allowed when 'stream' is true");
        }
        let n = self.n.unwrap_or(1);
        if self
            .best_of
            .is_some_and(|best_of| best_of != 1 && best_of != n)
        {
            return wrong(
                "best_of",
                "this server chooses no best answer; expected 1 or 'n'",
            );
        }
        if prompts.len() * n > MAX_CHOICES {
            let rule = format!("the prompts times 'n' are more than {MAX_CHOICES} answers");
            return wrong(if n > 1 { "n" } else { "prompt" }, &rule);
        }
        if self.echo && self.logprobs.is_some() {
            return wrong("echo", "it cannot be combined with 'logprobs' here");
        }
        if self.echo
            && prompts
                .iter()
                .any(|prompt| matches!(prompt, Prompt::Tokens(_)))
        {
            return wrong("echo", "only prompts of text can be echoed");
        }
        Ok(CompletionRequest {
            model,
            prompts,
            n,
            echo: self.echo,
            sampling: Sampling {
                max_tokens: Some(self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)),
                logprobs: self.logprobs,
                ..self.sampling.finish("")?
            },
            stream: self.stream,
            include_usage: self.include_usage.unwrap_or(false),
            ignored: self.ignored,
        })
    }
}

/// A text, texts, the ids of one prompt, or the ids of several.
fn prompts(value: Json<'_>) -> Result<Vec<Prompt>, InvalidRequest> {
    const EXPECTED: &str =
        "a string, an array of strings, an array of token ids, or an array of such arrays";
    let items = match value {
        Json::String(text) => return Ok(vec![Prompt::Text(text.into_owned())]),
        Json::Array(items) => items,
        other => return Err(InvalidRequest::wrong_type("prompt", EXPECTED, &other)),
    };
    if items.is_empty() {
        return Err(InvalidRequest::wrong_value(
            "prompt",
            "expected at least one item",
        ));
    }
    if matches!(items.first(), Some(Json::Number(_))) {
        return Ok(vec![Prompt::Tokens(ids("prompt", items)?)]);
    }
    if items.len() > MAX_CHOICES {
        let rule = format!("expected at most {MAX_CHOICES} prompts");
        return Err(InvalidRequest::wrong_value("prompt", &rule));
    }
    let prompts = items.into_iter().enumerate().map(|(i, item)| match item {
        Json::String(text) => Ok(Prompt::Text(text.into_owned())),
        Json::Array(items) => Ok(Prompt::Tokens(ids(&format!("prompt[{i}]"), items)?)),
        other => {
            let at = format!("prompt[{i}]");
            Err(InvalidRequest::wrong_type(
                &at,
                "a string or an array of token ids",
                &other,
            ))
        }
    });
    prompts.collect()
}

fn ids(at: &str, items: Vec<Json<'_>>) -> Result<Vec<u32>, InvalidRequest> {
    if items.is_empty() {
        return Err(InvalidRequest::wrong_value(
            at,
            "expected at least one token id",
        ));
    }
    let ids = items.into_iter().map(|item| match &item {
        Json::Number(number) => read::whole(number)
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| InvalidRequest::wrong_value(at, "expected token ids")),
        other => Err(InvalidRequest::wrong_type(at, "token ids alone", other)),
    });
    ids.collect()
}

/// The answer without `stream`, and with it each chunk.
#[derive(Debug, Serialize)]
pub struct Completion<'a> {
    /// `cmpl-...`
    pub id: &'a str,
    /// `text_completion`
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's name as the client called it.
    pub model: &'a str,
    /// Names the build and the weights.
    pub system_fingerprint: &'a str,
    /// The answers; in a chunk a piece of one, or none where the usage is told.
    pub choices: Vec<Choice>,
    /// Tokens read and written; in a stream it is there where it was asked for, and null until the
    /// last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
}

/// An answer, or a piece of one.
#[derive(Debug, Serialize)]
pub struct Choice {
    /// The text.
    pub text: String,
    /// The prompt's index times `n`, plus the answer's.
    pub index: usize,
    /// How likely its tokens were.
    pub logprobs: Option<Logprobs>,
    /// `stop` or `length`; null before the end.
    pub finish_reason: Option<&'static str>,
}

/// How likely tokens were, in parallel lists.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Logprobs {
    /// What they say; `bytes:\x..` where that is not text.
    pub tokens: Vec<String>,
    /// Natural logarithms of their probabilities.
    pub token_logprobs: Vec<f32>,
    /// The likeliest tokens in their places, and they themselves; null where none were asked for.
    pub top_logprobs: Option<Vec<BTreeMap<String, f32>>>,
    /// Where they begin in the text, in characters.
    pub text_offset: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_is_honoured_is_taken() {
        let body = serde_json::json!({
            "model": "m", "prompt": ["a", [1, 2]], "max_tokens": 3, "n": 2, "best_of": 2,
            "logprobs": 0, "stream": true, "stream_options": {"include_usage": true},
            "temperature": 1, "top_p": 0.5, "top_k": 4, "min_p": 0.1, "presence_penalty": -2,
            "frequency_penalty": 2, "repetition_penalty": 1.1, "logit_bias": {"5": -100},
            "seed": -1, "stop": ["x"], "user": "u", "suffix": "", "echo": null,
        });
        let request = CompletionRequest::parse(&body.to_string().into()).unwrap();
        let expected = CompletionRequest {
            model: "m".into(),
            prompts: vec![Prompt::Text("a".into()), Prompt::Tokens(vec![1, 2])],
            n: 2,
            echo: false,
            sampling: Sampling {
                max_tokens: Some(3),
                logprobs: Some(0),
                temperature: Some(1.0),
                top_p: Some(0.5),
                top_k: Some(4),
                min_p: Some(0.1),
                presence_penalty: -2.0,
                frequency_penalty: 2.0,
                repetition_penalty: Some(1.1),
                logit_bias: vec![(5, -100.0)],
                seed: Some(u64::MAX),
                stop: vec!["x".into()],
            },
            stream: true,
            include_usage: true,
            ignored: vec!["user"],
        };
        assert_eq!(request, expected);
    }
}
