//! What is done off the requests' path, in order.

use std::{collections::HashMap, time::Duration};

use redis::{ErrorKind, ServerErrorKind};
use tokio::sync::mpsc;

use super::{Job, LEASE, Place, Shared, link::Link, places};
use crate::limits::{Cost, clock::micros, store::lock};

/// Jobs sent together.
const BATCH: usize = 128;
/// Between two renewals of the places inside.
const RENEW: Duration = Duration::from_secs(10);
/// What a batch may take.
const RESPONSE: Duration = Duration::from_secs(1);
/// Places renewed by one command.
const RENEWED: usize = 256;

impl Shared {
    /// Does jobs until there can be no more. They wait while the server is away; one that was sent
    /// is not sent again, since it may have been done.
    pub(super) async fn work(&self, mut queue: mpsc::Receiver<Job>) {
        let mut links = self.link.subscribe();
        let mut renew = tokio::time::interval(RENEW);
        let mut number = 0;
        loop {
            let mut batch = Vec::new();
            // Cancelled by the other, neither loses anything.
            let renews = tokio::select! {
                _ = renew.tick() => true,
                got = queue.recv_many(&mut batch, BATCH) => {
                    if got == 0 {
                        return;
                    }
                    false
                }
            };
            let link = loop {
                let linked = links.wait_for(Option::is_some).await;
                let Ok(link) = linked.map(|link| link.clone()) else {
                    return;
                };
                if let Some(link) = link {
                    break link;
                }
            };
            // A server that was away may have lost the places.
            let anew = std::mem::replace(&mut number, link.number) != link.number;
            let asked = batch.iter().any(|job| matches!(job, Job::Tell(_, true)));
            self.send(link, &batch, anew, renews || anew || asked).await;
            for job in batch {
                self.done(&job);
                if let Job::Tell(done, _) = job {
                    let _ = done.send(());
                }
            }
        }
    }

    async fn send(&self, mut link: Link, batch: &[Job], load: bool, renew: bool) {
        link.connection.set_response_timeout(RESPONSE);
        let mut sent = self.pipe(batch, load, renew);
        // Nobody is inside to be renewed; the library calls an empty pipeline an error.
        if sent.is_empty() {
            return;
        }
        let mut result = sent.query_async::<()>(&mut link.connection).await;
        // Somebody has made the server forget its scripts; none of the calls was done.
        let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
        if result.as_ref().is_err_and(|error| error.kind() == unknown) {
            sent = self.pipe(batch, true, renew);
            result = sent.query_async::<()>(&mut link.connection).await;
        }
        if let Err(error) = result {
            if error.is_io_error() || error.is_unrecoverable_error() {
                self.broken(&link, error.category());
            } else {
                self.metrics.limits_redis_errors.inc();
                tracing::warn!(why = error.category(), "Redis refuses to count");
            }
        }
    }

    fn pipe(&self, batch: &[Job], load: bool, renew: bool) -> redis::Pipeline {
        let mut pipe = redis::pipe();
        if load {
            for script in [&self.reserve, &self.settle, &self.renew] {
                pipe.load_script(script).ignore();
            }
        }
        for job in batch {
            self.add(job, &mut pipe);
        }
        if renew {
            self.add_renewals(&mut pipe);
        }
        pipe
    }

    fn add(&self, job: &Job, pipe: &mut redis::Pipeline) {
        match job {
            Job::Request(scopes) => {
                let call = self.ask(scopes, None, Cost::default(), 0);
                pipe.invoke_script(&call).ignore();
            }
            Job::Settle(settlement) => {
                let call = settlement.call(&self.settle, self.time());
                pipe.invoke_script(&call).ignore();
            }
            Job::Tell(..) => {}
            Job::Leave(scopes, member) => {
                for scope in scopes.iter() {
                    if scope.limits.concurrent_requests.is_some() {
                        let member = self.member(*member);
                        pipe.zrem(places(scope), member).ignore();
                    }
                }
            }
        }
    }

    fn add_renewals(&self, pipe: &mut redis::Pipeline) {
        let mut sets: HashMap<String, Vec<String>> = HashMap::new();
        for (member, place) in lock(&self.inside).iter() {
            let Place::Taken(scopes) = place else {
                continue;
            };
            for scope in scopes.iter() {
                if scope.limits.concurrent_requests.is_some() {
                    let members = sets.entry(places(scope)).or_default();
                    members.push(self.member(*member));
                }
            }
        }
        for (set, members) in sets {
            for members in members.chunks(RENEWED) {
                let mut call = self.renew.prepare_invoke();
                call.key(&set).arg(self.time()).arg(micros(LEASE));
                pipe.invoke_script(call.arg(members)).ignore();
            }
        }
    }
}
