//! The whole HTTP path on an engine that takes no time, against a handler that only parses the same
//! JSON and answers with as many bytes.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    client::Client,
    servers::{self, NullEngine, Pace},
};
use crate::{ROUNDS, ms, row, title, us};

const CONNECTIONS: usize = 8;
/// Of each connection in a round.
const REQUESTS: usize = 500;
const BURST: usize = 256;
/// Bursts in a round.
const BURSTS: usize = 40;

const BODY: &str = r#"{"model":"demo","temperature":0,"messages":[{"role":"system","content":"You are brief."},{"role":"user","content":"What is the capital of the country whose flag is a red disc on white?"}]}"#;

struct Load {
    per_second: f64,
    cpu_us: f64,
    p50: f64,
    p99: f64,
}

pub(crate) fn run() {
    let engine = NullEngine::new(Pace::Burst);
    let ours = servers::porthole(engine);
    plain(ours);
    let drip = servers::porthole(NullEngine::new(Pace::TokenByToken));
    streamed(ours, drip);
}

fn plain(ours: u16) {
    let raw = servers::raw(Client::new(ours, BODY).body());
    load(ours);
    load(raw);
    let rounds: Vec<(Load, Load)> = (0..ROUNDS).map(|_| (load(ours), load(raw))).collect();

    title("HTTP, 8 connections: Porthole on a null engine / actix handler that only parses");
    let of = |value: fn(&(Load, Load)) -> f64| rounds.iter().map(value).collect::<Vec<f64>>();
    row("requests/s, Porthole", of(|(a, _)| a.per_second), "/s", "");
    row(
        "requests/s, raw handler",
        of(|(_, b)| b.per_second),
        "/s",
        "",
    );
    row(
        "requests/s, ratio",
        of(|(a, b)| a.per_second / b.per_second),
        "x",
        "aim >= 0.5",
    );
    row("p50, Porthole", of(|(a, _)| a.p50), "ms", "");
    row("p50, raw handler", of(|(_, b)| b.p50), "ms", "");
    row("p50, added", of(|(a, b)| a.p50 - b.p50), "ms", "");
    row("p99, Porthole", of(|(a, _)| a.p99), "ms", "");
    row("p99, raw handler", of(|(_, b)| b.p99), "ms", "");
    row("p99, added", of(|(a, b)| a.p99 - b.p99), "ms", "");
    row(
        "worker CPU a request, Porthole",
        of(|(a, _)| a.cpu_us),
        "us",
        "aim <= 100",
    );
    row(
        "worker CPU a request, raw handler",
        of(|(_, b)| b.cpu_us),
        "us",
        "",
    );
    // The clients' work is not in this one, so it is harder than the ratio of requests.
    row(
        "worker CPU a request, raw / Porthole",
        of(|(a, b)| b.cpu_us / a.cpu_us),
        "x",
        "",
    );
}

fn load(port: u16) -> Load {
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::new(port, BODY)).collect();
    let cpu = servers::worker_cpu();
    let started = Instant::now();
    let mut latencies: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| ask_often(client)))
            .collect();
        let latencies = threads
            .into_iter()
            .map(|thread| thread.join().expect("every answer is 200"));
        latencies.flatten().collect()
    });
    let elapsed = started.elapsed();
    let cpu = servers::worker_cpu() - cpu;
    latencies.sort();
    let count = latencies.len();
    Load {
        per_second: count as f64 / elapsed.as_secs_f64(),
        cpu_us: us(cpu) / count as f64,
        p50: ms(latencies[count / 2]),
        p99: ms(latencies[count * 99 / 100]),
    }
}

fn ask_often(client: &mut Client) -> Vec<Duration> {
    let timed = (0..REQUESTS).map(|_| {
        let started = Instant::now();
        client.ask(|_| ());
        started.elapsed()
    });
    timed.collect()
}

struct Bursts {
    p50: f64,
    p99: f64,
    cpu_us: f64,
}

/// Streams of 256 tokens, one after another.
fn streamed(burst: u16, drip: u16) {
    let body = format!(
        r#"{{"model":"demo","stream":true,"max_tokens":{BURST},"messages":[{{"role":"user","content":"Go on."}}]}}"#
    );
    let mut clients = [burst, drip].map(|port| Client::new(port, &body));
    for client in &mut clients {
        bursts(client);
    }
    let rounds: Vec<[Bursts; 2]> = (0..ROUNDS)
        .map(|_| clients.each_mut().map(bursts))
        .collect();

    title("HTTP: a stream of 256 tokens from a null engine, one connection");
    for (side, name) in ["all ready at once", "token by token"].iter().enumerate() {
        let of = |value: fn(&Bursts) -> f64| {
            rounds
                .iter()
                .map(|round| value(&round[side]))
                .collect::<Vec<f64>>()
        };
        row(
            &format!("{name}: p50 of the whole"),
            of(|b| b.p50),
            "ms",
            "aim <= 3",
        );
        row(
            &format!("{name}: p99 of the whole"),
            of(|b| b.p99),
            "ms",
            "aim <= 10",
        );
        row(
            &format!("{name}: wall time a token"),
            of(|b| b.p50 * 1e3 / BURST as f64),
            "us",
            "",
        );
        row(
            &format!("{name}: worker CPU a token"),
            of(|b| b.cpu_us),
            "us",
            "aim <= 3.5",
        );
    }
}

fn bursts(client: &mut Client) -> Bursts {
    let cpu = servers::worker_cpu();
    let mut answer = Vec::with_capacity(1 << 17);
    let mut times: Vec<Duration> = (0..BURSTS)
        .map(|_| {
            answer.clear();
            let started = Instant::now();
            client.ask(|piece| answer.extend_from_slice(piece));
            let elapsed = started.elapsed();
            // The role, the finish and the end come on top. A stream that lost an event is no figure.
            let events = answer.windows(6).filter(|bytes| bytes == b"data: ").count();
            assert_eq!(events, BURST + 3);
            elapsed
        })
        .collect();
    let cpu = servers::worker_cpu() - cpu;
    times.sort();
    Bursts {
        p50: ms(times[BURSTS / 2]),
        p99: ms(times[BURSTS * 99 / 100]),
        cpu_us: us(cpu) / (BURSTS * BURST) as f64,
    }
}
