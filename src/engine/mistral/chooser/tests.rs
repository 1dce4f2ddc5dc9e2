use llguidance::{
    ParserFactory,
    api::TopLevelGrammar,
    toktrie::{ApproximateTokEnv, TokEnv},
};

use super::*;
use crate::engine::SamplingParams;

/// A grammar whose sentences can be read in ever more ways, and so cost more with each letter.
fn growing(tokens: &TokEnv, most: usize) -> Matcher {
    let mut factory = ParserFactory::new_simple(tokens).unwrap();
    factory.quiet();
    factory.limits_mut().verbose_errors = false;
    factory.limits_mut().max_items_in_row = most;
    let grammar = TopLevelGrammar::from_lark("start: s\ns: s s | \"a\"".into());
    Matcher::new(factory.create_parser(grammar))
}

/// What is chosen, until `steps` are over, by a model that likes the letter `a` best.
fn kinds(most: usize, steps: usize) -> Vec<Kind> {
    let tokens = ApproximateTokEnv::single_byte_env();
    let end = tokens.tok_trie().eos_token();
    let plan = Plan {
        sampling: sampling::Sampling::new(
            &SamplingParams {
                temperature: Some(0.0),
                ..SamplingParams::default()
            },
            None,
        ),
        rule: Rule::Whole(Box::new(growing(&tokens, most))),
        thinking: None,
        ends: [end].into(),
        never: [].into(),
        grammar_end: end,
        logprobs: None,
        seed: 0,
    };
    let (sender, _receiver) = tokio::sync::mpsc::unbounded_channel();
    let chooser = Chooser::new(plan, sender, Arc::default());
    let mut state = chooser.state.lock().unwrap();
    let kind = |_| {
        let mut logits = vec![0.0; tokens.tok_trie().vocab_size()];
        logits[usize::from(b'a')] = 1.0;
        state.choose(&mut logits, &[]).unwrap().kind
    };
    (0..steps).map(kind).collect()
}

#[test]
fn an_answer_whose_grammar_grows_too_costly_is_cut_and_then_over() {
    let kinds = kinds(100, 200);
    let said = kinds.iter().take_while(|kind| **kind == Kind::Text).count();
    assert!((2..190).contains(&said), "{said}");
    assert_eq!(kinds[said], Kind::Cut);
    assert!(kinds[said + 1..].iter().all(|kind| *kind == Kind::End));
}

#[test]
fn one_within_its_limits_is_not() {
    assert_eq!(kinds(2000, 50), [Kind::Text; 50]);
}
