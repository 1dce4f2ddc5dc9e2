//! `porthole bench`, as it is typed, against servers of which it is known what they do.

mod server;

use std::{
    collections::HashSet,
    process::{Command, Output, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    fake_engine::{PROMPT, fake_server},
    openapi::validator::Document,
};
use server::{Reply, STOP, WORD, scripted};

fn command(url: &str, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_porthole"));
    command
        .args(["bench", "--url", url])
        .args(args.split_whitespace())
        .env_remove("PORTHOLE_API_KEY")
        .env_remove("OPENAI_API_KEY");
    command
}

struct Ran {
    output: Output,
    json: Value,
}

impl Ran {
    fn point(&self) -> &Value {
        &self.json["points"][0]
    }

    /// A time in ms, such as `latency_ms/e2e/p99`.
    fn ms(&self, path: &str) -> f64 {
        let value = self.point().pointer(&format!("/{path}"));
        let number = value.and_then(Value::as_f64);
        number.unwrap_or_else(|| panic!("no {path} in {:#}", self.point()))
    }

    fn said(&self) -> String {
        let (out, err) = (&self.output.stdout, &self.output.stderr);
        String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
    }
}

/// Runs it with `--json`, and holds what it writes against the schema.
fn bench(url: &str, args: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result.json");
    let output = command(url, args)
        .arg("--json")
        .arg(&file)
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let json = serde_json::from_str(&text).unwrap_or_else(|e| {
        panic!("{e}: {text:?}: {}", String::from_utf8_lossy(&output.stderr));
    });
    valid(&json);
    Ran { output, json }
}

fn valid(report: &Value) {
    let text = std::fs::read_to_string("docs/bench.schema.json").unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    let words = schema.as_object_mut().unwrap();
    for word in ["$schema", "title"] {
        words.remove(word).unwrap();
    }
    let parts = words.remove("$defs").unwrap();
    let document = json!({"$defs": parts, "components": {"schemas": {"Report": schema}}});
    Document(document).check("Report", report).unwrap();
}

#[test]
fn counts_are_what_the_server_was_asked_and_what_it_said() {
    let (server, engine) = fake_server();
    let ran = bench(
        &format!("{}/v1", server.base),
        "--requests 40 --concurrency 4 --warmup 3 --prompt-tokens 20 --images 0:0.5,1:0.3,2:0.2 --image-size 32x32,64x32",
    );
    assert!(ran.output.status.success(), "{}", ran.said());
    let point = ran.point();
    assert_eq!(engine.times_asked(), 43);
    assert_eq!(
        (&point["requests"]["ok"], &point["requests"]["failed"]),
        (&json!(40), &json!(0))
    );
    // The engine echoes the words of the prompt, one an event, and counts one token more.
    let tokens = &point["tokens"];
    assert_eq!(tokens["source"], "usage");
    assert_eq!(tokens["output"], 40 * 21);
    assert_eq!(tokens["events"], 40 * 20);
    assert_eq!(tokens["prompt"], 40 * PROMPT.total);
    assert_eq!(point["latency_ms"]["inter_token"]["count"], 40 * 19);
    assert_eq!(point["finish_reasons"], json!({"stop": 40}));
    assert_eq!(ran.json["target"]["model"], "demo");
    let asked = engine.asked.lock().unwrap();
    let measured: usize = asked[3..].iter().map(|asked| asked.images.len()).sum();
    assert_eq!(point["requests"]["images"], measured);
    let images = asked.iter().flat_map(|asked| &asked.images);
    let images: Vec<_> = images.map(|image| image.as_raw().clone()).collect();
    let different: HashSet<_> = images.iter().collect();
    assert!(images.len() > 10 && different.len() == images.len());
    let buckets = point["timeline"]["buckets"].as_array().unwrap();
    let sum = |what: &str| {
        buckets
            .iter()
            .map(|b| b[what].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((sum("sent"), sum("finished"), sum("output")), (40, 40, 800));
}

#[test]
fn the_same_image_is_one_image_and_whole_answers_have_no_first_token() {
    let (server, engine) = fake_server();
    let ran = bench(
        &format!("{}/v1/", server.base),
        "--requests 5 --warmup 0 --images 1 --same-image --image-size 32x32 --no-stream --max-tokens 9",
    );
    assert!(ran.output.status.success(), "{}", ran.said());
    let asked = engine.asked.lock().unwrap();
    let images: HashSet<_> = asked.iter().map(|a| a.images[0].as_raw().clone()).collect();
    assert_eq!((asked.len(), images.len()), (5, 1));
    assert_eq!(asked[0].sampling.max_tokens, Some(9));
    let point = ran.point();
    assert_eq!(point["latency_ms"]["ttft"], Value::Null);
    assert_eq!(point["latency_ms"]["e2e"]["count"], 5);
    assert_eq!(point["tokens"]["source"], "usage");
    assert_eq!(point["timeline"]["output_unit"], "tokens");
}

/// A server that answers nobody from one second to two after its first request.
fn stalling() -> String {
    let first = Arc::new(OnceLock::new());
    scripted(move |_, _| {
        let begun: Instant = *first.get_or_init(Instant::now);
        async move {
            let since = begun.elapsed();
            let stall = Duration::from_secs(1)..Duration::from_secs(2);
            let left = match stall.contains(&since) {
                true => stall.end - since,
                false => Duration::ZERO,
            };
            Reply::good().after(left + Duration::from_millis(2))
        }
    })
}

#[test]
fn a_stall_is_in_the_latencies_of_an_open_loop_even_if_requests_waited_to_be_sent() {
    let args = "--rate 50 --duration 4s --warmup 0";
    let ran = bench(&stalling(), args);
    assert_eq!(ran.point()["requests"]["ok"], 200);
    assert_eq!(ran.point()["measured_from"], "intended send");
    // A quarter of the requests were due in the stall, and waited for half of it on average.
    assert!(ran.ms("latency_ms/e2e/p99") > 900.0, "{}", ran.said());
    assert!(ran.ms("latency_ms/e2e/p90") > 500.0, "{}", ran.said());
    assert!(ran.ms("latency_ms/ttft/p99") > 900.0);
    assert!(ran.ms("latency_ms/e2e/p50") < 300.0, "{}", ran.said());

    // With a single request at once only one can meet the stall, but those that were due behind it waited as long.
    let ran = bench(&stalling(), &format!("{args} --max-in-flight 1"));
    assert_eq!(ran.point()["requests"]["ok"], 200);
    assert!(ran.ms("from_send_ms/e2e/p90") < 500.0, "{}", ran.said());
    assert!(ran.ms("latency_ms/e2e/p99") > 900.0, "{}", ran.said());
    assert!(ran.ms("latency_ms/e2e/p90") > 500.0, "{}", ran.said());
    assert!(ran.ms("generator/send_delay_ms/p99") > 800.0);
    assert_eq!(ran.point()["generator"]["keeps_up"], false);
    assert!(ran.said().contains("did not keep up"), "{}", ran.said());
}

#[test]
fn a_closed_loop_hides_the_stall_and_says_so() {
    let ran = bench(&stalling(), "--concurrency 1 --duration 4s --warmup 0");
    assert_eq!(ran.point()["measured_from"], "actual send");
    assert!(ran.ms("latency_ms/e2e/max") > 900.0, "{}", ran.said());
    assert!(ran.ms("latency_ms/e2e/p90") < 500.0, "{}", ran.said());
    assert!(ran.said().contains("hides queueing"));
}

/// Seven answers in turn, of which three are good.
fn motley() -> String {
    scripted(|n, _| async move {
        let error =
            r#"{"error": {"message": "slow\u001b[2J down", "code": "rate_limit_exceeded"}}"#;
        match n % 7 {
            0 => Reply::good(),
            // Its `[DONE]` is missing.
            1 => Reply::stream(&[WORD, STOP]),
            2 => Reply::new(429, "application/json", error),
            3 => Reply::stream(&[
                WORD,
                r#"{"error": {"message": "died", "type": "server_error"}}"#,
            ]),
            // Whole by its length, but with neither a finish reason nor `[DONE]`.
            4 => Reply::stream(&[WORD]),
            5 => Reply::good().cut(5),
            _ => Reply::new(200, "text/html", "<html>"),
        }
    })
}

#[test]
fn errors_are_counted_by_their_kind() {
    let url = motley();
    let ran = bench(&url, "--requests 70 --concurrency 5 --warmup 0");
    assert_eq!(ran.output.status.code(), Some(1));
    let point = ran.point();
    let failures = point["failures"].as_array().unwrap().iter();
    let kinds: HashSet<_> = failures
        .map(|f| (f["kind"].as_str().unwrap(), f["count"].as_u64().unwrap()))
        .collect();
    let expected = [
        "http_429 rate_limit_exceeded",
        "error_event server_error",
        "stream_cut",
        "connection_lost",
        "bad_answer",
    ];
    assert_eq!(kinds, HashSet::from(expected.map(|kind| (kind, 10))));
    assert_eq!(
        (&point["requests"]["ok"], &point["requests"]["failed"]),
        (&json!(20), &json!(50))
    );
    assert_eq!(point["tokens"]["source"], "events");
    let said = ran.said();
    for part in [
        "slow [2J down",
        "10 streams ended with a finish reason and without [DONE]",
        "no answer had usage",
        "50 requests failed",
    ] {
        assert!(said.contains(part), "{part} is missing from {said}");
    }
    assert!(!said.contains('\u{1b}'));
    let ran = bench(&url, "--requests 7 --warmup 0 --allow-errors");
    assert!(ran.output.status.success());
}

#[test]
fn slow_answers_time_out_and_servers_that_are_not_there_are_said() {
    let url = scripted(|_, _| async { Reply::good().after(Duration::from_secs(60)) });
    let ran = bench(
        &url,
        "--requests 3 --concurrency 3 --warmup 0 --timeout 0.2s",
    );
    assert_eq!(ran.point()["failures"][0]["kind"], "timeout");
    assert_eq!(ran.point()["failures"][0]["count"], 3);
    assert_eq!(ran.point()["latency_ms"]["e2e"], Value::Null);

    let output = command("http://127.0.0.1:1/v1", "--requests 1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/models: connect: "), "{said}");

    let url = scripted(|_, _| async { Reply::new(503, "application/json", "{}") });
    let output = command(&url, "--requests 1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("no request of the warm-up was answered: http_503"),
        "{said}"
    );
}

#[test]
fn the_key_is_sent_and_never_told() {
    let key = "sk-do-not-tell";
    let url = scripted(move |_, head| async move {
        assert!(
            head.contains(&format!("authorization: Bearer {key}")),
            "{head}"
        );
        let said = json!({"error": {"message": format!("bad key {key}"), "code": "bad"}});
        Reply::new(401, "application/json", &said.to_string())
    });
    let ran = bench(&url, &format!("--requests 2 --warmup 0 --api-key {key}"));
    assert_eq!(ran.point()["failures"][0]["kind"], "http_401 bad");
    assert_eq!(ran.point()["failures"][0]["example"], "bad key ***");
    assert!(!ran.json.to_string().contains(key) && !ran.said().contains(key));
    // From the environment too.
    let output = command(&url, "--requests 1")
        .env("OPENAI_API_KEY", key)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("bad key ***"), "{said}");
}

#[test]
fn an_interrupt_ends_it_with_what_there_is() {
    let url = scripted(|n, _| async move {
        // The third and all later ones hang.
        Reply::good().after(Duration::from_secs(if n < 2 { 0 } else { 60 }))
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result.json");
    let mut child = command(&url, "--rate 10 --duration 60s --warmup 0")
        .arg("--json")
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    let started = Instant::now();
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert!(child.wait().unwrap().success());
    assert!(started.elapsed() < Duration::from_secs(5));
    let json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    valid(&json);
    assert_eq!(json["interrupted"], true);
    let requests = &json["points"][0]["requests"];
    assert_eq!(
        (&requests["ok"], &requests["failed"]),
        (&json!(2), &json!(0))
    );
    assert!(requests["unfinished"].as_u64().unwrap() >= 5, "{requests}");
}

#[test]
fn a_sweep_measures_each_load_and_draws_it() {
    let url = scripted(|_, _| async { Reply::good().after(Duration::from_millis(20)) });
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("plot.svg");
    let ran = bench(
        &url,
        &format!(
            "--concurrency 1,4,16 --requests 64 --warmup 2 --slo-ttft 5000 --seed 5 --plot {}",
            plot.display()
        ),
    );
    assert!(ran.output.status.success(), "{}", ran.said());
    let points = ran.json["points"].as_array().unwrap();
    let rates: Vec<f64> = points
        .iter()
        .map(|point| point["throughput"]["requests_per_s"].as_f64().unwrap())
        .collect();
    // One after the other, 20 ms each, is less than 50 a second; four at once more than that.
    assert!(
        rates.len() == 3 && rates[0] < 50.0 && rates[1] > rates[0],
        "{rates:?}"
    );
    assert_eq!(points[0]["goodput"]["share"], 1.0);
    assert_eq!(ran.json["settings"]["seed"], 5);
    assert_eq!(
        ran.json["target"],
        json!({"url": url, "model": "scripted-model", "server": "scripted"})
    );
    assert!(
        std::fs::read_to_string(&plot)
            .unwrap()
            .contains("requests at once")
    );
    assert!(ran.said().contains("TTFT p99"));
}

#[test]
fn results_that_cannot_be_written_are_known_before_anything_is_sent() {
    let url = scripted(|_, _| async { panic!("nobody should ask") });
    let output = command(&url, "--json /nowhere/result.json")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/result.json"));
}
