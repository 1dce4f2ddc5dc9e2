//! How the next token is chosen: by us, not by the engine, whose one random generator all sequences
//! share, whose seed cannot be set and whose log probabilities are those after sampling.
//!
//! The engine asks a [`Chooser`] at every step, on its own thread, and gets logits in which one
//! token stands out. The tokens go to the request's forwarder by a channel of their own, each with
//! what it is: a thought, text, part of a call, the end.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use llguidance::Matcher;
use mistralrs::{CustomLogitsProcessor, Tensor};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tokio::sync::mpsc::UnboundedSender;

use super::{grammar::Rule, sampling};

#[cfg(test)]
mod apart;
#[cfg(test)]
mod tests;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Part of what the model thinks before it answers.
    Thought,
    /// The end of thinking, which is not shown.
    ThoughtEnd,
    /// Part of the answer's text.
    Text,
    /// Part of a call, its brackets included.
    Call,
    /// The end of the answer, which is not shown.
    End,
    /// The end of an answer whose grammar has grown too costly to follow; not shown either.
    Cut,
}

/// A token that was chosen.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) token: u32,
    pub(super) kind: Kind,
    /// Its logarithm of probability and the likeliest tokens', where asked for.
    pub(super) logprobs: Option<(f32, Vec<(u32, f32)>)>,
}

/// Thinking before the answer.
#[derive(Debug, Clone)]
pub(super) struct Thinking {
    /// `<think>`
    pub(super) open: u32,
    /// `</think>`
    pub(super) close: u32,
    /// What ends it where it takes too long.
    pub(super) closing: Vec<u32>,
    /// Most tokens of it.
    pub(super) budget: usize,
    /// The prompt has opened it.
    pub(super) opened: bool,
}

/// Everything that decides about an answer's tokens.
pub(super) struct Plan {
    pub(super) sampling: sampling::Sampling,
    pub(super) rule: Rule,
    /// `None` where the model does not think, or shall not.
    pub(super) thinking: Option<Thinking>,
    /// Tokens that end an answer.
    pub(super) ends: Arc<[u32]>,
    /// Tokens that no answer may have, whatever a client does to their logits: the engine takes them
    /// for images and fails, and with it everybody in its step.
    pub(super) never: Arc<[u32]>,
    /// The token by which a grammar says that its text may end.
    pub(super) grammar_end: u32,
    pub(super) logprobs: Option<usize>,
    pub(super) seed: u64,
}

/// Chooses the tokens of one sequence.
pub(super) struct Chooser {
    state: Mutex<State>,
    chosen: UnboundedSender<Chosen>,
    fault: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing yet; it may begin to think.
    Start,
    Thinking,
    Answer,
    Call,
    Over,
}

struct State {
    plan: Plan,
    stage: Stage,
    rng: ChaCha8Rng,
    thoughts: usize,
    forced: VecDeque<u32>,
    written: HashMap<u32, u32>,
    prompt: Option<HashSet<u32>>,
    weights: Vec<(u32, f32)>,
}

impl Chooser {
    pub(super) fn new(plan: Plan, chosen: UnboundedSender<Chosen>, fault: Arc<AtomicBool>) -> Self {
        let stage = match &plan.thinking {
            Some(thinking) if thinking.opened => Stage::Thinking,
            Some(_) => Stage::Start,
            None => Stage::Answer,
        };
        Self {
            state: Mutex::new(State {
                stage,
                rng: ChaCha8Rng::seed_from_u64(plan.seed),
                plan,
                thoughts: 0,
                forced: VecDeque::new(),
                written: HashMap::new(),
                prompt: None,
                weights: Vec::new(),
            }),
            chosen,
            fault,
        }
    }
}

impl CustomLogitsProcessor for Chooser {
    #[allow(clippy::panic)]
    fn apply(&self, logits: &Tensor, context: &[u32]) -> mistralrs::Result<Tensor> {
        if self.fault.swap(false, Ordering::Relaxed) {
            panic!("provoked by panic_at_next_token");
        }
        let mut values: Vec<f32> = logits.to_vec1()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = state.choose(&mut values, context);
        let chosen = chosen.map_err(|reason| {
            // The engine fails the sequence with these words.
            std::io::Error::other(format!("no token can be chosen: {reason}"))
        })?;
        values.fill(0.0);
        if let Some(value) = values.get_mut(chosen.token as usize) {
            *value = 1.0;
        }
        // Where nobody listens any more the engine will notice by its own channel.
        let _ = self.chosen.send(chosen);
        let length = values.len();
        Tensor::from_vec(values, length, logits.device())
    }
}

impl State {
    fn choose(&mut self, logits: &mut [f32], context: &[u32]) -> Result<Chosen, String> {
        if self.stage == Stage::Over {
            // The engine begins a step more than it was asked for.
            return Ok(self.over(Kind::End));
        }
        match self.next(logits, context) {
            Ok(chosen) => Ok(chosen),
            Err(Fault::Nothing(reason)) => Err(reason),
            Err(Fault::Grammar(reason)) => {
                // Asked again it would come to the same, so that an error would only be tried again.
                tracing::warn!(
                    reason,
                    tokens = self.written.len(),
                    "an answer was cut off: its grammar cannot be followed further"
                );
                self.stage = Stage::Over;
                Ok(self.over(Kind::Cut))
            }
        }
    }

    fn over(&self, kind: Kind) -> Chosen {
        Chosen {
            token: self.plan.ends.first().copied().unwrap_or(0),
            kind,
            logprobs: None,
        }
    }

    fn next(&mut self, logits: &mut [f32], context: &[u32]) -> Result<Chosen, Fault> {
        let before = self
            .plan
            .logprobs
            .map(|top| sampling::Likely::of(logits, top));
        if let Some(penalty) = self.plan.sampling.repetition_penalty {
            let prompt = self
                .prompt
                .get_or_insert_with(|| context.iter().copied().collect());
            sampling::penalize_repetition(logits, prompt, &self.written, penalty);
        }
        self.plan.sampling.penalize(logits, &self.written);
        for token in self.plan.never.iter() {
            forbid_one(logits, *token);
        }
        let forced = self.forced.pop_front();
        let token = match forced {
            Some(token) => token,
            None => {
                self.forbid(logits)?;
                let draw = self.rng.random::<f64>();
                let picked = self.plan.sampling.pick(logits, draw, &mut self.weights);
                picked.map_err(Fault::Nothing)?
            }
        };
        *self.written.entry(token).or_default() += 1;
        let kind = self.advance(token, forced.is_some())?;
        let logprobs = before.map(|likely| (likely.logprob(token), likely.top));
        Ok(Chosen {
            token,
            kind,
            logprobs,
        })
    }

    /// Takes away what may not come next.
    fn forbid(&mut self, logits: &mut [f32]) -> Result<(), Fault> {
        let plan = &mut self.plan;
        match (self.stage, &mut plan.rule) {
            (Stage::Thinking, _) => {
                for end in plan.ends.iter() {
                    forbid_one(logits, *end);
                }
            }
            (_, Rule::NoCall(tokens)) => forbid_one(logits, tokens.open),
            (Stage::Call, Rule::FromCall(_, matcher)) => {
                keep_allowed(logits, matcher, &plan.ends, plan.grammar_end, None)?;
            }
            (stage, Rule::Whole(matcher)) => {
                let think = plan.thinking.as_ref().filter(|_| stage == Stage::Start);
                let think = think.map(|thinking| thinking.open);
                keep_allowed(logits, matcher, &plan.ends, plan.grammar_end, think)?;
            }
            (_, Rule::Free | Rule::FromCall(..)) => {}
        }
        Ok(())
    }

    fn advance(&mut self, token: u32, forced: bool) -> Result<Kind, Fault> {
        let thinking = self.plan.thinking.as_ref();
        if self.stage == Stage::Start {
            self.stage = match thinking {
                Some(thinking) if thinking.open == token => Stage::Thinking,
                _ => Stage::Answer,
            };
            if self.stage == Stage::Thinking {
                self.thoughts += 1;
                return Ok(Kind::ThoughtEnd);
            }
        }
        if let (Stage::Thinking, Some(thinking)) = (self.stage, thinking) {
            self.thoughts += 1;
            if token == thinking.close {
                self.stage = Stage::Answer;
                return Ok(Kind::ThoughtEnd);
            }
            if self.thoughts >= thinking.budget && !forced {
                self.forced.extend(&thinking.closing);
            }
            return Ok(Kind::Thought);
        }
        if self.plan.ends.contains(&token) || token == self.plan.grammar_end {
            self.stage = Stage::Over;
            return Ok(Kind::End);
        }
        match &mut self.plan.rule {
            Rule::Whole(matcher) => {
                // What closes the thinking may go on into the answer with white space.
                if !forced {
                    consume(matcher, token)?;
                }
                Ok(self.kind_of(token))
            }
            Rule::FromCall(_, matcher) if self.stage == Stage::Call => {
                consume(matcher, token)?;
                Ok(Kind::Call)
            }
            Rule::FromCall(tokens, _) if tokens.open == token => {
                self.stage = Stage::Call;
                Ok(Kind::Call)
            }
            Rule::Free | Rule::FromCall(..) | Rule::NoCall(_) => Ok(Kind::Text),
        }
    }

    /// Within a whole grammar: a call lasts from its first token to the end.
    fn kind_of(&mut self, token: u32) -> Kind {
        if self.plan.sampling.call_open == Some(token) {
            self.stage = Stage::Call;
        }
        if self.stage == Stage::Call {
            Kind::Call
        } else {
            Kind::Text
        }
    }
}

/// Why no token can be chosen.
enum Fault {
    /// Nothing is left to choose from.
    Nothing(String),
    /// The grammar cannot be followed within its limits.
    Grammar(String),
}

fn too_costly(error: impl ToString) -> Fault {
    Fault::Grammar(error.to_string())
}

fn consume(matcher: &mut Matcher, token: u32) -> Result<(), Fault> {
    matcher.consume_token(token).map_err(too_costly)
}

fn forbid_one(logits: &mut [f32], token: u32) {
    if let Some(logit) = logits.get_mut(token as usize) {
        *logit = f32::NEG_INFINITY;
    }
}

/// Takes away what the grammar does not allow; where it may end, every token that ends an answer
/// may come.
fn keep_allowed(
    logits: &mut [f32],
    matcher: &mut Matcher,
    ends: &[u32],
    grammar_end: u32,
    also: Option<u32>,
) -> Result<(), Fault> {
    let mask = matcher.compute_mask_or_eos().map_err(too_costly)?;
    let may_end = mask.is_allowed(grammar_end);
    let kept: Vec<(u32, f32)> = ends
        .iter()
        .filter(|_| may_end)
        .copied()
        .chain(also)
        .filter_map(|token| Some((token, *logits.get(token as usize)?)))
        .collect();
    let words = mask.as_slice();
    for (word, chunk) in words.iter().zip(logits.chunks_mut(32)) {
        if *word == u32::MAX {
            continue;
        }
        for (bit, logit) in chunk.iter_mut().enumerate() {
            if word & (1 << bit) == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
    let covered = words.len() * 32;
    if let Some(beyond) = logits.get_mut(covered..) {
        beyond.fill(f32::NEG_INFINITY);
    }
    for (token, logit) in kept {
        if let Some(slot) = logits.get_mut(token as usize) {
            *slot = logit;
        }
    }
    Ok(())
}
