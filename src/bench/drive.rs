//! Sending requests: at their times, or one after the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Mutex, Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::{
    answer::{Answer, Failure},
    arrival::{Arrival, Schedule},
    body::{Body, Supply},
    client::Client,
    plan::{Load, Until},
};

/// A pacing thread looks so often whether it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// What became of a request. Times are since the start of the point.
#[derive(Debug)]
pub struct Sample {
    /// When it was to be sent: in an open loop by the schedule, in a closed one as soon as the
    /// answer before was there.
    pub intended: Duration,
    /// When it was sent.
    pub sent: Duration,
    /// When it was over.
    pub over: Duration,
    /// Images in it.
    pub images: usize,
    /// Bytes of its body.
    pub bytes: usize,
    /// Its answer; none where the measurement was interrupted before it came.
    pub result: Option<Result<Answer, Failure>>,
}

/// All that sending needs.
#[derive(Debug, Clone)]
pub struct Driver {
    /// Who asks.
    pub client: Arc<Client>,
    /// What is asked.
    pub supply: Arc<Mutex<Supply>>,
    /// Requests of an open loop that may be under way at once.
    pub places: Arc<Semaphore>,
    /// True when everything is to end at once.
    pub stop: watch::Receiver<bool>,
    /// The schedule's seed.
    pub seed: u64,
}

/// What a load did beside its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Requests that were due and are not in the samples: the generator was too far behind.
    pub unsent: u64,
}

impl Driver {
    /// Sends what `load` says until `until`, waits for the answers, and tells all of them.
    /// Bodies that are not ready when they are due are waited for, which shows as a late send.
    ///
    /// # Errors
    /// In words: no body can be made.
    pub async fn run(
        &self,
        load: Load,
        until: Until,
        samples: mpsc::UnboundedSender<Sample>,
    ) -> Result<Sent, String> {
        self.supply
            .lock()
            .await
            .ready(Duration::from_secs(30))
            .await;
        let point = Point {
            driver: self.clone(),
            start: Instant::now(),
            samples,
        };
        match load {
            Load::Closed { concurrency } => closed(point, concurrency, until).await,
            Load::Open { rate, arrival } => open(point, rate, arrival, until).await,
        }
    }
}

/// One load under way.
#[derive(Debug, Clone)]
struct Point {
    driver: Driver,
    start: Instant,
    samples: mpsc::UnboundedSender<Sample>,
}

impl Point {
    fn stopped(&self) -> bool {
        *self.driver.stop.borrow()
    }

    /// Sends a request and tells what became of it. In an open loop it first takes a place.
    async fn ask(self, body: Body, intended: Duration, limited: bool) {
        let (images, bytes) = (body.images, body.json.len());
        let mut stop = self.driver.stop.clone();
        let asked = async {
            let place = if limited {
                self.driver.places.acquire().await.ok()
            } else {
                None
            };
            let sent = self.start.elapsed();
            let result = self.driver.client.ask(body.json, self.start).await;
            drop(place);
            (sent, Some(result))
        };
        let (sent, result) = tokio::select! {
            done = asked => done,
            // The other end lives as long as the measurement.
            _ = stop.wait_for(|stop| *stop) => (intended, None),
        };
        let over = match &result {
            Some(Ok(answer)) => answer.end,
            Some(Err(_)) | None => self.start.elapsed(),
        };
        // Where nobody listens any more, nobody wants to know.
        let _ = self.samples.send(Sample {
            intended,
            sent,
            over,
            images,
            bytes,
            result,
        });
    }
}

async fn closed(point: Point, concurrency: usize, until: Until) -> Result<Sent, String> {
    let tickets = Arc::new(AtomicU64::new(until.requests.unwrap_or(u64::MAX)));
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        workers.spawn(worker(point.clone(), tickets.clone(), until.duration));
    }
    drop(point);
    let mut failed = None;
    while let Some(ended) = workers.join_next().await {
        let ended = ended.unwrap_or_else(|e| Err(e.to_string()));
        failed = failed.or(ended.err());
    }
    failed.map_or(Ok(Sent::default()), Err)
}

async fn worker(
    point: Point,
    tickets: Arc<AtomicU64>,
    duration: Option<Duration>,
) -> Result<(), String> {
    let take = |left: u64| left.checked_sub(1);
    loop {
        let free = point.start.elapsed();
        if point.stopped() || duration.is_some_and(|end| free >= end) {
            return Ok(());
        }
        let ticket = tickets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if ticket.is_err() {
            return Ok(());
        }
        let body = point.driver.supply.lock().await.next().await?;
        point.clone().ask(body, free, false).await;
    }
}

async fn open(point: Point, rate: f64, arrival: Arrival, until: Until) -> Result<Sent, String> {
    let schedule = Schedule::new(rate, arrival, until, point.driver.seed);
    let handle = Handle::current();
    // A thread of its own: the runtime's timers are only good to a millisecond.
    let paced = tokio::task::spawn_blocking(move || pace(schedule, until, point, &handle)).await;
    paced.map_err(|e| e.to_string())?
}

/// Starts each request of the schedule at its time.
fn pace(
    mut schedule: Schedule,
    until: Until,
    point: Point,
    handle: &Handle,
) -> Result<Sent, String> {
    // Requests are sent however late, since leaving out those in a bad time would hide it; but a
    // generator that is as late as that is measured enough.
    let give_up = until.duration.map(|d| 2 * d + Duration::from_secs(5));
    while let Some(due) = schedule.next() {
        let body = point.driver.supply.blocking_lock().blocking_next()?;
        loop {
            let now = point.start.elapsed();
            if point.stopped() {
                return Ok(Sent::default());
            }
            if give_up.is_some_and(|end| now > end) {
                let unsent = 1 + schedule.count() as u64;
                return Ok(Sent { unsent });
            }
            let Some(left) = due.checked_sub(now).filter(|left| !left.is_zero()) else {
                break;
            };
            std::thread::sleep(left.min(STOP_CHECK));
        }
        handle.spawn(point.clone().ask(body, due, true));
    }
    Ok(Sent::default())
}
