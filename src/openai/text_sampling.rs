//! How tokens are chosen and where answers end: the fields that the text routes share.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use super::{
    InvalidRequest,
    json::Json,
    values::{integer, number, object},
};

/// Most stop sequences, as OpenAI has it.
pub const MAX_STOPS: usize = 4;
/// Longest stop sequence, in bytes: text is held back until it cannot become one.
pub const MAX_STOP_BYTES: usize = 1024;
/// Most tokens with a bias.
pub const MAX_BIASES: usize = 1024;
/// Largest bias to either side.
pub const MAX_BIAS: f64 = 100.0;

/// How to choose tokens; what is not given is the model's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// 0 (greedy) to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// Most tokens to choose from; 0 for all.
    pub top_k: Option<usize>,
    /// 0 to 1, as a part of the likeliest token's probability.
    pub min_p: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: f64,
    /// -2 to 2.
    pub frequency_penalty: f64,
    /// 0.01 to 10; it divides.
    pub repetition_penalty: Option<f64>,
    /// Ids of tokens and what is added to their logits, -100 to 100.
    pub logit_bias: Vec<(u32, f64)>,
    /// The same seed gives the same answer.
    pub seed: Option<u64>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
}

impl Sampling {
    /// Takes a field that is one of these; `None` where it is not. `at` is its path.
    pub(super) fn set(
        &mut self,
        key: &str,
        at: &str,
        value: Json<'_>,
    ) -> Option<Result<(), InvalidRequest>> {
        Self::FIELDS
            .contains(&key)
            .then(|| self.take(key, at, value))
    }

    /// The fields that `set` takes.
    pub const FIELDS: &[&'static str] = &[
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
        "seed",
        "stop",
    ];

    fn take(&mut self, key: &str, at: &str, value: Json<'_>) -> Result<(), InvalidRequest> {
        match key {
            "temperature" => self.temperature = Some(number(at, &value, (0.0, 2.0))?),
            "top_p" => self.top_p = Some(number(at, &value, (0.0, 1.0))?),
            "top_k" => self.top_k = Some(integer(at, &value, (0, usize::MAX))?),
            "min_p" => self.min_p = Some(number(at, &value, (0.0, 1.0))?),
            "presence_penalty" => self.presence_penalty = number(at, &value, (-2.0, 2.0))?,
            "frequency_penalty" => self.frequency_penalty = number(at, &value, (-2.0, 2.0))?,
            "repetition_penalty" => {
                self.repetition_penalty = Some(number(at, &value, (0.01, 10.0))?);
            }
            "logit_bias" => self.logit_bias = logit_bias(at, value)?,
            "seed" => self.seed = Some(seed(at, &value)?),
            "stop" => self.stop = stop(at, value)?,
            _ => {}
        }
        Ok(())
    }
}

fn seed(at: &str, value: &Json<'_>) -> Result<u64, InvalidRequest> {
    let Json::Number(number) = value else {
        return Err(InvalidRequest::wrong_type(at, "an integer", value));
    };
    let negative = || number.as_i64().map(i64::cast_unsigned);
    number
        .as_u64()
        .or_else(negative)
        .ok_or_else(|| InvalidRequest::wrong_value(at, "expected an integer of 64 bits"))
}

fn logit_bias(at: &str, value: Json<'_>) -> Result<Vec<(u32, f64)>, InvalidRequest> {
    let entries = object(at, value)?;
    if entries.len() > MAX_BIASES {
        let rule = format!("expected at most {MAX_BIASES} tokens");
        return Err(InvalidRequest::wrong_value(at, &rule));
    }
    let biases = entries.into_iter().map(|(key, value)| {
        let id = key
            .parse()
            .map_err(|_| InvalidRequest::wrong_value(at, "expected ids of tokens as keys"))?;
        Ok((id, number(at, &value, (-MAX_BIAS, MAX_BIAS))?))
    });
    biases.collect()
}

fn stop(at: &str, value: Json<'_>) -> Result<Vec<String>, InvalidRequest> {
    const EXPECTED: &str = "a string or an array of strings";
    let items = match value {
        Json::String(text) => vec![Json::String(text)],
        Json::Array(items) => items,
        other => return Err(InvalidRequest::wrong_type(at, EXPECTED, &other)),
    };
    if items.len() > MAX_STOPS {
        let rule = format!("expected at most {MAX_STOPS} sequences");
        return Err(InvalidRequest::wrong_value(at, &rule));
    }
    let texts = items.into_iter().map(|item| match item {
        Json::String(text) if (1..=MAX_STOP_BYTES).contains(&text.len()) => Ok(text.into_owned()),
        Json::String(_) => {
            let rule = format!("expected sequences of 1 to {MAX_STOP_BYTES} bytes");
            Err(InvalidRequest::wrong_value(at, &rule))
        }
        other => Err(InvalidRequest::wrong_type(at, EXPECTED, &other)),
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_may_be_negative_and_keeps_apart_from_others() {
        let parse = |text: &str| seed("seed", &serde_json::from_str(text).unwrap());
        assert_eq!(parse("-1").unwrap(), u64::MAX);
        assert_eq!(parse("18446744073709551615").unwrap(), u64::MAX);
        assert_eq!(parse("7").unwrap(), 7);
        assert!(parse("1.5").is_err());
    }
}
