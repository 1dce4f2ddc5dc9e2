//! `porthole bench`: a load for any OpenAI-compatible server, and what was measured with it.
//!
//! [`run`] goes through the points of a [`plan::Plan`]. At each, [`drive`] sends requests whose
//! bodies [`body`] made ahead of time, [`client`] times the answers, [`tally`] counts them, and
//! [`report`] holds the result, which [`table`] and [`plot`] show.

pub mod answer;
pub mod arrival;
pub mod body;
pub mod client;
pub mod drive;
pub mod mix;
pub mod picture;
pub mod plan;
pub mod plot;
pub mod report;
pub mod sse;
pub mod table;
pub mod tally;
pub mod verdict;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc, watch};

use body::Supply;
use client::{Client, Introduction};
use drive::{Driver, Sent};
use plan::{Load, Plan, Until};
use report::{Measured, PointReport, Report, Settings, TargetReport};
use tally::{Tally, Times};

/// The generator looks so often how late its timers are.
const TIMER_CHECK: Duration = Duration::from_millis(10);

/// Measures what `plan` says. `stop` turns true when it is to end with what there is; `note` is
/// told what is going on.
///
/// # Errors
/// In words: nothing can be measured.
pub async fn run(
    plan: &Plan,
    command: Vec<String>,
    stop: watch::Receiver<bool>,
    note: impl Fn(&str),
) -> Result<Report, String> {
    let client = Client::new(&plan.target, plan.ask.stream)?;
    let (model, server) = introduction(&client, plan).await?;
    let started = Timestamp::now();
    let driver = Driver {
        client: Arc::new(client),
        supply: Arc::new(AsyncMutex::new(Supply::start(
            &plan.ask,
            &model,
            ahead(plan),
        ))),
        places: Arc::new(Semaphore::new(plan.max_in_flight)),
        stop: stop.clone(),
        seed: plan.ask.seed,
    };
    let mut points = Vec::new();
    for (number, load) in plan.loads.iter().enumerate() {
        if !plan.warmup.is_nothing() && !*stop.borrow() {
            note(&format!("warming up for {}", table::load(*load)));
            let warm = measure(&driver, plan, *load, plan.warmup).await?;
            warmed(&warm, plan.allow_errors)?;
        }
        if *stop.borrow() {
            break;
        }
        let (number, all) = (number + 1, plan.loads.len());
        note(&format!("point {number} of {all}: {}", table::load(*load)));
        let measured = measure(&driver, plan, *load, plan.until).await?;
        points.push(PointReport::of(&measured, plan));
    }
    Ok(Report {
        schema: report::SCHEMA,
        porthole: env!("CARGO_PKG_VERSION"),
        command,
        started: started.to_string(),
        ended: Timestamp::now().to_string(),
        interrupted: *stop.borrow(),
        target: TargetReport {
            url: plan.target.url.to_string(),
            model,
            server,
        },
        settings: Settings::of(plan),
        points,
    })
}

/// Requests that should lie ready: those of a closed loop's start, or of a second of an open one.
fn ahead(plan: &Plan) -> usize {
    let most = plan.loads.iter().map(Load::level).fold(64.0, f64::max);
    most.min(4_096.0) as usize
}

/// The model to ask, and the server's name.
async fn introduction(client: &Client, plan: &Plan) -> Result<(String, Option<String>), String> {
    match (client.introduce().await, plan.target.model.clone()) {
        (Ok(Introduction { server, .. }), Some(model)) => Ok((model, server)),
        (Ok(Introduction { server, models }), None) => {
            let none = || "the server lists no model: name one with --model".to_string();
            Ok((models.into_iter().next().ok_or_else(none)?, server))
        }
        // A server need not list models as long as it answers.
        (Err(failure), Some(model)) if failure.kind != "connect" => Ok((model, None)),
        (Err(failure), _) => Err(format!(
            "{}/models: {}: {}; --url is the API's base, such as http://127.0.0.1:8080/v1",
            plan.target.url.as_str().trim_end_matches('/'),
            failure.kind,
            failure.message
        )),
    }
}

/// Whether anything was answered in a warm-up: what fails altogether need not be measured.
fn warmed(warm: &Measured, allow_errors: bool) -> Result<(), String> {
    let tally = &warm.tally;
    match tally.failures.first_key_value() {
        Some((kind, failures)) if tally.ok == 0 && !allow_errors => Err(format!(
            "no request of the warm-up was answered: {kind}: {}",
            failures.example
        )),
        Some(_) | None => Ok(()),
    }
}

async fn measure(
    driver: &Driver,
    plan: &Plan,
    load: Load,
    until: Until,
) -> Result<Measured, String> {
    let open = matches!(load, Load::Open { .. });
    let mut tally = Tally::new(open, plan.slo)?;
    let (samples, mut arriving) = mpsc::unbounded_channel();
    let timer_delay = Arc::new(Mutex::new(Times::new()?));
    let timer = tokio::spawn(watch_timers(timer_delay.clone()));
    let counting = async {
        while let Some(sample) = arriving.recv().await {
            tally.add(&sample);
        }
    };
    let (sent, ()) = tokio::join!(driver.run(load, until, samples), counting);
    timer.abort();
    let sent: Sent = sent?;
    let timer_delay = timer_delay.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Measured {
        load,
        tally,
        sent,
        timer_delay: timer_delay.clone(),
    })
}

/// Records how late timers are, for as long as it is not aborted.
async fn watch_timers(delays: Arc<Mutex<Times>>) {
    loop {
        let due = Instant::now() + TIMER_CHECK;
        tokio::time::sleep_until(due.into()).await;
        let delay = due.elapsed();
        let mut delays = delays.lock().unwrap_or_else(PoisonError::into_inner);
        delays.add(delay);
    }
}
