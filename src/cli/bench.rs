//! `porthole bench`: what to measure, from the command line, and where the result goes.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use jiff::SignedDuration;
use serde_json::{Map, Value};
use tokio::sync::watch;
use url::Url;

use crate::{
    bench::{
        self,
        arrival::Arrival,
        mix::{ImageMix, ImageSize},
        plan::{Ask, ImageFormat, Load, Plan, Slo, Target, Until},
        plot,
        report::Report,
        table,
    },
    config::Secret,
};

/// What the help says at its end.
const READING: &str = "\
How to read the latencies:
  In an open loop (--rate) requests are sent at their times, as by users who do not know of each other, and latency
  counts from the time at which a request was INTENDED to be sent. When the server stalls, the requests that were due
  meanwhile count with all of their wait, whether or not this program got around to sending them. To count from the
  actual send would leave out just the worst waits (\"coordinated omission\").
  In a closed loop (--concurrency) the next request is sent when one is answered, and latency counts from the actual
  send. A slow server is asked less often: a closed loop finds the throughput, and hides queueing.

The exit code is 1 if a request failed (see --allow-errors) or nothing could be measured.";

/// What to measure.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = READING)]
pub struct BenchArgs {
    /// The API's base, such as http://127.0.0.1:8080/v1.
    #[arg(long)]
    url: Url,
    /// The model to ask; the first that the server lists where none is named.
    #[arg(long)]
    model: Option<String>,
    /// The credential; better given as PORTHOLE_API_KEY or OPENAI_API_KEY, which other users of this machine do not see.
    #[arg(long, value_parser = |key: &str| Ok::<_, String>(Secret::from(key)))]
    api_key: Option<Secret>,
    /// Requests at once, in a closed loop; several for a sweep: 1,8,32. Without it and --rate: 1.
    #[arg(long, value_delimiter = ',', conflicts_with = "rate", value_parser = concurrency)]
    concurrency: Vec<usize>,
    /// Requests a second, in an open loop; several for a sweep: 0.5,1,2.
    #[arg(long, value_delimiter = ',', value_parser = rate)]
    rate: Vec<f64>,
    /// The time between two requests of an open loop.
    #[arg(long, value_enum, default_value = "constant", requires = "rate")]
    arrival: Arrival,
    /// How long each point sends: 30s, 5m; 30s where --requests is not given either.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Requests that each point sends.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Sent before each point and not measured: a number of requests (4) or a time (10s); 0 for nothing.
    #[arg(long, default_value = "4", value_parser = warmup)]
    warmup: Until,
    /// Shares of requests by their number of images: 0:0.5,1:0.4,2:0.1; or the number of all.
    #[arg(long, default_value = "0")]
    images: ImageMix,
    /// Sizes of images, chosen from at random.
    #[arg(long, value_delimiter = ',', default_value = "640x480")]
    image_size: Vec<ImageSize>,
    /// How images are encoded.
    #[arg(long, value_enum, default_value = "jpeg")]
    image_format: ImageFormat,
    /// The same images in every request; otherwise each is new, and no cache helps.
    #[arg(long)]
    same_image: bool,
    /// Words of each prompt, about a token each; the report has the server's count.
    #[arg(long, default_value_t = 64, value_parser = words)]
    prompt_tokens: usize,
    /// Longest answer, tokens.
    #[arg(long, default_value_t = 128)]
    max_tokens: u64,
    /// Ask for answers as streams; without streams there is no time to first token.
    #[arg(long, overrides_with = "no_stream")]
    stream: bool,
    /// Ask for whole answers.
    #[arg(long)]
    no_stream: bool,
    /// Do not ask for the usage of streams (stream_options), for servers that do not know it.
    #[arg(long)]
    no_usage: bool,
    /// Further fields of each request, a JSON object: '{"temperature": 0, "ignore_eos": true}'.
    #[arg(long, default_value = "{}", value_parser = extra, value_name = "JSON")]
    extra_body: Extra,
    /// The seed of prompts, images and arrivals; at random where none is given, so that no run finds the last one's
    /// images in a cache.
    #[arg(long)]
    seed: Option<u64>,
    /// A request may take so long, its whole answer included.
    #[arg(long, default_value = "600s", value_parser = duration)]
    timeout: Duration,
    /// Requests of an open loop under way at once; further ones wait, which is measured. As many as files may be open
    /// where nothing is said.
    #[arg(long, value_parser = concurrency)]
    max_in_flight: Option<usize>,
    /// Believe any certificate.
    #[arg(long)]
    insecure: bool,
    /// The time to first token that a good answer keeps, ms.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    slo_ttft: Option<Duration>,
    /// The mean time per output token that a good answer keeps, ms.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    slo_tpot: Option<Duration>,
    /// Write the whole result to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the result into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Succeed even if requests failed.
    #[arg(long)]
    allow_errors: bool,
}

/// Fields of a body.
type Extra = Map<String, Value>;

/// Measures, on a runtime of its own, and says the result on standard output. True when every
/// request was answered, or errors are allowed. `key` is the environment's, `command` the command
/// line as it was typed.
///
/// # Errors
/// In words: nothing could be measured, or the result could not be written.
pub fn run(args: &BenchArgs, key: Option<Secret>, command: &[String]) -> Result<bool, String> {
    let plan = args.plan(key)?;
    for file in [&args.json, &args.plot].into_iter().flatten() {
        // Before an hour of measuring, not after it.
        let open = File::options().create(true).append(true).open(file);
        open.map_err(|e| unwritable(file, &e))?;
    }
    let command = without_key(command);
    // The caller may be on a runtime already, and it has a single thread.
    let measured = std::thread::scope(|scope| {
        let measuring = scope.spawn(|| measure(&plan, command));
        measuring.join()
    });
    let hide = |text: String| hidden(text, plan.target.key.as_ref());
    let report = measured.map_err(|_| "the measurement ended in a panic".to_string())?;
    let mut report = report.map_err(hide)?;
    for failure in report.points.iter_mut().flat_map(|p| &mut p.failures) {
        failure.example = hide(std::mem::take(&mut failure.example));
    }
    args.write(&report)?;
    let failed = report.points.iter().any(|p| p.requests.failed > 0);
    Ok(args.allow_errors || !failed)
}

fn measure(plan: &Plan, command: Vec<String>) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.send_replace(true);
            }
            // A receiver waits for a change, which a dropped sender would be taken for.
            stop.closed().await;
        });
        let note = |text: &str| {
            // Nobody need read it.
            let _ = writeln!(io::stderr(), "porthole bench: {text}");
        };
        bench::run(plan, command, stopped, note).await
    })
}

impl BenchArgs {
    /// The flags, checked, as a plan. `key` is the environment's.
    pub(crate) fn plan(&self, key: Option<Secret>) -> Result<Plan, String> {
        if !matches!(self.url.scheme(), "http" | "https") {
            return Err("--url: only http and https are spoken".into());
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            return Err("--url: a credential does not belong there; see --api-key".into());
        }
        let files = open_files();
        let max_in_flight = self.max_in_flight.or(files).unwrap_or(1_000);
        let most = self.concurrency.iter().chain(&self.max_in_flight).max();
        if let (Some(most), Some(files)) = (most, files)
            && *most > files
        {
            return Err(format!(
                "{most} requests at once need as many open files, and this process may have {files}: see ulimit -n"
            ));
        }
        Ok(Plan {
            target: Target {
                url: self.url.clone(),
                model: self.model.clone(),
                key: self.api_key.clone().or(key).filter(|key| !key.is_empty()),
                insecure: self.insecure,
                timeout: self.timeout,
            },
            ask: self.ask()?,
            loads: self.loads(),
            until: Until {
                requests: self.requests,
                duration: match (self.duration, self.requests) {
                    (None, None) => Some(Duration::from_secs(30)),
                    (duration, _) => duration,
                },
            },
            warmup: self.warmup,
            slo: Slo {
                ttft: self.slo_ttft,
                tpot: self.slo_tpot,
            },
            max_in_flight,
            allow_errors: self.allow_errors,
        })
    }

    fn ask(&self) -> Result<Ask, String> {
        let seed = match self.seed {
            Some(seed) => seed,
            // As many bits as every reader of JSON keeps.
            None => getrandom::u32().map_err(|e| e.to_string())?.into(),
        };
        Ok(Ask {
            images: self.images.clone(),
            sizes: self.image_size.clone(),
            format: self.image_format,
            same_image: self.same_image,
            prompt_tokens: self.prompt_tokens,
            max_tokens: self.max_tokens,
            stream: !self.no_stream,
            usage: !self.no_usage,
            extra: self.extra_body.clone(),
            seed,
        })
    }

    fn loads(&self) -> Vec<Load> {
        let open = self.rate.iter().map(|&rate| Load::Open {
            rate,
            arrival: self.arrival,
        });
        let closed = |&concurrency| Load::Closed { concurrency };
        let mut loads: Vec<Load> = open.chain(self.concurrency.iter().map(closed)).collect();
        if loads.is_empty() {
            loads.push(Load::Closed { concurrency: 1 });
        }
        loads
    }

    fn write(&self, report: &Report) -> Result<(), String> {
        if let Some(file) = &self.json {
            let mut json = serde_json::to_vec_pretty(report).map_err(|e| e.to_string())?;
            json.push(b'\n');
            std::fs::write(file, json).map_err(|e| unwritable(file, &e))?;
        }
        if let Some(file) = &self.plot {
            let svg = plot::svg(report).map_err(|e| unwritable(file, &e))?;
            std::fs::write(file, svg).map_err(|e| unwritable(file, &e))?;
        }
        let text = table::text(report);
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // `| head` has seen enough.
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.to_string()),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn unwritable(file: &Path, reason: &impl ToString) -> String {
    format!("{}: {}", file.display(), reason.to_string())
}

/// Sockets that this process may have beside the files it has open anyway; none where the system
/// does not say.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|l| l.starts_with("Max open files"))?;
    let soft = line.split_whitespace().nth(3)?;
    // The other possible word is `unlimited`.
    let soft: usize = soft.parse().unwrap_or(usize::MAX);
    Some(soft.saturating_sub(64).clamp(1, 50_000))
}

/// The command line without the value of `--api-key`.
fn without_key(command: &[String]) -> Vec<String> {
    let mut after_flag = false;
    let words = command.iter().map(|word| {
        let is_value = std::mem::replace(&mut after_flag, word == "--api-key");
        if is_value {
            "***".to_string()
        } else if word.starts_with("--api-key=") {
            "--api-key=***".to_string()
        } else {
            word.clone()
        }
    });
    words.collect()
}

/// What a server said, without the key, which some servers repeat.
fn hidden(text: String, key: Option<&Secret>) -> String {
    match key {
        Some(key) if key.expose().len() >= 4 => text.replace(key.expose(), "***"),
        Some(_) | None => text,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<SignedDuration>() {
        Ok(time) => Duration::try_from(time).ok(),
        Err(_) => text
            .parse()
            .ok()
            .and_then(|s| Duration::try_from_secs_f64(s).ok()),
    };
    let day = Duration::from_secs(24 * 3600);
    time.filter(|time| !time.is_zero() && *time <= day)
        .ok_or_else(|| "it is no time such as 30s or 5m, of a day at most".into())
}

fn warmup(text: &str) -> Result<Until, String> {
    if let Ok(requests) = text.parse() {
        return Ok(Until {
            requests: Some(requests),
            duration: None,
        });
    }
    Ok(Until {
        requests: None,
        duration: Some(duration(text)?),
    })
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let ms = text.parse().ok().filter(|ms: &f64| *ms > 0.0);
    let time = ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
    time.ok_or_else(|| "it is no number of milliseconds above 0".into())
}

fn concurrency(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=100_000).contains(n));
    number.ok_or_else(|| "it is no number from 1 to 100000".into())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|r| (1e-3..=1e6).contains(r));
    rate.ok_or_else(|| "it is no rate from 0.001 to 1000000 requests/s".into())
}

fn words(text: &str) -> Result<usize, String> {
    let words = text.parse().ok().filter(|n| (1..=2_000_000).contains(n));
    words.ok_or_else(|| "it is no number from 1 to 2000000".into())
}

fn extra(text: &str) -> Result<Extra, String> {
    let extra: Extra =
        serde_json::from_str(text).map_err(|e| format!("it is no JSON object: {e}"))?;
    for (field, flag) in [
        ("model", "--model"),
        ("stream", "--stream and --no-stream"),
        ("messages", "--prompt-tokens and --images"),
    ] {
        if extra.contains_key(field) {
            return Err(format!("{field} is set by {flag}"));
        }
    }
    Ok(extra)
}

#[cfg(test)]
#[path = "bench/tests.rs"]
mod tests;
