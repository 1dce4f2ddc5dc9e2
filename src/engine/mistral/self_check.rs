//! Proves, or does not, that sequences may be computed together on this device.
//!
//! A handful of prompts is answered alone and then together: texts of equal length, texts of
//! unequal length, images of one size. Only if every answer is the same may the lane be wider than
//! one. Images of two sizes are never together, whatever is proven: the lane sees to that.

use std::sync::Arc;

use futures::future::join_all;
use image::{Rgb, RgbImage};

use super::{Shared, supervisor};
use crate::engine::{Health, Part, Role, Turn};

/// Sequences at once that are tried where nothing is configured, on other devices than a CPU.
const DEFAULT_WIDTH: usize = 8;
/// Long enough for answers to be mixed while several are under way.
const ANSWER_TOKENS: usize = 24;
const ROUNDS: usize = 3;

/// How many sequences may be inside the engine at once.
pub(super) async fn proven_width(shared: &Arc<Shared>, on_cpu: bool) -> usize {
    let wanted = match shared.config.max_batch_size {
        // The CPU kernel of mistral.rs 0.8.1 keeps one scratch row for all rows of a batch.
        0 if on_cpu => 1,
        0 => DEFAULT_WIDTH,
        width => width,
    };
    if wanted == 1 {
        return 1;
    }
    match check(shared, wanted).await {
        Ok(()) => {
            tracing::info!(
                width = wanted,
                "the self-check proved that sequences can run together"
            );
            wanted
        }
        Err(reason) => {
            tracing::warn!(wanted, %reason, "the self-check failed; sequences run one after the other");
            // A check that killed the engine must not leave it dead.
            let mut health = shared.health.subscribe();
            let back = health.wait_for(|health| !matches!(health, Health::Recovering(_)));
            let _ = back.await;
            1
        }
    }
}

async fn check(shared: &Arc<Shared>, width: usize) -> Result<(), String> {
    for (name, prompts) in [
        ("texts of equal length", equal_texts(width)),
        ("texts of unequal length", unequal_texts(width)),
        ("images of one size", images(shared, width)),
    ] {
        let mut alone = Vec::new();
        for prompt in &prompts {
            alone.push(prompt.answer(shared).await?);
        }
        for _ in 0..ROUNDS {
            let together = join_all(prompts.iter().map(|prompt| prompt.answer(shared))).await;
            for (alone, together) in alone.iter().zip(together) {
                if together? != *alone {
                    return Err(format!(
                        "{name}: an answer differs from the one given alone"
                    ));
                }
            }
        }
    }
    Ok(())
}

struct Question {
    turn: Turn,
    image: Option<RgbImage>,
}

impl Question {
    fn new(parts: Vec<Part>, image: Option<RgbImage>) -> Self {
        Self {
            turn: Turn::new(Role::User, parts),
            image,
        }
    }

    async fn answer(&self, shared: &Arc<Shared>) -> Result<String, String> {
        let turns = vec![self.turn.clone()];
        supervisor::generate(shared, turns, self.image.as_slice(), ANSWER_TOKENS).await
    }
}

fn equal_texts(count: usize) -> Vec<Question> {
    (0..count)
        .map(|i| {
            let text = format!("{} + {} = ?", i % 10, (i * 3 + 1) % 10);
            Question::new(vec![Part::Text(text)], None)
        })
        .collect()
}

fn unequal_texts(count: usize) -> Vec<Question> {
    let words = "Tell me what you are able to do and who made you, please, in a few words";
    (0..count)
        .map(|i| {
            let text: Vec<&str> = words.split(' ').take(3 + i % 14).collect();
            Question::new(vec![Part::Text(text.join(" "))], None)
        })
        .collect()
}

fn images(shared: &Shared, count: usize) -> Vec<Question> {
    let Some(geometry) = shared.info.geometry else {
        return Vec::new();
    };
    let (width, height) = geometry.target(1, 1, 1);
    (0..count)
        .map(|i| {
            let (x0, y0) = (i as u32 % 4 * width / 4, i as u32 / 4 % 4 * height / 4);
            let image = RgbImage::from_fn(width, height, |x, y| {
                let inside =
                    (x0..x0 + width / 4).contains(&x) && (y0..y0 + height / 4).contains(&y);
                Rgb(if inside {
                    [(i * 40 % 256) as u8, 20, 200]
                } else {
                    [250, 240, 40]
                })
            });
            let parts = vec![
                Part::Image(image.dimensions()),
                Part::Text("Describe this image.".into()),
            ];
            Question::new(parts, Some(image))
        })
        .collect()
}
