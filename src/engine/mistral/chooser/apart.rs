//! Sequences of one engine, and of several, choose without regard to each other.

use mistralrs::{Device, ModelGenerationDefaults};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::engine::SamplingParams;

const VOCABULARY: usize = 200;
const STEPS: usize = 300;

/// A sequence under way: its chooser, and what that has chosen.
struct Sequence {
    chooser: Chooser,
    chosen: UnboundedReceiver<Chosen>,
    context: Vec<u32>,
}

impl Sequence {
    fn new(seed: u64) -> Self {
        let params = SamplingParams {
            temperature: Some(1.3),
            top_p: Some(0.97),
            frequency_penalty: 0.4,
            repetition_penalty: Some(1.1),
            ..SamplingParams::default()
        };
        let defaults = ModelGenerationDefaults::default();
        let plan = Plan {
            sampling: sampling::Sampling::new(&params, Some(&defaults)),
            rule: Rule::Free,
            thinking: None,
            ends: Arc::new([]),
            never: Arc::new([]),
            grammar_end: u32::MAX,
            logprobs: None,
            seed,
        };
        let (sender, chosen) = unbounded_channel();
        Self {
            chooser: Chooser::new(plan, sender, Arc::default()),
            chosen,
            context: vec![1, 2, 3],
        }
    }

    /// One step, as the engine makes it: logits that follow from what was written so far.
    fn step(&mut self) {
        let last = *self.context.last().unwrap() as f32;
        let logits = (0..VOCABULARY).map(|i| ((i as f32 + 1.0) * (last + 0.7)).sin() * 2.0);
        let logits = Tensor::from_iter(logits, &Device::Cpu).unwrap();
        self.chooser.apply(&logits, &self.context).unwrap();
        self.context.push(self.chosen.try_recv().unwrap().token);
    }

    fn run(seed: u64) -> Vec<u32> {
        let mut sequence = Self::new(seed);
        (0..STEPS).for_each(|_| sequence.step());
        sequence.context
    }
}

/// However wide the lane is, the engine asks one chooser after the other in each step.
#[test]
fn sequences_of_one_step_do_not_touch_each_other() {
    let alone: Vec<Vec<u32>> = (0..8).map(Sequence::run).collect();
    let different: HashSet<&Vec<u32>> = alone.iter().collect();
    assert_eq!(different.len(), 8, "seeds do not matter");

    let mut together: Vec<Sequence> = (0..8).map(Sequence::new).collect();
    for step in 0..STEPS {
        // Sequences enter and leave, so their places in a step change.
        let places = together.len();
        together.rotate_left(step % places);
        together.iter_mut().for_each(Sequence::step);
    }
    let together: HashSet<Vec<u32>> = together.into_iter().map(|one| one.context).collect();
    assert_eq!(together, alone.into_iter().collect());
}

/// Models and replicas have a thread each.
#[test]
fn sequences_on_several_threads_do_not_touch_each_other() {
    let alone = [Sequence::run(7), Sequence::run(8)];
    std::thread::scope(|scope| {
        for seed in [7, 8, 7, 8] {
            let alone = &alone;
            scope.spawn(move || assert_eq!(Sequence::run(seed), alone[seed as usize - 7]));
        }
    });
}
