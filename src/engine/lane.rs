//! The lane in front of an engine that must not see certain sequences together.
//!
//! mistral.rs 0.8.1 computes sequences of one step in one batch, and a batch is right only where
//! the attention kernels keep its rows apart and every sequence has images of the same sizes. So a
//! sequence enters only while everything inside belongs to its *cohort* (the list of its image
//! sizes) and fewer than `width` are inside. The width is 1 until a check has proven more.
//!
//! A [`Place`] must be kept until the engine has really let go of the sequence, not merely until
//! its last token: a cancelled sequence lives on until its next step.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

/// Sequences that may be computed together: the sizes of their images, in order.
pub type Cohort = Vec<(u32, u32)>;

/// How often the head of the queue may be overtaken by sequences of the running cohort.
const MAX_OVERTAKEN: usize = 16;

/// A queue that lets in one cohort at a time, in order of arrival.
#[derive(Debug)]
pub struct Lane {
    /// How long an empty lane waits until it is full, so that prompts are computed together.
    collect: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    width: usize,
    inside: usize,
    cohort: Cohort,
    waiting: VecDeque<Waiter>,
    /// Until when an empty lane waits for more.
    collecting: Option<Instant>,
}

#[derive(Debug)]
struct Waiter {
    cohort: Cohort,
    overtaken: usize,
    enter: oneshot::Sender<Place>,
}

/// Being inside; dropping it lets the next one in.
#[derive(Debug)]
pub struct Place {
    lane: Arc<Lane>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.lock().inside -= 1;
        self.lane.let_in();
    }
}

impl Lane {
    /// A lane for `width` sequences at once. When it is empty and wider than one, it waits up to
    /// `collect` for as many before it lets the first in.
    pub fn new(width: usize, collect: Duration) -> Arc<Self> {
        let state = State {
            width: width.max(1),
            inside: 0,
            cohort: Vec::new(),
            waiting: VecDeque::new(),
            collecting: None,
        };
        Arc::new(Self {
            collect,
            state: Mutex::new(state),
        })
    }

    /// Widens or narrows it for those who enter from now on.
    pub fn set_width(self: &Arc<Self>, width: usize) {
        self.lock().width = width.max(1);
        self.let_in();
    }

    /// Sequences that may be inside at once.
    pub fn width(&self) -> usize {
        self.lock().width
    }

    /// Waits for a place. Dropping the future leaves the queue.
    pub async fn enter(self: &Arc<Self>, cohort: Cohort) -> Place {
        let (enter, entered) = oneshot::channel();
        self.lock().waiting.push_back(Waiter {
            cohort,
            overtaken: 0,
            enter,
        });
        self.let_in();
        match entered.await {
            Ok(place) => place,
            // Waiters leave the queue only by being let in.
            Err(_) => unreachable!("a waiter was dropped"),
        }
    }

    fn let_in(self: &Arc<Self>) {
        if self.collects() {
            return;
        }
        while let Some(waiter) = self.next() {
            // A waiter that has gone gives its place back by dropping it; the lock is not held here.
            let _ = waiter.enter.send(Place { lane: self.clone() });
        }
    }

    /// Whether the lane waits for more before it lets anybody in.
    fn collects(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        let State { width, inside, .. } = *state;
        if self.collect.is_zero() || inside > 0 || width == 1 {
            return false;
        }
        state.waiting.retain(|waiter| !waiter.enter.is_closed());
        let Some(first) = state.waiting.front() else {
            state.collecting = None;
            return false;
        };
        let together = state.waiting.iter().filter(|w| w.cohort == first.cohort);
        if together.count() >= width {
            state.collecting = None;
            return false;
        }
        match state.collecting {
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                state.collecting = None;
                false
            }
            None => {
                let until = Instant::now() + self.collect;
                state.collecting = Some(until);
                let lane = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep_until(until).await;
                    lane.let_in();
                });
                true
            }
        }
    }

    fn next(&self) -> Option<Waiter> {
        let mut state = self.lock();
        state.waiting.retain(|waiter| !waiter.enter.is_closed());
        if state.inside >= state.width {
            return None;
        }
        let at = if state.inside == 0 {
            0
        } else {
            let fits = |waiter: &Waiter| waiter.cohort == state.cohort;
            let tired = state
                .waiting
                .front()
                .is_some_and(|head| head.overtaken >= MAX_OVERTAKEN);
            match state.waiting.iter().position(fits)? {
                0 => 0,
                _ if tired => return None,
                at => at,
            }
        };
        let waiter = state.waiting.remove(at)?;
        if at > 0
            && let Some(head) = state.waiting.front_mut()
        {
            head.overtaken += 1;
        }
        state.inside += 1;
        state.cohort = waiter.cohort.clone();
        Some(waiter)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn one_at_a_time_in_order_of_arrival() {
        let lane = Lane::new(1, Duration::ZERO);
        let first = lane.enter(vec![]).await;
        let mut second = Box::pin(lane.enter(vec![]));
        let mut third = Box::pin(lane.enter(vec![]));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none());
        let second = second.now_or_never().unwrap();
        drop(second);
        assert!(third.now_or_never().is_some());
    }

    #[tokio::test]
    async fn only_one_cohort_is_inside() {
        let lane = Lane::new(4, Duration::ZERO);
        let text = lane.enter(vec![]).await;
        let mut image = Box::pin(lane.enter(vec![(64, 64)]));
        assert!((&mut image).now_or_never().is_none());
        let more_text = lane.enter(vec![]).now_or_never().unwrap();
        drop(text);
        assert!((&mut image).now_or_never().is_none());
        drop(more_text);
        let image = image.now_or_never().unwrap();
        assert!(lane.enter(vec![(64, 32)]).now_or_never().is_none());
        assert!(lane.enter(vec![(64, 64)]).now_or_never().is_some());
        drop(image);
    }

    #[tokio::test]
    async fn an_empty_lane_waits_for_more_but_not_for_ever() {
        let patience = Duration::from_millis(20);
        let lane = Lane::new(3, patience);
        let started = Instant::now();
        let first = lane.enter(vec![]).await;
        assert!(started.elapsed() >= patience);
        // Others join it at once.
        assert!(lane.enter(vec![]).now_or_never().is_some());
        drop(first);
        assert_eq!(lane.lock().inside, 0);
    }

    #[tokio::test]
    async fn a_full_cohort_waits_for_nobody() {
        let lane = Lane::new(3, Duration::from_secs(3600));
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(lane.enter(vec![]))).collect();
        let mut image = Box::pin(lane.enter(vec![(64, 64)]));
        for waiter in waiting.iter_mut().chain([&mut image]) {
            assert!(waiter.now_or_never().is_none());
        }
        let third = lane.enter(vec![]).now_or_never();
        assert!(third.is_some());
        for waiter in waiting {
            assert!(waiter.now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn the_head_of_the_queue_is_not_overtaken_for_ever() {
        let lane = Lane::new(2, Duration::ZERO);
        let mut inside = lane.enter(vec![]).await;
        let mut image = Box::pin(lane.enter(vec![(64, 64)]));
        assert!((&mut image).now_or_never().is_none());
        let mut overtakers = 0;
        while let Some(next) = lane.enter(vec![]).now_or_never() {
            overtakers += 1;
            inside = next;
            assert!(overtakers <= MAX_OVERTAKEN);
        }
        assert_eq!(overtakers, MAX_OVERTAKEN);
        drop(inside);
        assert!(image.now_or_never().is_some());
    }

    #[tokio::test]
    async fn those_who_leave_the_queue_do_not_block_it() {
        let lane = Lane::new(1, Duration::ZERO);
        let first = lane.enter(vec![]).await;
        for _ in 0..100 {
            let mut gone = Box::pin(lane.enter(vec![]));
            assert!((&mut gone).now_or_never().is_none());
        }
        let mut last = Box::pin(lane.enter(vec![]));
        assert!((&mut last).now_or_never().is_none());
        drop(first);
        assert!(last.now_or_never().is_some());
        assert_eq!(lane.lock().inside, 0);
    }
}
