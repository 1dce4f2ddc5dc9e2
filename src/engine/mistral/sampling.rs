//! The arithmetic of choosing: penalties, temperature, and which tokens are left to choose from.

use std::collections::{HashMap, HashSet};

use mistralrs::ModelGenerationDefaults;

use crate::engine::SamplingParams;

/// How to choose, with the model's defaults filled in.
#[derive(Debug, Clone)]
pub(super) struct Sampling {
    /// 0 is greedy.
    pub(super) temperature: f64,
    pub(super) top_k: Option<usize>,
    pub(super) top_p: f64,
    pub(super) min_p: f64,
    pub(super) presence_penalty: f32,
    pub(super) frequency_penalty: f32,
    pub(super) repetition_penalty: Option<f32>,
    pub(super) logit_bias: Vec<(u32, f32)>,
    /// The token that opens a call of a tool, where there are tools.
    pub(super) call_open: Option<u32>,
}

impl Sampling {
    pub(super) fn new(params: &SamplingParams, defaults: Option<&ModelGenerationDefaults>) -> Self {
        let defaults = defaults.cloned().unwrap_or_default();
        let greedy_by_default = defaults.do_sample == Some(false);
        let temperature = params.temperature.unwrap_or(match defaults.temperature {
            _ if greedy_by_default => 0.0,
            Some(temperature) => temperature,
            None => 1.0,
        });
        let repetition = params
            .repetition_penalty
            .or(defaults.repetition_penalty.map(f64::from));
        Self {
            temperature,
            top_k: params.top_k.or(defaults.top_k).filter(|k| *k > 0),
            top_p: params.top_p.or(defaults.top_p).unwrap_or(1.0),
            min_p: params.min_p.or(defaults.min_p).unwrap_or(0.0),
            presence_penalty: params.presence_penalty as f32,
            frequency_penalty: params.frequency_penalty as f32,
            repetition_penalty: repetition.map(|p| p as f32).filter(|p| *p != 1.0),
            logit_bias: params
                .logit_bias
                .iter()
                .map(|(token, bias)| (*token, *bias as f32))
                .collect(),
            call_open: None,
        }
    }

    /// Biases, and the penalties that OpenAI defines on what was written so far.
    pub(super) fn penalize(&self, logits: &mut [f32], written: &HashMap<u32, u32>) {
        for (token, bias) in &self.logit_bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        if self.presence_penalty == 0.0 && self.frequency_penalty == 0.0 {
            return;
        }
        for (token, count) in written {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit -= self.presence_penalty + *count as f32 * self.frequency_penalty;
            }
        }
    }

    /// The token for a `draw` from 0 to 1. The order of the cuts is that of transformers: top-k,
    /// top-p, min-p, each on what the one before has left.
    ///
    /// # Errors
    /// Nothing is left, or the model gave no numbers.
    pub(super) fn pick(
        &self,
        logits: &[f32],
        draw: f64,
        left: &mut Vec<(u32, f32)>,
    ) -> Result<u32, String> {
        let best = argmax(logits).ok_or("the model gave no numbers")?;
        let (token, max) = best;
        if max == f32::NEG_INFINITY {
            return Err("nothing is allowed".into());
        }
        if self.temperature <= 0.0 || self.top_k == Some(1) {
            return Ok(token);
        }
        left.clear();
        let finite = logits
            .iter()
            .enumerate()
            .filter(|(_, l)| **l > f32::NEG_INFINITY);
        left.extend(finite.map(|(token, logit)| (token as u32, *logit)));
        if let Some(k) = self.top_k
            && k < left.len()
        {
            left.select_nth_unstable_by(k, by_likelihood);
            left.truncate(k);
        }
        let inverse = 1.0 / self.temperature as f32;
        for (_, weight) in left.iter_mut() {
            *weight = ((*weight - max) * inverse).exp();
        }
        self.cut_top_p(left);
        if self.min_p > 0.0 {
            // The likeliest has the weight 1.
            left.retain(|(_, weight)| f64::from(*weight) >= self.min_p);
        }
        // In the order of ids, whatever the cuts have left behind.
        left.sort_unstable_by_key(|(token, _)| *token);
        let total: f64 = left.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let mut rest = draw * total;
        for (token, weight) in left.iter() {
            rest -= f64::from(*weight);
            if rest < 0.0 {
                return Ok(*token);
            }
        }
        Ok(token)
    }

    fn cut_top_p(&self, left: &mut Vec<(u32, f32)>) {
        if self.top_p >= 1.0 {
            return;
        }
        let total: f64 = left.iter().map(|(_, weight)| f64::from(*weight)).sum();
        // Together these weigh less than what is cut, so sorting can leave them out.
        let hopeless = (1.0 - self.top_p) * total / left.len() as f64;
        left.retain(|(_, weight)| f64::from(*weight) >= hopeless);
        left.sort_unstable_by(by_likelihood);
        let mut sum = 0.0;
        let enough = self.top_p * total;
        let reached = left.iter().position(|(_, weight)| {
            sum += f64::from(*weight);
            sum >= enough
        });
        if let Some(last) = reached {
            left.truncate(last + 1);
        }
    }
}

/// The repetition penalty of Keskar et al. (CTRL, 2019), as transformers applies it.
pub(super) fn penalize_repetition(
    logits: &mut [f32],
    prompt: &HashSet<u32>,
    written: &HashMap<u32, u32>,
    penalty: f32,
) {
    let new = written.keys().filter(|token| !prompt.contains(token));
    for token in prompt.iter().chain(new) {
        if let Some(logit) = logits.get_mut(*token as usize) {
            *logit = if *logit > 0.0 {
                *logit / penalty
            } else {
                *logit * penalty
            };
        }
    }
}

/// How likely the tokens were before anything was done to their logits.
pub(super) struct Likely {
    logits: Vec<f32>,
    log_total: f32,
    /// The likeliest, likeliest first.
    pub(super) top: Vec<(u32, f32)>,
}

impl Likely {
    pub(super) fn of(logits: &[f32], top: usize) -> Self {
        let max = argmax(logits).map_or(0.0, |(_, max)| max);
        let total: f64 = logits.iter().map(|l| f64::from((l - max).exp())).sum();
        let log_total = max + total.ln() as f32;
        let mut all: Vec<(u32, f32)> = Vec::new();
        if top > 0 {
            all.extend(logits.iter().enumerate().map(|(i, l)| (i as u32, *l)));
            if top < all.len() {
                all.select_nth_unstable_by(top, by_likelihood);
                all.truncate(top);
            }
            all.sort_unstable_by(by_likelihood);
            for (_, logit) in &mut all {
                *logit -= log_total;
            }
        }
        Self {
            logits: logits.to_vec(),
            log_total,
            top: all,
        }
    }

    pub(super) fn logprob(&self, token: u32) -> f32 {
        let logit = self.logits.get(token as usize).copied();
        // OpenAI's figure for what is too unlikely to tell.
        logit.map_or(-9999.0, |logit| (logit - self.log_total).max(-9999.0))
    }
}

fn argmax(logits: &[f32]) -> Option<(u32, f32)> {
    let mut best: Option<(u32, f32)> = None;
    for (token, logit) in logits.iter().enumerate() {
        // The first of equals, as the engine and transformers have it; never one that is no number.
        if best.map_or(!logit.is_nan(), |(_, max)| *logit > max) {
            best = Some((token as u32, *logit));
        }
    }
    best
}

fn by_likelihood(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}
