//! Images made to hurt: each is an image or a clear 4xx, in bounded time and memory, without a word
//! of a decoder.

mod contents;
mod files;
mod headers;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use image::{DynamicImage, ImageFormat};
use serde_json::Value;

use super::{
    fake_engine::fake_server,
    helpers::{TestServer, about, data_url},
};
use contents::{contents, others, pixels};
use files::*;
use headers::headers;

/// Longest that a bomb may take; they are sent beside other tests, and on any machine.
const TIME: Duration = Duration::from_secs(10);
/// Statuses of an answer: the image, or what is wrong with it.
const REFUSED: &[u16] = &[400, 413, 415, 422];
const ANY: &[u16] = &[200, 400, 413, 415, 422];
const BROKEN: &[u16] = &[422];
const LARGE: &[u16] = &[413];
const TYPE: &[u16] = &[415];
const GOOD: &[u16] = &[200];
const STRIP: &[u16] = &[400];

struct Bomb {
    name: String,
    bytes: Vec<u8>,
    statuses: &'static [u16],
}

fn bomb(name: impl Into<String>, bytes: Vec<u8>, statuses: &'static [u16]) -> Bomb {
    Bomb {
        name: name.into(),
        bytes,
        statuses,
    }
}

const FORMATS: [(&str, ImageFormat); 5] = [
    ("PNG", ImageFormat::Png),
    ("JPEG", ImageFormat::Jpeg),
    ("WebP", ImageFormat::WebP),
    ("GIF", ImageFormat::Gif),
    ("BMP", ImageFormat::Bmp),
];

/// Sends one and checks its answer; the time it took.
async fn check(server: &TestServer, bomb: &Bomb) -> Duration {
    check_within(TIME, server, bomb).await
}

async fn check_within(limit: Duration, server: &TestServer, bomb: &Bomb) -> Duration {
    let started = Instant::now();
    let (status, json) = server.ask(&about(&data_url(&bomb.bytes), "x")).await;
    let elapsed = started.elapsed();
    let name = &bomb.name;
    assert!(bomb.statuses.contains(&status), "{name}: {status} {json}");
    assert!(elapsed < limit, "{name} took {elapsed:?}");
    if status != 200 {
        check_words(name, &json);
    }
    elapsed
}

/// Only the words of this server, never a decoder's.
fn check_words(name: &str, json: &Value) {
    const OURS: [&str; 5] = [
        "the data is not a PNG, JPEG, WebP, GIF or BMP image.",
        "the image is damaged or incomplete and cannot be decoded.",
        "pixels are allowed.",
        "times the shorter.",
        "scans, too many for its size.",
    ];
    let message = json["error"]["message"].as_str().unwrap();
    assert!(
        OURS.iter().any(|ours| message.ends_with(ours)),
        "{name}: {message}"
    );
}

#[tokio::test]
async fn an_image_cut_at_every_64th_byte_is_answered_or_refused() {
    let (server, engine) = fake_server();
    let mut cuts = Vec::new();
    for (name, format) in FORMATS {
        let whole = encoded(format, 90, 70);
        for end in (0..whole.len()).step_by(64).skip(1) {
            // GIF and BMP have no end that could be missed; the others must notice.
            let statuses = match format {
                ImageFormat::Png | ImageFormat::Jpeg => REFUSED,
                _ => ANY,
            };
            // The last chunk of a PNG is empty, and its pixels are whole before it.
            let statuses = if whole.len() - end <= 16 {
                ANY
            } else {
                statuses
            };
            cuts.push(bomb(
                format!("{name} cut at {end}"),
                whole[..end].to_vec(),
                statuses,
            ));
        }
    }
    assert!(cuts.len() > 300, "only {}", cuts.len());
    stream::iter(&cuts)
        .for_each_concurrent(8, |cut| async {
            check(&server, cut).await;
        })
        .await;
    assert!(engine.times_asked() < cuts.len());
}

const ALONE: &str = "PORTHOLE_TEST_ALONE";

/// Bytes of memory that this process has had at most, by the kernel.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}

/// In a process of its own, since the other tests take memory too.
#[tokio::test]
async fn every_bomb_is_answered_or_refused_in_no_more_memory_than_an_image_may_take() {
    if std::env::var_os(ALONE).is_none() {
        let test =
            "bombs::every_bomb_is_answered_or_refused_in_no_more_memory_than_an_image_may_take";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", test, "--nocapture"]).env(ALONE, "1");
        let output = tokio::task::spawn_blocking(move || child.output()).await;
        let output = output.unwrap().unwrap();
        println!("{}", String::from_utf8_lossy(&output.stdout));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        return;
    }
    let (server, _) = fake_server();
    let all = [headers(), contents(), others(), pixels()];
    let bombs: Vec<Bomb> = all.into_iter().flatten().collect();
    assert!(bombs.len() >= 60, "only {}", bombs.len());
    let before = most_memory();
    let (mut peak, mut slowest) = (before, (Duration::ZERO, ""));
    for bomb in &bombs {
        slowest = slowest.max((check(&server, bomb).await, bomb.name.as_str()));
        let now = most_memory();
        if now > peak + (8 << 20) {
            println!("{}: {} MiB", bomb.name, (now - before) >> 20);
        }
        peak = now;
    }
    println!("{} bombs, the slowest {slowest:?}", bombs.len());
    assert!(peak - before < 256 << 20, "{} MiB", (peak - before) >> 20);
}
