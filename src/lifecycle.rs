//! How a server ends: it stops being ready, serves on for a while, lets what runs come to its end,
//! and ends the rest.

use tokio::sync::watch;

/// How far a server is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It is not ready any more; what comes is still served, and what runs goes on.
    Draining,
    /// What still runs is told to come again, and ended.
    Ending,
    /// Nothing runs any more.
    Ended,
}

/// The phase of a server, for all who hang on it. It only ever goes forward.
#[derive(Debug)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
        }
    }
}

impl Lifecycle {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to `phase`, unless it is there or further already; whether it went.
    pub fn go_on_to(&self, phase: Phase) -> bool {
        self.phase.send_if_modified(|now| {
            let further = *now < phase;
            if further {
                *now = phase;
            }
            further
        })
    }

    /// Waits for `phase` or a later one.
    pub fn reached(&self, phase: Phase) -> impl Future<Output = ()> + use<> {
        let mut now = self.phase.subscribe();
        async move {
            if now.wait_for(|now| *now >= phase).await.is_err() {
                // Who kept it is gone, and with it whatever hung on it.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn it_only_goes_forward_and_wakes_those_who_wait() {
        let lifecycle = Lifecycle::default();
        let mut draining = Box::pin(lifecycle.reached(Phase::Draining));
        let mut ending = Box::pin(lifecycle.reached(Phase::Ending));
        assert!((&mut draining).now_or_never().is_none());
        assert!(lifecycle.go_on_to(Phase::Draining));
        assert!(!lifecycle.go_on_to(Phase::Draining));
        assert!(draining.now_or_never().is_some());
        assert!((&mut ending).now_or_never().is_none());
        assert!(lifecycle.go_on_to(Phase::Ending));
        assert!(!lifecycle.go_on_to(Phase::Draining));
        assert_eq!(lifecycle.phase(), Phase::Ending);
        assert!(ending.now_or_never().is_some());
    }
}
