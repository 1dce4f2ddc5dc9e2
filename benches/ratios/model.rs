//! The demo model through HTTP, streamed, against the same engine called directly.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use image::RgbImage;
use porthole::{
    config::{ImagesConfig, ModelConfig},
    engine::{
        Engine, Event, Inquiry, Job, Part, Role, SamplingParams, Turn, mistral::MistralEngine,
    },
    media::image as media,
    metrics::{Activity, Metrics},
};
use serde_json::json;

use super::null_engine::serve;
use crate::{ROUNDS, ms, ratio, row};

const IMAGE: &str = "models/demo/images/22-story-en.png";
const QUESTION: &str = "Write a story about this picture.";
/// Answers a round; one is too short to time.
const ANSWERS: usize = 5;

struct Timed {
    first: Duration,
    whole: Duration,
    tokens: usize,
}

async fn direct(engine: &dyn Engine, image: &RgbImage) -> Timed {
    let parts = vec![Part::Image(image.dimensions()), Part::Text(QUESTION.into())];
    let sampling = SamplingParams {
        temperature: Some(0.0),
        ..SamplingParams::default()
    };
    let started = Instant::now();
    let turn = Turn::new(Role::User, parts);
    let prompt = engine.prepare(Inquiry::chat(vec![turn])).await;
    let job = Job {
        images: Arc::new(vec![image.clone()]),
        sampling,
        activity: Activity::unseen(),
        on_end: Box::new(|_| {}),
    };
    let events = prompt.expect("the engine answers").generate(job).await;
    let mut events = events.expect("the engine answers");
    let mut first = None;
    while let Some(event) = events.next().await {
        first.get_or_insert_with(|| started.elapsed());
        if let Event::Finished { usage, .. } = event.expect("the engine answers") {
            let first = first.unwrap_or_default();
            return Timed {
                first,
                whole: started.elapsed(),
                tokens: usage.completion,
            };
        }
    }
    panic!("the engine did not finish");
}

async fn http(client: &reqwest::Client, url: &str, body: &serde_json::Value) -> Timed {
    let started = Instant::now();
    let mut response = client
        .post(url)
        .json(body)
        .send()
        .await
        .expect("the server answers");
    let (mut first, mut text) = (None, String::new());
    while let Some(bytes) = response.chunk().await.expect("the stream goes on") {
        text.push_str(&String::from_utf8_lossy(&bytes));
        if text.matches("data: ").count() > 1 {
            first.get_or_insert_with(|| started.elapsed());
        }
    }
    let whole = started.elapsed();
    let usage = text
        .split("\"completion_tokens\":")
        .nth(1)
        .expect("a usage chunk");
    let digits: String = usage.chars().take_while(char::is_ascii_digit).collect();
    Timed {
        first: first.unwrap_or_default(),
        whole,
        tokens: digits.parse().expect("a count"),
    }
}

pub(crate) fn run() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let metrics = Arc::new(Metrics::default());
        let engine = MistralEngine::load(ModelConfig::default(), metrics).await.expect("models/demo");
        let engine: Arc<dyn Engine> = Arc::new(engine);
        let url = format!("http://127.0.0.1:{}/v1/chat/completions", serve(engine.clone()));
        let bytes = std::fs::read(IMAGE).expect("run from the root of the repository");
        let data = format!("data:image/png;base64,{}", base64_simd::STANDARD.encode_to_string(&bytes));
        let body = json!({
            "model": "demo", "temperature": 0, "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": data}}, {"type": "text", "text": QUESTION},
            ]}],
        });
        let header = media::inspect(&bytes, &ImagesConfig::default()).expect("an image");
        let (width, height) = header.upright();
        let target = engine
            .info()
            .geometry
            .expect("it sees images")
            .target(width, height, 1 << 20);
        let image = Arc::new(media::decode(&bytes, header, target).expect("an image"));
        let client = reqwest::Client::new();
        direct(engine.as_ref(), &image).await;
        http(&client, &url, &body).await;

        let (mut speeds, mut added) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (mut through, mut straight) = ((0, 0.0), (0, 0.0));
            for _ in 0..ANSWERS {
                let a = http(&client, &url, &body).await;
                let b = direct(engine.as_ref(), &image).await;
                through = (through.0 + a.tokens, through.1 + a.whole.as_secs_f64());
                straight = (straight.0 + b.tokens, straight.1 + b.whole.as_secs_f64());
                added.push(ms(a.first) - ms(b.first));
            }
            assert_eq!(through.0, straight.0, "both sides answer alike");
            speeds.push((through.0 as f64 / through.1, straight.0 as f64 / straight.1));
        }
        row("model: tokens/s through HTTP", speeds.iter().map(|(a, _)| *a).collect(), "/s");
        row("model: tokens/s of the engine called directly", speeds.iter().map(|(_, b)| *b).collect(), "/s");
        ratio("model: tokens/s, HTTP / direct", &speeds, "aim 0.98");
        row("model: added time to first token", added, "ms");
    });
}
