//! Ending a running server without breaking anything off, and telling it what has changed.
//!
//! First `/ready` falls, while new connections are still served: load balancers take a while to
//! notice. Every answer then closes its connection, so that clients and proxies come back elsewhere.
//! Then the listener is closed, and what runs may come to its end. What has not by then gets an
//! error that tells the client to try again.

use std::time::Duration;

use actix_web::{dev::ServerHandle, web::Data};
use tokio::time::{sleep, timeout};

use crate::{config::Config, lifecycle::Phase, state::AppState};

/// How long those whose answers are ended may take to read that.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long the keepers of the limits' counts may take: Redis may be away.
const COUNTED: Duration = Duration::from_secs(5);
/// How long the audit log's reader may take.
const AUDIT_WRITTEN: Duration = Duration::from_secs(2);

/// A hand on a running server.
#[derive(Clone)]
pub struct Handle {
    pub(super) state: Data<AppState>,
    pub(super) server: ServerHandle,
}

impl Handle {
    /// Ends the server, and returns when it has ended: after `delay` (`server.drain_delay` where none
    /// is given) it takes no more connections, and what still runs `server.drain_timeout` after that
    /// is ended. Where it is ending already, what runs is ended at once.
    pub async fn drain(&self, delay: Option<Duration>) {
        let state = &self.state;
        let lifecycle = &state.lifecycle;
        if !lifecycle.go_on_to(Phase::Draining) {
            lifecycle.go_on_to(Phase::Ending);
            lifecycle.reached(Phase::Ended).await;
            return;
        }
        let usual = Duration::from_secs(state.config.server.drain_delay);
        state.metrics.draining.set(1);
        state.metrics.ready.set(0);
        tracing::info!("ending: not ready any more");
        let hurried = || lifecycle.reached(Phase::Ending);
        tokio::select! {
            () = sleep(delay.unwrap_or(usual)) => {}
            () = hurried() => {}
        }
        tracing::info!("ending: no more connections; what runs comes to its end");
        let mut stopped = Box::pin(self.server.stop(true));
        let in_time = tokio::select! {
            () = &mut stopped => true,
            () = sleep(Duration::from_secs(state.config.server.drain_timeout)) => false,
            () = hurried() => false,
        };
        if !in_time {
            tracing::warn!("ending: what still runs is told to try again elsewhere");
            lifecycle.go_on_to(Phase::Ending);
            if timeout(LAST_WORDS, stopped).await.is_err() {
                tracing::warn!("ending: connections are broken off");
            }
        }
        if timeout(COUNTED, state.limiter.finish()).await.is_err() {
            tracing::warn!("ending: what the last answers cost could not be told to Redis");
        }
        state.audit.flush(AUDIT_WRITTEN).await;
        lifecycle.go_on_to(Phase::Ended);
    }

    /// Takes on what can change while the server runs, and says in the log what cannot.
    ///
    /// # Errors
    /// In words for the operator; nothing has changed then.
    pub fn reconfigure(&self, config: &Config) -> Result<(), String> {
        self.state.reconfigure(config)?;
        let fixed = self.state.config.fixed_changes(config);
        if !fixed.is_empty() {
            let sections = fixed.join(", ");
            tracing::warn!(
                sections,
                "changed, but used only by a server that starts anew"
            );
        }
        Ok(())
    }

    /// Whether requests may find a model here.
    pub fn serves(&self) -> bool {
        self.state.any_ready().is_ok()
    }

    /// Whether no model is lost for good.
    pub fn is_whole(&self) -> bool {
        self.state.lost().is_ok()
    }

    /// Which model is lost for good, and why; where none is, waits until one is.
    pub async fn lost(&self) -> String {
        self.state.wait_for_loss().await
    }
}
