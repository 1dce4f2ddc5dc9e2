//! The queue in front of the engine.
//!
//! Each caller has a queue of its own and an account of the work the engine has done for it, in
//! tokens. Whoever has the lowest account is next, so a caller with a thousand waiting requests
//! delays another's first by no more than what is in the engine already. The account is charged
//! with an estimate when a request is let in, and set right when it has ended. A caller that comes
//! back starts no lower than those who waited (virtual time, as in start-time fair queuing).
//!
//! A slot is kept until the engine has let go of the sequence. There is one slot more than the
//! engine computes at once, so that the next request's images are decoded when its turn comes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use crate::metrics::GaugeGuard;

/// Weight of the newest interval in the measured drain.
const NEWEST: f64 = 0.2;
/// Bounds of what a client that finds the queue full is told to wait.
const RETRY: std::ops::RangeInclusive<u64> = 1..=300;

/// What may wait.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Requests.
    pub length: usize,
    /// Bytes of their encoded images and text.
    pub bytes: usize,
    /// How long a request may be expected to wait.
    pub time: Duration,
}

/// A request that wants to go in.
#[derive(Debug, Clone, Copy)]
pub struct Ticket<'a> {
    /// Whose account is charged.
    pub caller: &'a str,
    /// Lower goes first, whatever the accounts say.
    pub class: u8,
    /// What it holds while it waits.
    pub bytes: usize,
    /// The work it is expected to be, in tokens.
    pub cost: u64,
    /// Sequences that the engine computes at once.
    pub width: usize,
}

/// There is no room to wait, or the wait would be too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Whole seconds after which there should be room, from the measured drain.
    pub retry_after: u64,
}

/// The queue in front of the engine.
#[derive(Debug)]
pub struct Queue {
    bounds: Mutex<Bounds>,
    gauge: Gauge,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    callers: HashMap<String, Account>,
    inside: usize,
    width: usize,
    waiting: usize,
    bytes: usize,
    /// The account of whoever was let in last: where newcomers start.
    virtual_time: u64,
    next_number: u64,
    /// Smoothed seconds between two requests that the engine let go of while others waited.
    interval: Option<f64>,
    /// When one was let go of, if others waited then.
    last_end: Option<Instant>,
}

#[derive(Debug, Default)]
struct Account {
    work: u64,
    inside: usize,
    bytes: usize,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    class: u8,
    bytes: usize,
    cost: u64,
    enter: oneshot::Sender<Slot>,
}

/// Being inside; dropping it lets the next one in.
#[derive(Debug)]
pub struct Slot {
    queue: Arc<Queue>,
    caller: String,
    cost: u64,
}

impl Slot {
    /// Sets the account right: the work was this many tokens.
    pub fn worked(mut self, tokens: u64) {
        let mut state = self.queue.lock();
        if let Some(account) = state.callers.get_mut(&self.caller) {
            account.work = (account.work + tokens).saturating_sub(self.cost);
        }
        drop(state);
        self.cost = tokens;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.inside -= 1;
        if let Some(account) = state.callers.get_mut(&self.caller) {
            account.inside -= 1;
        }
        state.measure();
        state.forget();
        drop(state);
        self.queue.let_in();
    }
}

/// Takes a waiter that gave up out of the queue.
struct Leaving<'a> {
    queue: &'a Queue,
    caller: &'a str,
    number: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        let Some(account) = state.callers.get_mut(self.caller) else {
            return;
        };
        let at = account.waiting.iter().position(|w| w.number == self.number);
        if let Some(waiter) = at.and_then(|at| account.waiting.remove(at)) {
            account.bytes -= waiter.bytes;
            state.bytes -= waiter.bytes;
            state.waiting -= 1;
            state.forget();
        }
    }
}

impl Queue {
    /// An empty queue; `gauge` counts those who wait.
    pub fn new(bounds: Bounds, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            bounds: Mutex::new(bounds),
            gauge,
            state: Mutex::default(),
        })
    }

    /// Other bounds, for those who come from now on.
    pub fn set_bounds(&self, bounds: Bounds) {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    /// Waits for a slot. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// At once, when there is no room to wait or the wait would be too long.
    pub async fn enter(self: &Arc<Self>, ticket: Ticket<'_>) -> Result<Slot, Full> {
        let (enter, entered) = oneshot::channel();
        let bounds = *self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.lock().join(ticket, &bounds, enter)?;
        let _waiting = GaugeGuard::new(&self.gauge);
        let _leaving = Leaving {
            queue: self,
            caller: ticket.caller,
            number,
        };
        self.let_in();
        match entered.await {
            Ok(slot) => Ok(slot),
            // Waiters leave the queue only by being let in.
            Err(_) => unreachable!("a waiter was dropped"),
        }
    }

    fn let_in(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let Some((caller, waiter)) = state.next() else {
                return;
            };
            drop(state);
            let slot = Slot {
                queue: self.clone(),
                caller,
                cost: waiter.cost,
            };
            // One that has gone gives its slot back by dropping it; the lock is not held here.
            let _ = waiter.enter.send(slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn join(
        &mut self,
        ticket: Ticket<'_>,
        bounds: &Bounds,
        enter: oneshot::Sender<Slot>,
    ) -> Result<u64, Full> {
        self.width = ticket.width;
        let own = self.callers.get(ticket.caller);
        let (own_waiting, own_bytes) = own.map_or((0, 0), |own| (own.waiting.len(), own.bytes));
        let goes_straight_in = self.waiting == 0 && self.inside <= self.width;
        if !goes_straight_in {
            let wait = self.predicted(ticket.caller, ticket.class);
            let room = own_waiting < bounds.length.saturating_sub(self.waiting)
                && own_bytes + ticket.bytes <= bounds.bytes.saturating_sub(self.bytes);
            let too_long = wait.saturating_sub(bounds.time);
            if !room || !too_long.is_zero() {
                let one = self
                    .interval
                    .map_or(Duration::ZERO, Duration::from_secs_f64);
                let seconds = too_long.max(one).as_secs_f64().ceil() as u64;
                let retry_after = seconds.clamp(*RETRY.start(), *RETRY.end());
                return Err(Full { retry_after });
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        self.waiting += 1;
        self.bytes += ticket.bytes;
        let account = self.callers.entry(ticket.caller.to_string()).or_default();
        if account.waiting.is_empty() && account.inside == 0 {
            account.work = account.work.max(self.virtual_time);
        }
        account.bytes += ticket.bytes;
        account.waiting.push_back(Waiter {
            number,
            class: ticket.class,
            bytes: ticket.bytes,
            cost: ticket.cost,
            enter,
        });
        Ok(number)
    }

    /// How long a request of this caller would wait: those before it in turns, times the drain.
    fn predicted(&self, caller: &str, class: u8) -> Duration {
        let Some(interval) = self.interval else {
            return Duration::ZERO;
        };
        let own = self.callers.get(caller).map_or(0, |own| own.waiting.len());
        let before: usize = self
            .callers
            .iter()
            .map(|(name, account)| {
                let ahead = account.waiting.iter().filter(|w| w.class <= class).count();
                if name == caller {
                    ahead
                } else {
                    ahead.min(own + 1)
                }
            })
            .sum();
        Duration::from_secs_f64(interval * (before + 1) as f64)
    }

    fn next(&mut self) -> Option<(String, Waiter)> {
        if self.inside > self.width || self.waiting == 0 {
            return None;
        }
        // Within a caller the better class goes first, then the earlier; between callers the better
        // class, then the lower account, then the earlier.
        let (caller, at) = self
            .callers
            .iter()
            .filter_map(|(name, account)| {
                let best = account.waiting.iter().enumerate();
                let (at, first) = best.min_by_key(|(_, w)| (w.class, w.number))?;
                Some(((first.class, account.work, first.number), (name, at)))
            })
            .min_by_key(|(order, _)| *order)
            .map(|(_, (name, at))| (name.clone(), at))?;
        let account = self.callers.get_mut(&caller)?;
        let waiter = account.waiting.remove(at)?;
        self.virtual_time = self.virtual_time.max(account.work);
        account.work += waiter.cost;
        account.inside += 1;
        account.bytes -= waiter.bytes;
        self.bytes -= waiter.bytes;
        self.waiting -= 1;
        self.inside += 1;
        Some((caller, waiter))
    }

    /// Measures the drain: the time between two ends, if somebody waited all that time.
    fn measure(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last_end {
            let took = (now - last).as_secs_f64();
            let old = self.interval.unwrap_or(took);
            self.interval = Some(old + NEWEST * (took - old));
        }
        self.last_end = (self.waiting > 0).then_some(now);
    }

    /// Drops the accounts that no longer matter: of callers who have nothing here and had no more
    /// than a newcomer starts with.
    fn forget(&mut self) {
        if self.waiting == 0 && self.inside == 0 {
            self.callers.clear();
            self.virtual_time = 0;
            return;
        }
        let now = self.virtual_time;
        self.callers
            .retain(|_, a| a.inside > 0 || !a.waiting.is_empty() || a.work > now);
    }
}

#[cfg(test)]
mod tests;
