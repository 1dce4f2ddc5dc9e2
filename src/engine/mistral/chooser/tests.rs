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
    let rule = Rule::Whole(Box::new(growing(&tokens, most)));
    let chosen = choose(plan(&tokens, rule, None), &tokens, steps);
    chosen.iter().map(|chosen| chosen.kind).collect()
}

fn plan(tokens: &TokEnv, rule: Rule, thinking: Option<Thinking>) -> Plan {
    let end = tokens.tok_trie().eos_token();
    Plan {
        sampling: sampling::Sampling::new(
            &SamplingParams {
                temperature: Some(0.0),
                ..SamplingParams::default()
            },
            None,
        ),
        rule,
        thinking,
        ends: [end].into(),
        never: [].into(),
        grammar_end: end,
        logprobs: None,
        seed: 0,
    }
}

fn choose(plan: Plan, tokens: &TokEnv, steps: usize) -> Vec<Chosen> {
    let (sender, _receiver) = tokio::sync::mpsc::unbounded_channel();
    let chooser = Chooser::new(plan, sender, Arc::default());
    let mut state = chooser.state.lock().unwrap();
    let next = |_| {
        let mut logits = vec![0.0; tokens.tok_trie().vocab_size()];
        logits[usize::from(b'a')] = 1.0;
        state.choose(&mut logits, &[]).unwrap()
    };
    (0..steps).map(next).collect()
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

/// What `reasoning_effort` comes to.
#[test]
fn thoughts_end_when_their_budget_is_spent() {
    let tokens = ApproximateTokEnv::single_byte_env();
    let closing = [u32::from(b'.'), u32::from(b'>')];
    for (budget, opened) in [(1, true), (5, true), (5, false)] {
        let thinking = Thinking {
            open: u32::from(b'a'),
            close: closing[1],
            closing: closing.into(),
            budget,
            opened,
        };
        let chosen = choose(plan(&tokens, Rule::Free, Some(thinking)), &tokens, 12);
        let thoughts: Vec<u32> = chosen
            .iter()
            .take_while(|chosen| matches!(chosen.kind, Kind::Thought | Kind::ThoughtEnd))
            .map(|chosen| chosen.token)
            .collect();
        // As much as it may think, and then what ends it.
        assert_eq!(thoughts.len(), budget + closing.len(), "{thoughts:?}");
        assert_eq!(thoughts[budget..], closing);
        assert!(
            chosen[thoughts.len()..]
                .iter()
                .all(|chosen| chosen.kind == Kind::Text)
        );
    }
}
