//! The connection: made, watched, and made anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc as blocking,
    },
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, ErrorKind, RedisError, aio::MultiplexedConnection};

use super::{RESPONSE, Shared};

/// What a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// What an answer may take that no request waits for any more.
const ANSWER: Duration = Duration::from_secs(1);
/// Between two looks at a connection that nobody uses.
const LOOK: Duration = Duration::from_secs(1);
/// Between two tries to connect, at first and at last.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// So many late answers in a row, and the connection is given up.
const LATE: u32 = 3;
/// A connection that lived this long was a good one.
const GOOD: Duration = Duration::from_secs(5);

/// A connection that works, as far as anybody knows.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    /// Counts the connections of this process.
    pub(super) number: u64,
    /// Answers in a row that did not come in time.
    late: Arc<AtomicU32>,
}

impl Link {
    /// Takes note of an answer.
    pub(super) fn answered(&self) {
        self.late.store(0, Ordering::Relaxed);
    }
}

impl Shared {
    /// Takes note of an answer that did not come in time: one may be chance, some in a row are not.
    pub(super) fn late(&self, link: &Link) {
        if link.late.fetch_add(1, Ordering::Relaxed) + 1 >= LATE {
            self.broken(link, "no answer in time");
        } else {
            self.metrics.limits_redis_errors.inc();
        }
    }

    /// Opens the circuit: from now on nobody asks, until there is another connection.
    pub(super) fn broken(&self, link: &Link, why: &str) {
        self.metrics.limits_redis_errors.inc();
        let opened = self.link.send_if_modified(|current| {
            let same = current.as_ref().is_some_and(|l| l.number == link.number);
            if same {
                *current = None;
            }
            same
        });
        if opened {
            self.metrics.limits_redis_up.set(0);
            tracing::warn!(
                why,
                "Redis is away; limits.on_redis_error says what happens"
            );
        }
    }

    /// Keeps a connection for ever. Tells `started` after the first try.
    pub(super) async fn keep_linked(&self, started: blocking::Sender<()>) {
        let mut number = 0;
        let mut delay = RETRY.0;
        let mut told = false;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    number += 1;
                    told = false;
                    tracing::info!("Redis counts the limits");
                    self.metrics.limits_redis_up.set(1);
                    self.link.send_replace(Some(Link {
                        connection,
                        number,
                        late: Arc::default(),
                    }));
                    let _ = started.send(());
                    let since = Instant::now();
                    self.watch().await;
                    // One that breaks again and again must not be tried at once each time.
                    if since.elapsed() > GOOD {
                        delay = RETRY.0;
                    }
                }
                Err(error) => {
                    self.metrics.limits_redis_up.set(0);
                    self.metrics.limits_redis_errors.inc();
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(why = error.category(), "Redis cannot be reached");
                    }
                    let _ = started.send(());
                }
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY.1);
        }
    }

    /// A connection over which the server both answers in time and writes.
    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut probe = redis::cmd("SET");
        probe.arg("{porthole}").arg(1).arg("PX").arg(1000);
        let answer = probe.query_async::<()>(&mut connection);
        match tokio::time::timeout(2 * RESPONSE, answer).await {
            Ok(answer) => answer.map(|()| connection),
            Err(_) => Err((ErrorKind::Io, "no answer in time").into()),
        }
    }

    /// Returns when the connection is broken.
    async fn watch(&self) {
        let mut links = self.link.subscribe();
        loop {
            let broken = links.wait_for(Option::is_none);
            if tokio::time::timeout(LOOK, broken).await.is_ok() {
                return;
            }
            let Some(mut link) = self.link.borrow().clone() else {
                return;
            };
            let ping = redis::cmd("PING");
            let ping = ping.query_async::<()>(&mut link.connection);
            match tokio::time::timeout(RESPONSE, ping).await {
                Ok(Ok(())) => link.answered(),
                Ok(Err(error)) => self.broken(&link, error.category()),
                Err(_) => self.late(&link),
            }
        }
    }
}
