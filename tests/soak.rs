//! A soak: a started server under two hundred clients, good and bad, for as long as one likes.
//!
//!     SOAK_SECONDS=600 cargo test --release --test soak -- --ignored --nocapture
//!
//! Nothing may leak (permits, descriptors, memory), every refusal says when to come again, and
//! callers who want more than there is get the same, however many connections each of them has.

mod process;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use process::{Keys, Server};
use reqwest::Client;
use serde_json::{Value, json};

/// Callers that always want more, and how many connections each has.
const FAIR: [(&str, usize); 4] = [
    ("fair-a", 10),
    ("fair-b", 20),
    ("fair-c", 30),
    ("fair-d", 60),
];

async fn start() -> (Server, Keys) {
    let mut keys = Keys::new();
    for (name, _) in FAIR {
        keys.create(name, &[]);
    }
    for name in ["leaver", "painter", "sloth"] {
        keys.create(name, &[]);
    }
    keys.create(
        "limited",
        &["--rpm", "60", "--tpm", "3000", "--concurrency", "4"],
    );
    let settings = [("PORTHOLE__SERVER__MAX_CONNECTIONS_PER_ADDRESS", "2000")];
    (Server::start(&keys, &settings).await, keys)
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    statuses: Mutex<BTreeMap<u16, usize>>,
    /// Tokens each fair caller was billed since the measurement began.
    tokens: Mutex<BTreeMap<&'static str, u64>>,
    faults: Mutex<Vec<String>>,
    left: AtomicUsize,
    measuring: AtomicBool,
    over: AtomicBool,
}

impl Seen {
    fn fault(&self, fault: String) {
        let mut faults = self.faults.lock().unwrap();
        if faults.len() < 20 {
            faults.push(fault);
        }
    }

    /// Counts an answer; every refusal must say when to come again.
    fn count(&self, response: &reqwest::Response) {
        let status = response.status().as_u16();
        *self.statuses.lock().unwrap().entry(status).or_default() += 1;
        let headers = response.headers();
        let says_when = headers.contains_key("retry-after")
            || headers.get("x-should-retry").is_some_and(|v| v == "false");
        if matches!(status, 429 | 503) && !says_when {
            self.fault(format!("a {status} without Retry-After"));
        }
        if status >= 500 && status != 503 {
            self.fault(format!("a {status}"));
        }
    }
}

struct Worker {
    client: Client,
    base: String,
    keys: Arc<Keys>,
    seen: Arc<Seen>,
    /// A generator of its own, so that a run can be told apart by nothing but time.
    random: u64,
}

impl Worker {
    fn random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    async fn send(&self, key: &str, body: &Value) -> Option<reqwest::Response> {
        let url = format!("{}/v1/chat/completions", self.base);
        let sent = self
            .client
            .post(url)
            .bearer_auth(key)
            .json(body)
            .send()
            .await;
        match sent {
            Ok(response) => {
                self.seen.count(&response);
                Some(response)
            }
            Err(error) => {
                if !self.seen.over.load(Ordering::Relaxed) {
                    self.seen.fault(format!("no answer: {error}"));
                }
                None
            }
        }
    }

    fn key(&self, name: &str) -> String {
        self.keys.of[name].clone()
    }

    /// Streams story after story.
    async fn fair(self, name: &'static str) {
        while !self.seen.over.load(Ordering::Relaxed) {
            let body = json!({"model": "demo", "stream": true, "stream_options": {"include_usage": true}, "max_completion_tokens": 64,
                "messages": [{"role": "user", "content": "Tell me a story."}]});
            let Some(response) = self.send(&self.key(name), &body).await else {
                continue;
            };
            let ok = response.status() == 200;
            let Ok(text) = response.text().await else {
                continue;
            };
            if !ok {
                tokio::time::sleep(Duration::from_secs(1)).await;
            } else if !text.ends_with("data: [DONE]\n\n") {
                self.seen.fault(format!(
                    "{name}: a stream broke off: {}",
                    &text[text.len().saturating_sub(200)..]
                ));
            } else if self.seen.measuring.load(Ordering::Relaxed) {
                let usage = text.lines().rev().find_map(|line| {
                    let chunk: Value = serde_json::from_str(line.strip_prefix("data: ")?).ok()?;
                    chunk["usage"]["total_tokens"].as_u64()
                });
                *self.seen.tokens.lock().unwrap().entry(name).or_default() += usage.unwrap_or(0);
            }
        }
    }

    /// Asks as fast as answers come, with a key that may not.
    async fn limited(self) {
        let body = json!({"model": "demo", "messages": [{"role": "user", "content": "Hi"}]});
        while !self.seen.over.load(Ordering::Relaxed) {
            if let Some(response) = self.send(&self.key("limited"), &body).await {
                let _ = response.bytes().await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Goes away before the head, in the middle, or not at all.
    async fn leaver(mut self) {
        let body = json!({"model": "demo", "stream": true, "messages": [{"role": "user", "content": "Tell me a story."}]});
        while !self.seen.over.load(Ordering::Relaxed) {
            let patience = Duration::from_millis(self.random(1_500));
            let key = self.key("leaver");
            let whole = async {
                let mut response = self.send(&key, &body).await?;
                while let Ok(Some(_)) = response.chunk().await {}
                Some(())
            };
            if tokio::time::timeout(patience, whole).await.is_err() {
                self.seen.left.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Reads a little, then nothing for a while.
    async fn sloth(self) {
        let body = json!({"model": "demo", "stream": true, "messages": [{"role": "user", "content": "Tell me a story."}]});
        while !self.seen.over.load(Ordering::Relaxed) {
            if let Some(mut response) = self.send(&self.key("sloth"), &body).await {
                while let Ok(Some(_)) = response.chunk().await {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Strangers and nonsense.
    async fn stranger(mut self) {
        while !self.seen.over.load(Ordering::Relaxed) {
            let wrong = [
                "pk-wrong",
                "x",
                "eyJhbGciOiJub25lIn0.e30.",
                "pk-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            ];
            let bodies = [
                json!({"model": "demo"}),
                json!([]),
                json!({"model": "demo", "messages": "x".repeat(100_000)}),
            ];
            let (key, body) = if self.random(2) == 0 {
                (
                    wrong[self.random(4) as usize].to_string(),
                    bodies[0].clone(),
                )
            } else {
                (self.key("painter"), bodies[self.random(3) as usize].clone())
            };
            if let Some(response) = self.send(&key, &body).await {
                let _ = response.bytes().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Images of all kinds: good, broken, bombs, and URLs to where nobody may go.
    async fn painter(mut self, images: Arc<Vec<String>>) {
        while !self.seen.over.load(Ordering::Relaxed) {
            let url = &images[self.random(images.len() as u64) as usize];
            let body = json!({"model": "demo", "max_completion_tokens": 8, "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]}]});
            if let Some(response) = self.send(&self.key("painter"), &body).await {
                let _ = response.bytes().await;
            }
        }
    }
}

fn images() -> Vec<String> {
    let mut urls: Vec<String> = [
        "http://127.0.0.1:22/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/x.png",
        "file:///etc/passwd",
        "http://0x7f000001/",
        "data:image/png;base64,@@@@",
    ]
    .map(String::from)
    .into();
    let mut files = Vec::new();
    for entry in std::fs::read_dir("models/demo/images").unwrap().flatten() {
        files.push(std::fs::read(entry.path()).unwrap());
    }
    for bytes in &files {
        for cut in [bytes.len(), bytes.len() / 2, 40] {
            urls.push(format!(
                "data:image/png;base64,{}",
                base64_simd::STANDARD.encode_to_string(&bytes[..cut])
            ));
        }
    }
    // A bomb: 65,535 x 65,535 pixels, says the header.
    let mut bomb = files[0].clone();
    bomb[16..24].copy_from_slice(&[0, 0, 255, 255, 0, 0, 255, 255]);
    urls.push(format!(
        "data:image/png;base64,{}",
        base64_simd::STANDARD.encode_to_string(&bomb)
    ));
    let large = image::RgbImage::from_fn(3_000, 2_000, |x, y| {
        image::Rgb([x as u8, y as u8, (x ^ y) as u8])
    });
    let mut jpeg = std::io::Cursor::new(Vec::new());
    large.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    urls.push(format!(
        "data:image/jpeg;base64,{}",
        base64_simd::STANDARD.encode_to_string(jpeg.into_inner())
    ));
    urls
}

fn workers(server: &Server, keys: Keys, seen: &Arc<Seen>) -> Vec<tokio::task::JoinHandle<()>> {
    let (images, keys) = (Arc::new(images()), Arc::new(keys));
    let mut seed = 0;
    let mut worker = || {
        seed += 1;
        Worker {
            client: Client::new(),
            base: server.base.clone(),
            keys: keys.clone(),
            seen: seen.clone(),
            random: seed * 7_919,
        }
    };
    let mut tasks = Vec::new();
    for (name, connections) in FAIR {
        tasks.extend((0..connections).map(|_| tokio::spawn(worker().fair(name))));
    }
    tasks.extend((0..20).map(|_| tokio::spawn(worker().limited())));
    tasks.extend((0..30).map(|_| tokio::spawn(worker().leaver())));
    tasks.extend((0..10).map(|_| tokio::spawn(worker().sloth())));
    tasks.extend((0..10).map(|_| tokio::spawn(worker().stranger())));
    tasks.extend((0..10).map(|_| tokio::spawn(worker().painter(images.clone()))));
    tasks
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as SOAK_SECONDS says, ten minutes if nothing is said"]
async fn two_hundred_clients_leave_nothing_behind() {
    let seconds: u64 = std::env::var("SOAK_SECONDS").map_or(600, |text| text.parse().unwrap());
    let (server, keys) = start().await;
    let (_, idle_descriptors) = server.resources();
    let seen = Arc::new(Seen::default());
    let tasks = workers(&server, keys, &seen);
    let warm = Duration::from_secs((seconds / 4).min(60));
    tokio::time::sleep(warm).await;
    seen.measuring.store(true, Ordering::Relaxed);
    let mut samples = Vec::new();
    let started = Instant::now();
    while started.elapsed() + warm < Duration::from_secs(seconds) {
        samples.push(server.resources());
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    seen.measuring.store(false, Ordering::Relaxed);
    seen.over.store(true, Ordering::Relaxed);
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(180), task)
            .await
            .unwrap()
            .unwrap();
    }
    report(&seen, &samples);
    nothing_is_left(&server, idle_descriptors).await;
    judge(&seen, &samples);
}

fn report(seen: &Seen, samples: &[(u64, usize)]) {
    println!("statuses {:?}", seen.statuses.lock().unwrap());
    println!("left in the middle {}", seen.left.load(Ordering::Relaxed));
    println!(
        "tokens of the fair callers {:?}",
        seen.tokens.lock().unwrap()
    );
    let (first, last) = (samples.first().unwrap(), samples.last().unwrap());
    let highest = samples.iter().map(|(resident, _)| resident).max().unwrap();
    println!(
        "resident kB {} .. {}, at most {highest}; descriptors {} .. {}",
        first.0, last.0, first.1, last.1
    );
}

async fn nothing_is_left(server: &Server, idle_descriptors: usize) {
    let started = Instant::now();
    loop {
        let busy = server
            .metric("porthole_requests_running{model=\"demo\"}")
            .await
            + server
                .metric("porthole_requests_waiting{model=\"demo\"}")
                .await;
        let (_, descriptors) = server.resources();
        // A connection of this very question.
        if busy == 0.0 && descriptors <= idle_descriptors + 2 {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "{busy} requests and {descriptors} descriptors are left"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn judge(seen: &Seen, samples: &[(u64, usize)]) {
    let faults = seen.faults.lock().unwrap();
    assert!(faults.is_empty(), "{faults:#?}");
    let statuses = seen.statuses.lock().unwrap();
    for status in [200, 400, 401, 422, 429] {
        assert!(statuses.contains_key(&status), "no {status} was provoked");
    }
    let tokens = seen.tokens.lock().unwrap();
    let mean = tokens.values().sum::<u64>() as f64 / FAIR.len() as f64;
    for (name, tokens) in tokens.iter() {
        let share = *tokens as f64 / mean;
        assert!(
            (0.9..=1.1).contains(&share),
            "{name} got {share:.2} of an equal share"
        );
    }
    // The mean of the last quarter against that of the first: under a tenth more.
    let quarter = (samples.len() / 4).max(1);
    let resident = |samples: &[(u64, usize)]| {
        samples.iter().map(|(kb, _)| *kb as f64).sum::<f64>() / samples.len() as f64
    };
    let (early, late) = (
        resident(&samples[..quarter]),
        resident(&samples[samples.len() - quarter..]),
    );
    assert!(
        late < early * 1.1,
        "memory grew from {early:.0} to {late:.0} kB"
    );
}
