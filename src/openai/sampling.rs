//! The fields that say how tokens are chosen, and when an answer ends.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use std::ops::RangeInclusive;

use super::{InvalidRequest, json::Json, read};

/// Temperatures, as OpenAI has them; 0 is greedy.
pub const TEMPERATURE: RangeInclusive<f64> = 0.0..=2.0;
/// What is a part of all probability: `top_p` and `min_p`.
pub const PROBABILITY: RangeInclusive<f64> = 0.0..=1.0;
/// Penalties on presence and frequency, as OpenAI has them.
pub const PENALTY: RangeInclusive<f64> = -2.0..=2.0;

/// Most stop sequences, as OpenAI has it.
pub const MAX_STOPS: usize = 4;
/// Longest stop sequence, in bytes: text is held back until it cannot become one.
pub const MAX_STOP_BYTES: usize = 1024;
/// Most tokens with a bias: each costs time at every step.
pub const MAX_BIASES: usize = 1024;
/// Largest bias to either side, as OpenAI has it.
pub const MAX_BIAS: f64 = 100.0;
/// Largest repetition penalty.
pub const MAX_REPETITION_PENALTY: f64 = 2.0;
/// Most likely tokens told beside each token, as OpenAI has it.
pub const MAX_TOP_LOGPROBS: usize = 20;

/// How tokens are chosen, and when an answer ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// 0 (greedy) to 2; the model's default where none is given.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// Most tokens to choose from; 0 for all.
    pub top_k: Option<usize>,
    /// Least probability of a token as a part of the likeliest one's, 0 to 1.
    pub min_p: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: f64,
    /// -2 to 2.
    pub frequency_penalty: f64,
    /// More than 0, at most 2; 1 does nothing.
    pub repetition_penalty: Option<f64>,
    /// Ids of tokens, and what is added to their logits: -100 to 100.
    pub logit_bias: Vec<(u32, f64)>,
    /// A negative one is wrapped.
    pub seed: Option<u64>,
    /// Longest answer, in tokens; at least 1.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Tell how likely each token was, and so many others beside it.
    pub logprobs: Option<usize>,
}

/// The fields read so far.
#[derive(Debug, Default)]
pub(super) struct SamplingDraft {
    sampling: Sampling,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    logprobs: bool,
    top_logprobs: usize,
}

impl SamplingDraft {
    /// Takes the field `key`, which stands at `at`; false for one that is not of this kind.
    pub(super) fn set(
        &mut self,
        key: &str,
        at: &str,
        value: &Json<'_>,
    ) -> Result<bool, InvalidRequest> {
        let sampling = &mut self.sampling;
        match key {
            "temperature" => sampling.temperature = Some(read::number(at, value, TEMPERATURE)?),
            "top_p" => sampling.top_p = Some(read::number(at, value, PROBABILITY)?),
            "top_k" => sampling.top_k = Some(read::integer(at, value, 0..=usize::MAX)?),
            "min_p" => sampling.min_p = Some(read::number(at, value, PROBABILITY)?),
            "presence_penalty" => sampling.presence_penalty = read::number(at, value, PENALTY)?,
            "frequency_penalty" => {
                sampling.frequency_penalty = read::number(at, value, PENALTY)?;
            }
            "repetition_penalty" => sampling.repetition_penalty = Some(repetition(at, value)?),
            "logit_bias" => sampling.logit_bias = biases(at, value)?,
            "seed" => sampling.seed = Some(seed(at, value)?),
            "stop" => sampling.stop = stops(at, value)?,
            "max_tokens" => self.max_tokens = Some(read::integer(at, value, 1..=usize::MAX)?),
            "max_completion_tokens" => {
                self.max_completion_tokens = Some(read::integer(at, value, 1..=usize::MAX)?);
            }
            "logprobs" => self.logprobs = read::boolean(at, value)?,
            "top_logprobs" => {
                self.top_logprobs = read::integer(at, value, 0..=MAX_TOP_LOGPROBS)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the fields of what stands at `at` say together.
    pub(super) fn finish(self, at: &str) -> Result<Sampling, InvalidRequest> {
        if let (Some(a), Some(b)) = (self.max_tokens, self.max_completion_tokens)
            && a != b
        {
            let rule = "it contradicts 'max_completion_tokens'; set only one of them";
            let param = read::field(at, "max_tokens");
            return Err(InvalidRequest::wrong_value(&param, rule));
        }
        if self.top_logprobs > 0 && !self.logprobs {
            let rule = "it is only allowed when 'logprobs' is true";
            return Err(InvalidRequest::wrong_value("top_logprobs", rule));
        }
        Ok(Sampling {
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            logprobs: self.logprobs.then_some(self.top_logprobs),
            ..self.sampling
        })
    }
}

fn repetition(param: &str, value: &Json<'_>) -> Result<f64, InvalidRequest> {
    let rule = "expected a number of more than 0 and at most 2";
    let penalty = match value {
        Json::Number(number) => number
            .as_f64()
            .filter(|n| *n > 0.0 && *n <= MAX_REPETITION_PENALTY),
        other => return Err(InvalidRequest::wrong_type(param, "a number", other)),
    };
    penalty.ok_or_else(|| InvalidRequest::wrong_value(param, rule))
}

fn seed(param: &str, value: &Json<'_>) -> Result<u64, InvalidRequest> {
    let Json::Number(number) = value else {
        return Err(InvalidRequest::wrong_type(param, "an integer", value));
    };
    let seed = read::whole(number).and_then(|seed| i64::try_from(seed).ok());
    seed.map(i64::cast_unsigned).ok_or_else(|| {
        let rule = "expected an integer of 64 bits with a sign";
        InvalidRequest::wrong_value(param, rule)
    })
}

fn biases(param: &str, value: &Json<'_>) -> Result<Vec<(u32, f64)>, InvalidRequest> {
    let Json::Object(entries) = value else {
        return Err(InvalidRequest::wrong_type(param, "an object", value));
    };
    if entries.len() > MAX_BIASES {
        let rule = format!(
            "expected at most {MAX_BIASES} tokens, but got {}",
            entries.len()
        );
        return Err(InvalidRequest::wrong_value(param, &rule));
    }
    let bias = |(key, value): &(_, Json<'_>)| {
        let key: &std::borrow::Cow<'_, str> = key;
        // One spelling for each id, so that none has two biases.
        let id = key.parse::<u32>().ok().filter(|id| id.to_string() == **key);
        let id = id.ok_or_else(|| {
            let rule = format!(
                "expected ids of tokens as keys, but got '{}'",
                read::shown(key)
            );
            InvalidRequest::wrong_value(param, &rule)
        })?;
        let param = format!("{param}.{id}");
        Ok((id, read::number(&param, value, -MAX_BIAS..=MAX_BIAS)?))
    };
    entries.iter().map(bias).collect()
}

fn stops(param: &str, value: &Json<'_>) -> Result<Vec<String>, InvalidRequest> {
    let wrong =
        |got: &Json<'_>| InvalidRequest::wrong_type(param, "a string or an array of strings", got);
    let items = match value {
        Json::String(_) => std::slice::from_ref(value),
        Json::Array(items) => items,
        other => return Err(wrong(other)),
    };
    if items.len() > MAX_STOPS {
        let rule = format!(
            "expected at most {MAX_STOPS} sequences, but got {}",
            items.len()
        );
        return Err(InvalidRequest::wrong_value(param, &rule));
    }
    let stop = |item: &Json<'_>| match item {
        Json::String(text) if (1..=MAX_STOP_BYTES).contains(&text.len()) => Ok(text.to_string()),
        Json::String(_) => Err(InvalidRequest::wrong_value(
            param,
            &format!("expected sequences of 1 to {MAX_STOP_BYTES} bytes"),
        )),
        other => Err(wrong(other)),
    };
    items.iter().map(stop).collect()
}
