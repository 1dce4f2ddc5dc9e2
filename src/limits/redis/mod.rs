//! Counting in Redis or Valkey, so that replicas share one count.
//!
//! One script decides and charges in one round trip; what goes back does so in the background. While
//! the server is away no request waits for it: the first failure opens the circuit, and a task of
//! its own closes it when the server answers again.

mod link;
mod script;
mod work;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc as blocking,
    },
    time::{Duration, Instant},
};

use redis::Script;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};

use self::link::Link;
pub(super) use self::script::{Answer, Settlement};
use super::{
    Cost,
    clock::{Clock, micros},
    scope::{Scope, Scopes},
    store::lock,
};
use crate::metrics::Metrics;

/// What a request waits for an answer at most.
const RESPONSE: Duration = Duration::from_millis(75);
/// How long a place is kept for a request whose replica does not renew it.
const LEASE: Duration = Duration::from_secs(30);
/// Jobs in the background that may wait; further ones are dropped and counted as errors.
const JOBS: usize = 16_384;
/// What a stop waits for the jobs at most.
const STOP: Duration = Duration::from_secs(1);
/// What a start waits for the first connection at most.
const START: Duration = Duration::from_secs(1);

/// Redis has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Away;

/// The place of one request, by a number of this process.
pub(super) type Member = u64;

/// The place of a request in its shares.
enum Place {
    /// Redis was asked. Whoever finds the request gone when the answer comes gives the place back.
    Asked,
    /// It is taken, and has to be renewed.
    Taken(Scopes),
}

/// What is done off the request's path.
#[derive(Debug)]
pub(super) enum Job {
    /// A request ended before its cost was known; it counts as a request.
    Request(Scopes),
    /// A reservation ends.
    Settle(Settlement),
    /// A request ended; its places are free.
    Leave(Scopes, Member),
    /// Says that the jobs before it are done; with `true`, renews the places too.
    Tell(oneshot::Sender<()>, bool),
}

/// The shared count.
pub(super) struct Redis {
    shared: Arc<Shared>,
    jobs: Option<mpsc::Sender<Job>>,
    runtime: Handle,
    stopped: Mutex<blocking::Receiver<()>>,
    members: AtomicU64,
}

struct Shared {
    client: redis::Client,
    link: watch::Sender<Option<Link>>,
    reserve: Script,
    settle: Script,
    renew: Script,
    /// Requests whose places this process keeps or has asked for.
    inside: Mutex<HashMap<Member, Place>>,
    /// Requests whose places are not given back yet.
    leaving: AtomicU64,
    /// Tells the places of this process from others'.
    replica: String,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Redis {
    /// Starts a thread that keeps a connection. Waits a moment for the first one, so that the first
    /// requests find it.
    ///
    /// # Errors
    /// In words for the operator, without the URL: it may hold a password.
    pub(super) fn start(
        url: &str,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        if url.starts_with("rediss:") {
            // An application that has chosen a provider already keeps it.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let client = redis::Client::open(url).map_err(
            |_| "limits.redis_url is no URL of Redis, such as redis://user:password@host:6379/0",
        )?;
        let mut replica = [0; 8];
        getrandom::fill(&mut replica).map_err(|error| format!("no randomness: {error}"))?;
        let shared = Arc::new(Shared {
            client,
            link: watch::Sender::new(None),
            reserve: Script::new(include_str!("reserve.lua")),
            settle: Script::new(include_str!("settle.lua")),
            renew: Script::new(include_str!("renew.lua")),
            inside: Mutex::default(),
            leaving: AtomicU64::new(0),
            replica: format!("{:016x}", u64::from_ne_bytes(replica)),
            clock,
            metrics,
        });
        let (jobs, queue) = mpsc::channel(JOBS);
        let (started, start) = blocking::channel();
        let (stop, stopped) = blocking::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime for Redis: {error}"))?;
        let background = shared.clone();
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("limits-redis".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = background.keep_linked(started) => {}
                        () = background.work(queue) => {}
                    }
                });
                // Nobody listens when the limiter waited long enough.
                let _ = stop.send(());
            })
            .map_err(|error| format!("no thread for Redis: {error}"))?;
        let _ = start.recv_timeout(START);
        Ok(Self {
            shared,
            jobs: Some(jobs),
            runtime: handle,
            stopped: Mutex::new(stopped),
            members: AtomicU64::new(0),
        })
    }

    /// Whether the circuit is closed.
    pub(super) fn is_up(&self) -> bool {
        self.shared.link.borrow().is_some()
    }

    /// A place for a request, not yet told to Redis.
    pub(super) fn member(&self) -> Member {
        self.members.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks for everything that a request takes, in one round trip. In shares from `enters` on it is
    /// counted as a request as well, and takes a place.
    ///
    /// # Errors
    /// Redis has no answer in time.
    pub(super) async fn reserve(
        &self,
        scopes: &Scopes,
        member: Member,
        cost: Cost,
        enters: usize,
    ) -> Result<Answer, Away> {
        let mut link = self.shared.link.borrow().clone().ok_or(Away)?;
        let asked = link.clone();
        if places_from(scopes, enters) {
            lock(&self.shared.inside).insert(member, Place::Asked);
        }
        let (shared, jobs) = (self.shared.clone(), self.jobs.clone().ok_or(Away)?);
        let (tell, hear) = oneshot::channel();
        let scopes = scopes.clone();
        // A task of its own waits for the answer, however late, so that a charge that nobody waits
        // for any more is known and goes back.
        self.runtime.spawn(async move {
            let ask = shared.ask(&scopes, Some(member), cost, enters);
            let started = Instant::now();
            let numbers = ask.invoke_async::<Vec<i64>>(&mut link.connection).await;
            let answer = match numbers.map(|numbers| Answer::read(&numbers, &scopes)) {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => Err("an answer that makes no sense".to_owned()),
                Err(error) => Err(error.category().to_owned()),
            };
            match answer {
                Ok(answer) => {
                    let seconds = started.elapsed().as_secs_f64();
                    shared.metrics.limits_redis_seconds.observe(seconds);
                    if places_from(&scopes, enters) && !answer.at_door {
                        shared.take_place(&jobs, &scopes, member);
                    }
                    let heard = Heard {
                        shared,
                        jobs,
                        scopes,
                        cost,
                        answer: Some(answer),
                    };
                    // Unsent, it is dropped.
                    let _ = tell.send(heard);
                }
                Err(why) => shared.broken(&link, &why),
            }
        });
        match tokio::time::timeout(RESPONSE, hear).await {
            Ok(heard) => {
                asked.answered();
                heard.ok().and_then(Heard::take).ok_or(Away)
            }
            Err(_) => {
                self.shared.late(&asked);
                Err(Away)
            }
        }
    }

    /// Gives the places of a request back, if it has any.
    pub(super) fn leave(&self, member: Member) {
        let place = lock(&self.shared.inside).remove(&member);
        if let (Some(Place::Taken(scopes)), Some(jobs)) = (place, &self.jobs) {
            self.shared.leave(jobs, scopes, member);
        }
    }

    /// Whether requests of this process have left places that Redis may not know to be free.
    pub(super) fn is_leaving(&self) -> bool {
        self.shared.leaving.load(Ordering::Acquire) > 0
    }

    /// Waits a little until Redis knows. Whether it does.
    pub(super) async fn free_places(&self) -> bool {
        let told = tokio::time::timeout(RESPONSE, self.flush(false));
        told.await.is_ok()
    }

    /// Waits until the jobs so far are done and, if asked for, the places renewed.
    pub(super) async fn flush(&self, renew: bool) {
        let (done, told) = oneshot::channel();
        self.later(Job::Tell(done, renew));
        // Without an answer there is nothing left to wait for.
        let _ = told.await;
    }

    /// Does a job in the background.
    pub(super) fn later(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            self.shared.queue(jobs, job);
        }
    }
}

/// Lets the jobs end that wait, as far as the server is there.
impl Drop for Redis {
    fn drop(&mut self) {
        self.jobs = None;
        let _ = lock(&self.stopped).recv_timeout(STOP);
    }
}

/// An answer on its way to a request. What it charged goes back if it does not get there.
struct Heard {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    scopes: Scopes,
    cost: Cost,
    answer: Option<Answer>,
}

impl Heard {
    fn take(mut self) -> Option<Answer> {
        self.answer.take()
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take()
            && answer.refusal.is_none()
        {
            let settlement = Settlement::unheard(&self.scopes, self.cost, answer);
            self.shared.queue(&self.jobs, Job::Settle(settlement));
        }
    }
}

impl Shared {
    /// The time for a script; 0 for the server's own.
    fn time(&self) -> u64 {
        self.clock.for_redis().map_or(0, micros)
    }

    /// Keeps the place of a request that Redis has let in, unless it is gone already.
    fn take_place(&self, jobs: &mpsc::Sender<Job>, scopes: &Scopes, member: Member) {
        match lock(&self.inside).get_mut(&member) {
            Some(place) => *place = Place::Taken(scopes.clone()),
            None => self.leave(jobs, scopes.clone(), member),
        }
    }

    fn leave(&self, jobs: &mpsc::Sender<Job>, scopes: Scopes, member: Member) {
        self.leaving.fetch_add(1, Ordering::AcqRel);
        self.queue(jobs, Job::Leave(scopes, member));
    }

    fn queue(&self, jobs: &mpsc::Sender<Job>, job: Job) {
        if let Err(error) = jobs.try_send(job) {
            self.metrics.limits_redis_errors.inc();
            self.done(&error.into_inner());
        }
    }

    /// Takes note of a job that is done, or never will be.
    fn done(&self, job: &Job) {
        if let Job::Leave(..) = job {
            self.leaving.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn member(&self, member: Member) -> String {
        format!("{}:{member}", self.replica)
    }
}

/// Whether any share from `enters` on limits the requests inside.
fn places_from(scopes: &[Scope], enters: usize) -> bool {
    let mut entered = scopes.iter().skip(enters);
    entered.any(|scope| scope.limits.concurrent_requests.is_some())
}

/// The sorted set of a share's requests inside.
fn places(scope: &Scope) -> String {
    format!("inside:{}", scope.name)
}
