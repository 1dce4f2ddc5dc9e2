//! The whole HTTP path on an engine that takes no time, against a handler that parses the same JSON
//! and answers with as many bytes. Both run with the same workers and the same clients.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::mpsc,
    time::{Duration, Instant},
};

use actix_web::{App, HttpResponse, HttpServer, web};

use super::null_engine::{NullEngine, serve};
use crate::{ROUNDS, ms, ratio, row};

const CONNECTIONS: usize = 8;
const REQUESTS: usize = 400;
const BURST: usize = 256;

fn raw_server(answer: Vec<u8>) -> u16 {
    let (port, started) = mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let factory = move || {
                let answer = web::Bytes::from(answer.clone());
                App::new().route(
                    "/v1/chat/completions",
                    web::post().to(move |body: web::Bytes| {
                        let answer = answer.clone();
                        async move {
                            let json = serde_json::from_slice::<serde_json::Value>(&body);
                            assert!(json.is_ok_and(|json| json["model"] == "demo"));
                            HttpResponse::Ok()
                                .content_type("application/json")
                                .body(answer)
                        }
                    }),
                )
            };
            let server = HttpServer::new(factory)
                .bind("127.0.0.1:0")
                .expect("a free port");
            port.send(server.addrs()[0].port())
                .expect("the bench waits");
            server.run().await.expect("the server runs");
        });
    });
    started.recv().expect("the server starts")
}

/// One keep-alive connection, as cheap as can be.
struct Client {
    reader: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Client {
    fn new(port: u16, body: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            reader: BufReader::new(stream),
            request: request.into_bytes(),
        }
    }

    /// Sends the request and reads the whole answer, plain or chunked.
    fn ask(&mut self) -> Vec<u8> {
        self.reader
            .get_mut()
            .write_all(&self.request)
            .expect("the server reads");
        let (mut length, mut status) = (None, String::new());
        self.reader
            .read_line(&mut status)
            .expect("the server answers");
        assert!(status.contains(" 200 "), "{status}");
        loop {
            let mut line = String::new();
            self.reader
                .read_line(&mut line)
                .expect("the server answers");
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse::<usize>().ok();
            }
        }
        let mut body = Vec::new();
        if let Some(length) = length {
            body.resize(length, 0);
            self.reader.read_exact(&mut body).expect("the whole body");
            return body;
        }
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).expect("a chunk");
            let size = usize::from_str_radix(line.trim_end(), 16).expect("the size of a chunk");
            let start = body.len();
            body.resize(start + size + 2, 0);
            self.reader
                .read_exact(&mut body[start..])
                .expect("the whole chunk");
            body.truncate(start + size);
            if size == 0 {
                return body;
            }
        }
    }
}

/// Requests a second and the latency of each, over all connections.
fn load(port: u16, body: &str) -> (f64, Vec<Duration>) {
    let started = Instant::now();
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = Client::new(port, body);
            std::thread::spawn(move || {
                let timed = (0..REQUESTS).map(|_| {
                    let started = Instant::now();
                    client.ask();
                    started.elapsed()
                });
                timed.collect::<Vec<_>>()
            })
        })
        .collect();
    let mut latencies: Vec<Duration> = threads
        .into_iter()
        .flat_map(|t| t.join().expect("a client"))
        .collect();
    latencies.sort();
    (
        (CONNECTIONS * REQUESTS) as f64 / started.elapsed().as_secs_f64(),
        latencies,
    )
}

pub(crate) fn run() {
    let body = r#"{"model":"demo","temperature":0,"messages":[{"role":"system","content":"You are brief."},{"role":"user","content":"What is the capital of the country whose flag is a red disc on white?"}]}"#;
    let ours = serve(NullEngine::new());
    let answer = Client::new(ours, body).ask();
    let raw = raw_server(answer);
    load(ours, body);
    load(raw, body);
    let (mut rates, mut p50, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (our_rate, our_times) = load(ours, body);
        let (raw_rate, raw_times) = load(raw, body);
        rates.push((our_rate, raw_rate));
        let at = |times: &[Duration], part: usize| ms(times[times.len() * part / 100]);
        p50.push(at(&our_times, 50) - at(&raw_times, 50));
        p99.push(at(&our_times, 99) - at(&raw_times, 99));
    }
    row(
        "http: requests a second",
        rates.iter().map(|(a, _)| *a).collect(),
        "/s",
    );
    row(
        "http: requests a second, handler that only parses",
        rates.iter().map(|(_, b)| *b).collect(),
        "/s",
    );
    ratio(
        "http: requests/s, ours / handler that only parses",
        &rates,
        "aim 0.5",
    );
    row("http: added p50, 8 busy connections", p50, "ms");
    row("http: added p99, 8 busy connections", p99, "ms");

    let body = format!(
        r#"{{"model":"demo","stream":true,"max_tokens":{BURST},"messages":[{{"role":"user","content":"x"}}]}}"#
    );
    let mut client = Client::new(ours, &body);
    client.ask();
    let bursts = (0..ROUNDS * 20).map(|_| {
        let started = Instant::now();
        let bytes = client.ask();
        assert_eq!(
            bytes.windows(6).filter(|w| w == b"data: ").count(),
            BURST + 3
        );
        ms(started.elapsed())
    });
    let median = row("http: burst of 256 streamed tokens", bursts.collect(), "ms");
    println!(
        "{:<58} {:>10.3} us",
        "http: a streamed token in a burst",
        median * 1e3 / BURST as f64
    );
}
