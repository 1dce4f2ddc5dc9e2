//! The bodies of requests, made ahead of their time.

use std::{collections::HashMap, time::Duration};

use base64_simd::STANDARD;
use bytes::Bytes;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    mix::ImageSize,
    picture::picture,
    plan::{Ask, ImageFormat},
};

/// A request's body.
#[derive(Debug, Clone)]
pub struct Body {
    /// JSON.
    pub json: Bytes,
    /// Images in it.
    pub images: usize,
}

/// Bytes that the bodies that lie ready may have about.
const READY_BYTES: usize = 256 << 20;

/// What every prompt begins with: models go on at length.
const OPENING: &str = "Write a very long story that has all of these words:";

/// Words that are one token in most vocabularies.
const WORDS: [&str; 64] = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world",
    "school", "state", "family", "student", "group", "country", "problem", "hand", "part", "place",
    "case", "week", "company", "system", "program", "question", "work", "number", "night", "point",
    "home", "water", "room", "mother", "area", "money", "story", "fact", "month", "lot", "right",
    "study", "book", "eye", "job", "word", "business", "issue", "side", "kind", "head", "house",
    "service", "friend", "father", "power", "hour", "game", "line", "end", "member", "law", "car",
];

/// Makes the body of any request by its number; the same number gives the same body.
struct Maker {
    ask: Ask,
    model: String,
    /// With [`Ask::same_image`]: data URLs by place in the request and size.
    drawn: HashMap<(usize, ImageSize), String>,
}

impl Maker {
    fn make(&mut self, number: u64) -> Result<Body, String> {
        let mut random = ChaCha8Rng::seed_from_u64(self.ask.seed);
        random.set_stream(number);
        let images = self.ask.images.draw(&mut random);
        let mut parts = Vec::with_capacity(images + 1);
        for place in 0..images {
            let url = self.image(place, &mut random)?;
            parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
        }
        let prompt = prompt(self.ask.prompt_tokens, &mut random);
        let content = if images == 0 {
            Value::String(prompt)
        } else {
            parts.push(json!({"type": "text", "text": prompt}));
            Value::Array(parts)
        };
        let mut body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.ask.max_tokens,
            "stream": self.ask.stream,
        });
        if self.ask.stream && self.ask.usage {
            body["stream_options"] = json!({"include_usage": true});
        }
        for (field, value) in &self.ask.extra {
            body[field] = value.clone();
        }
        Ok(Body {
            json: body.to_string().into(),
            images,
        })
    }

    fn image(&mut self, place: usize, random: &mut ChaCha8Rng) -> Result<String, String> {
        let size = self.ask.sizes.choose(random).copied();
        let size = size.ok_or("no image size is given")?;
        if !self.ask.same_image {
            return self.draw(size, random);
        }
        if let Some(url) = self.drawn.get(&(place, size)) {
            return Ok(url.clone());
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.ask.seed);
        // No request has such a number.
        random.set_stream(u64::MAX - place as u64);
        let url = self.draw(size, &mut random)?;
        self.drawn.insert((place, size), url.clone());
        Ok(url)
    }

    fn draw(&self, size: ImageSize, random: &mut ChaCha8Rng) -> Result<String, String> {
        let format = self.ask.format;
        let bytes = picture(size, format, random).map_err(|e| e.to_string())?;
        let base64 = STANDARD.encode_to_string(bytes);
        Ok(format!("data:image/{};base64,{base64}", format.name()))
    }
}

/// So many words, different ones in each request: a cache of prompts finds nothing in common but the opening.
fn prompt(words: usize, random: &mut impl Rng) -> String {
    let opening = OPENING.split(' ').take(words);
    let further = words.saturating_sub(opening.clone().count());
    let further = (0..further).map(|_| *WORDS.choose(random).unwrap_or(&"time"));
    opening.chain(further).collect::<Vec<_>>().join(" ")
}

/// The bodies in the order of their numbers, made by threads that keep a few ahead.
#[derive(Debug)]
pub struct Supply {
    lanes: Vec<mpsc::Receiver<Result<Body, String>>>,
    next: usize,
}

impl Supply {
    /// Starts the threads, which end when this is dropped. One in four of the machine's cores is
    /// theirs: the server may be on the same machine. They keep `ahead` bodies ready, or fewer
    /// where those would be too large.
    pub fn start(ask: &Ask, model: &str, ahead: usize) -> Self {
        let ahead = ahead.min(READY_BYTES / largest(ask)).max(1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / 4).clamp(1, 8);
        let lanes = (0..threads).map(|thread| {
            let (sender, receiver) = mpsc::channel(ahead.div_ceil(threads));
            let mut maker = Maker {
                ask: ask.clone(),
                model: model.to_string(),
                drawn: HashMap::new(),
            };
            std::thread::spawn(move || {
                let numbers = (thread as u64..).step_by(threads);
                // Until nobody takes them any more.
                for number in numbers {
                    if sender.blocking_send(maker.make(number)).is_err() {
                        break;
                    }
                }
            });
            receiver
        });
        Self {
            lanes: lanes.collect(),
            next: 0,
        }
    }

    /// Waits until as many lie ready as may, at most for this long.
    pub async fn ready(&self, at_most: Duration) {
        let full = async {
            while self.lanes.iter().any(|l| l.len() < l.max_capacity()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // What is not ready by then is waited for, and the wait measured.
        let _ = tokio::time::timeout(at_most, full).await;
    }

    /// The next body.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn next(&mut self) -> Result<Body, String> {
        let lane = self.lane();
        lane.recv().await.unwrap_or_else(|| Err(ended()))
    }

    /// The next body, for a thread that is no runtime's.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn blocking_next(&mut self) -> Result<Body, String> {
        let lane = self.lane();
        lane.blocking_recv().unwrap_or_else(|| Err(ended()))
    }

    fn lane(&mut self) -> &mut mpsc::Receiver<Result<Body, String>> {
        let lane = self.next % self.lanes.len();
        self.next += 1;
        &mut self.lanes[lane]
    }
}

/// About the size of the largest body, bytes; no less, but for images that compress badly.
fn largest(ask: &Ask) -> usize {
    let pixels = ask
        .sizes
        .iter()
        .map(|s| s.width as usize * s.height as usize);
    let pixel = match ask.format {
        ImageFormat::Jpeg => 1,
        ImageFormat::Png => 4,
    };
    let image = pixels.max().unwrap_or(0) * pixel;
    let images = ask.images.shares().iter().map(|(count, _)| *count).max();
    1_024 + 10 * ask.prompt_tokens + images.unwrap_or(0) * image
}

fn ended() -> String {
    "the thread that makes requests has ended".into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn maker(images: &str, same_image: bool) -> Maker {
        let ask = Ask {
            images: images.parse().unwrap(),
            sizes: vec!["8x8".parse().unwrap()],
            format: ImageFormat::Png,
            same_image,
            prompt_tokens: 30,
            max_tokens: 5,
            stream: true,
            usage: true,
            extra: serde_json::from_str(r#"{"temperature": 0, "max_tokens": 7}"#).unwrap(),
            seed: 1,
        };
        Maker {
            ask,
            model: "m".into(),
            drawn: HashMap::new(),
        }
    }

    fn made(maker: &mut Maker, number: u64) -> Value {
        serde_json::from_slice(&maker.make(number).unwrap().json).unwrap()
    }

    #[test]
    fn a_body_holds_what_was_asked_for() {
        let body = made(&mut maker("2", false), 0);
        let parts = body["messages"][0]["content"].as_array().unwrap();
        assert_eq!(parts.len(), 3);
        let urls: Vec<&str> = parts[..2]
            .iter()
            .map(|part| part["image_url"]["url"].as_str().unwrap())
            .collect();
        assert_ne!(urls[0], urls[1]);
        assert!(urls[0].starts_with("data:image/png;base64,iVBOR"));
        assert_eq!(parts[2]["text"].as_str().unwrap().split(' ').count(), 30);
        assert_eq!(body["stream_options"]["include_usage"], true);
        // A further field replaces one of ours.
        assert_eq!(
            (&body["temperature"], &body["max_tokens"]),
            (&json!(0), &json!(7))
        );
    }

    #[test]
    fn requests_differ_and_their_numbers_repeat_them() {
        let mut maker = maker("1", false);
        let first = made(&mut maker, 3);
        assert_eq!(first, made(&mut maker, 3));
        let second = made(&mut maker, 4);
        for part in 0..2 {
            let content = |body: &Value| body["messages"][0]["content"][part].clone();
            assert_ne!(content(&first), content(&second));
        }
    }

    #[test]
    fn the_same_image_is_sent_again_where_that_is_wanted() {
        let mut maker = maker("1", true);
        let url = |body: Value| body["messages"][0]["content"][0].clone();
        let first = made(&mut maker, 0);
        assert_eq!(url(first), url(made(&mut maker, 9)));
    }

    #[tokio::test]
    async fn bodies_come_in_their_order() {
        let mut maker = maker("0:1,1:1", false);
        let mut supply = Supply::start(&maker.ask, "m", 8);
        for number in 0..150 {
            let body = supply.next().await.unwrap();
            assert_eq!(body.json, maker.make(number).unwrap().json, "{number}");
        }
    }

    #[tokio::test]
    async fn as_many_bodies_lie_ready_as_there_is_room_for() {
        for (size, ahead, expected) in [("8x8", 8, 8), ("4000x4000", 100, 4)] {
            let mut ask = maker("1", false).ask;
            ask.sizes = vec![size.parse().unwrap()];
            let supply = Supply::start(&ask, "m", ahead);
            let room: usize = supply.lanes.iter().map(|l| l.max_capacity()).sum();
            assert!(
                (expected..expected + supply.lanes.len()).contains(&room),
                "{room}"
            );
        }
    }

    #[test]
    fn short_prompts_are_short() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(prompt(2, &mut random), "Write a");
        assert_eq!(prompt(0, &mut random), "");
    }
}
