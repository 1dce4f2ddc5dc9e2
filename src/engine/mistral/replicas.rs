//! The replicas of a model: the one with the least to do is asked next, and those that are away are
//! left out for as long as another is there.

use std::sync::{Arc, atomic::Ordering};

use futures::future::select_all;
use tokio::sync::watch;

use super::Shared;
use crate::engine::{EngineError, Health, ModelInfo};

/// The replicas of a model.
pub(super) struct Replicas {
    members: Vec<Arc<Shared>>,
    first: Arc<Shared>,
    health: watch::Receiver<Health>,
}

impl Replicas {
    /// The first, and further ones of the same files.
    pub(super) fn new(first: Arc<Shared>, more: Vec<Arc<Shared>>) -> Arc<Self> {
        let mut members = vec![first.clone()];
        members.extend(more);
        let healths = members.iter().map(|member| member.health.subscribe());
        let (all, health) = watch::channel(Health::Up);
        tokio::spawn(follow(healths.collect(), all));
        Arc::new(Self {
            members,
            first,
            health,
        })
    }

    /// The one that was loaded first.
    pub(super) fn first(&self) -> &Shared {
        &self.first
    }

    /// What is fixed when a model is loaded; the same for each.
    pub(super) fn info(&self) -> &ModelInfo {
        &self.first.info
    }

    /// Sequences that are computed at once, in all that can answer now; at least 1.
    pub(super) fn width(&self) -> usize {
        let up = self.members.iter().filter(|member| member.is_up());
        up.map(|member| member.lane.width()).sum::<usize>().max(1)
    }

    /// How many can answer now.
    pub(super) fn up(&self) -> usize {
        self.members.iter().filter(|member| member.is_up()).count()
    }

    /// Up while one of them is.
    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// The one to ask next.
    ///
    /// # Errors
    /// None will ever answer again.
    pub(super) fn least_busy(&self) -> Result<Arc<Shared>, EngineError> {
        let loads: Vec<Load> = self.members.iter().map(|member| member.to_do()).collect();
        let lost = || EngineError::Unavailable("every replica is lost".into());
        let member = choose(&loads).and_then(|at| self.members.get(at));
        member.cloned().ok_or_else(lost)
    }
}

/// What a replica has to do.
#[derive(Debug, Clone, Copy)]
struct Load {
    health: Readiness,
    busy: usize,
    width: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    Up,
    Recovering,
    Lost,
}

/// The one with the least to do for its width, of those that are there, else of those that may come
/// back.
fn choose(loads: &[Load]) -> Option<usize> {
    let able = loads.iter().enumerate();
    let able = able.filter(|(_, load)| load.health != Readiness::Lost);
    able.min_by(|(_, a), (_, b)| {
        let by_load = (a.busy * b.width).cmp(&(b.busy * a.width));
        a.health.cmp(&b.health).then(by_load)
    })
    .map(|(at, _)| at)
}

impl Shared {
    pub(super) fn is_up(&self) -> bool {
        *self.health.borrow() == Health::Up
    }

    fn to_do(&self) -> Load {
        let health = match &*self.health.borrow() {
            Health::Up => Readiness::Up,
            Health::Recovering(_) => Readiness::Recovering,
            Health::Lost(_) => Readiness::Lost,
        };
        Load {
            health,
            busy: self.busy.load(Ordering::SeqCst),
            width: self.lane.width(),
        }
    }
}

/// An answer that a replica has been given; dropped when it has let go of it.
pub(super) struct Busy(Arc<Shared>);

impl Busy {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.busy.fetch_add(1, Ordering::SeqCst);
        Self(shared.clone())
    }

    pub(super) fn replica(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Keeps `all` as good as the best of them.
async fn follow(mut members: Vec<watch::Receiver<Health>>, all: watch::Sender<Health>) {
    loop {
        let now = members
            .iter_mut()
            .map(|member| member.borrow_and_update().clone());
        let best = now.min_by_key(|health| match health {
            Health::Up => Readiness::Up,
            Health::Recovering(_) => Readiness::Recovering,
            Health::Lost(_) => Readiness::Lost,
        });
        let Some(best) = best else { return };
        all.send_if_modified(|known| {
            let changed = *known != best;
            *known = best;
            changed
        });
        let changes = members.iter_mut().map(|member| Box::pin(member.changed()));
        if select_all(changes).await.0.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(health: Readiness, busy: usize, width: usize) -> Load {
        Load {
            health,
            busy,
            width,
        }
    }

    #[test]
    fn the_one_with_the_least_to_do_is_next() {
        use Readiness::{Lost, Recovering, Up};
        for (loads, expected) in [
            (vec![load(Up, 0, 1), load(Up, 0, 1)], Some(0)),
            (vec![load(Up, 1, 1), load(Up, 0, 1)], Some(1)),
            // Half full before full.
            (vec![load(Up, 2, 2), load(Up, 4, 8)], Some(1)),
            (vec![load(Recovering, 0, 1), load(Up, 9, 1)], Some(1)),
            (vec![load(Lost, 0, 1), load(Recovering, 9, 1)], Some(1)),
            (vec![load(Lost, 0, 1), load(Lost, 0, 1)], None),
        ] {
            assert_eq!(choose(&loads), expected, "{loads:?}");
        }
    }

    #[tokio::test]
    async fn one_that_is_up_is_enough() {
        let first = watch::Sender::new(Health::Up);
        let second = watch::Sender::new(Health::Up);
        let (all, mut seen) = watch::channel(Health::Up);
        tokio::spawn(follow(vec![first.subscribe(), second.subscribe()], all));
        let gone = || Health::Recovering("gone".into());
        first.send_replace(gone());
        tokio::task::yield_now().await;
        assert_eq!(*seen.borrow(), Health::Up);
        second.send_replace(Health::Lost("for good".into()));
        assert!(seen.wait_for(|health| *health == gone()).await.is_ok());
        first.send_replace(Health::Lost("for good".into()));
        let lost = seen
            .wait_for(|health| matches!(health, Health::Lost(_)))
            .await;
        assert!(lost.is_ok());
    }
}
