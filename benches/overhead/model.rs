//! The demo model through HTTP, streamed, against the same engine called directly.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use image::RgbImage;
use porthole::{
    config::{ImagesConfig, ModelConfig},
    engine::{
        Engine, Event, GenerateRequest, Part, Role, SamplingParams, Turn, mistral::MistralEngine,
    },
    media::image as media,
    metrics::Metrics,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{client::Client, servers};
use crate::{ROUNDS, ms, row, title};

/// Answers of each side in a round, taking turns; a single one is too short to time.
const ANSWERS: usize = 4;

/// The case of the demo's reference that has a long answer.
struct Story {
    question: String,
    answer: String,
    tokens: usize,
    image: Vec<u8>,
}

fn story() -> Story {
    let folder = Path::new("models/demo");
    let file = std::fs::read(folder.join("reference.json")).expect("run in the repository's root");
    let file: Value = serde_json::from_slice(&file).expect("the reference is JSON");
    let mut cases = file["cases"].as_array().into_iter().flatten();
    let case = cases
        .find(|case| case["type"] == "story")
        .expect("there is a story");
    let text = |value: &Value| value.as_str().expect("it is text").to_string();
    Story {
        question: text(&case["messages"][0]["content"][1]["text"]),
        answer: text(&case["answer"]),
        tokens: case["completion_tokens"].as_u64().expect("a count") as usize,
        image: std::fs::read(folder.join(text(&case["images"][0]))).expect("the image is there"),
    }
}

/// Times of one answer.
#[derive(Clone, Copy, Default)]
struct Timed {
    first: Duration,
    whole: Duration,
}

async fn direct(engine: &dyn Engine, image: &Arc<RgbImage>, story: &Story) -> Timed {
    let parts = vec![
        Part::Image(image.clone()),
        Part::Text(story.question.clone()),
    ];
    let turns = vec![Turn {
        role: Role::User,
        parts,
    }];
    let sampling = SamplingParams {
        temperature: Some(0.0),
        ..SamplingParams::default()
    };
    let started = Instant::now();
    let request = GenerateRequest { turns, sampling };
    let mut events = engine.generate(request).await.expect("the engine is up");
    let (mut first, mut answer, mut tokens) = (None, String::new(), 0);
    while let Some(event) = events.next().await {
        match event.expect("the engine stays up") {
            Event::Delta(text) => {
                first.get_or_insert_with(|| started.elapsed());
                answer.push_str(&text);
            }
            Event::Finished { usage, .. } => tokens = usage.completion,
        }
    }
    let whole = started.elapsed();
    assert_eq!(
        (answer.as_str(), tokens),
        (story.answer.as_str(), story.tokens)
    );
    Timed {
        first: first.unwrap_or(whole),
        whole,
    }
}

fn through_http(client: &mut Client, story: &Story) -> Timed {
    let started = Instant::now();
    let (mut first, mut body) = (None, Vec::new());
    client.ask(|piece| {
        // The chunk with the role also has content, but an empty one.
        if first.is_none() && has_text(piece) {
            first = Some(started.elapsed());
        }
        body.extend_from_slice(piece);
    });
    let whole = started.elapsed();
    let (answer, tokens) = read_events(&body);
    assert_eq!(
        (answer.as_str(), tokens),
        (story.answer.as_str(), story.tokens)
    );
    Timed {
        first: first.unwrap_or(whole),
        whole,
    }
}

fn has_text(piece: &[u8]) -> bool {
    let begin = br#""delta":{"content":""#;
    piece.windows(begin.len()).any(|bytes| bytes == begin)
}

/// Text and number of tokens of a streamed answer.
fn read_events(body: &[u8]) -> (String, usize) {
    let body = std::str::from_utf8(body).expect("events are UTF-8");
    let (mut answer, mut tokens) = (String::new(), 0);
    let events = body.lines().filter_map(|line| line.strip_prefix("data: {"));
    for event in events {
        let event: Value = serde_json::from_str(&format!("{{{event}")).expect("events are JSON");
        answer += event["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default();
        tokens = event["usage"]["completion_tokens"]
            .as_u64()
            .unwrap_or_default() as usize;
    }
    (answer, tokens)
}

fn request(story: &Story) -> String {
    let image = base64_simd::STANDARD.encode_to_string(&story.image);
    let url = format!("data:image/png;base64,{image}");
    let content = json!([
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": story.question},
    ]);
    let request = json!({
        "model": "demo",
        "temperature": 0,
        "stream": true,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": content}],
    });
    request.to_string()
}

/// The pixels that the gateway would give the engine.
fn pixels(bytes: &[u8], engine: &dyn Engine) -> Arc<RgbImage> {
    let limits = ImagesConfig::default();
    let header = media::inspect(bytes, &limits).expect("it is an image");
    let (width, height) = header.upright();
    let geometry = engine.info().geometry;
    let target = geometry.target(width, height, limits.auto_max_pixels);
    Arc::new(media::decode(bytes, header, target).expect("it is whole"))
}

pub(crate) fn run() {
    let story = story();
    let runtime = Runtime::new().expect("a runtime starts");
    let load = MistralEngine::load(ModelConfig::default(), Arc::new(Metrics::default()));
    let engine: Arc<dyn Engine> = Arc::new(runtime.block_on(load).expect("the demo model loads"));
    let image = pixels(&story.image, engine.as_ref());
    let mut client = Client::new(servers::porthole(engine.clone()), &request(&story));

    let mut pair = || {
        let http = through_http(&mut client, &story);
        (
            http,
            runtime.block_on(direct(engine.as_ref(), &image, &story)),
        )
    };
    pair();
    let (mut speeds, mut firsts) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let answers: Vec<(Timed, Timed)> = (0..ANSWERS).map(|_| pair()).collect();
        speeds.push((
            tokens_per_second(&story, answers.iter().map(|(a, _)| a.whole)),
            tokens_per_second(&story, answers.iter().map(|(_, b)| b.whole)),
        ));
        firsts.extend(answers.iter().map(|(a, b)| (ms(a.first), ms(b.first))));
    }

    title(&format!(
        "Demo model, {} tokens about an image: HTTP / engine called directly",
        story.tokens
    ));
    row(
        "tokens/s, HTTP",
        speeds.iter().map(|(a, _)| *a).collect(),
        "/s",
        "",
    );
    row(
        "tokens/s, direct",
        speeds.iter().map(|(_, b)| *b).collect(),
        "/s",
        "",
    );
    row(
        "tokens/s, ratio",
        speeds.iter().map(|(a, b)| a / b).collect(),
        "x",
        "aim >= 0.98",
    );
    row(
        "first token, HTTP",
        firsts.iter().map(|(a, _)| *a).collect(),
        "ms",
        "",
    );
    row(
        "first token, direct",
        firsts.iter().map(|(_, b)| *b).collect(),
        "ms",
        "",
    );
    row(
        "first token, added",
        firsts.iter().map(|(a, b)| a - b).collect(),
        "ms",
        "aim <= 3",
    );
}

fn tokens_per_second(story: &Story, times: impl ExactSizeIterator<Item = Duration>) -> f64 {
    let tokens = story.tokens * times.len();
    tokens as f64 / times.sum::<Duration>().as_secs_f64()
}
