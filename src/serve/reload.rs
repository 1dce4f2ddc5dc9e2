//! Taking on a changed configuration: when its file changes, or at SIGHUP. What is wrong is said in
//! the log and changes nothing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use crate::{
    config::{Config, Overrides},
    metrics::Metrics,
    startup::Handle,
    telemetry::Log,
};

/// How often the file is looked at. By its content: Kubernetes swaps a link.
const LOOK: Duration = Duration::from_secs(1);

/// What the file held, by hash: it may hold secrets. `None` where it cannot be read.
type Looked = Option<[u8; 32]>;

/// Takes on changes for as long as it is polled.
///
/// # Errors
/// In words for the operator: the system has no signals.
pub(super) fn watch(
    started_with: &Config,
    overrides: Overrides,
    handle: Handle,
    (log, metrics): (Log, Arc<Metrics>),
) -> Result<impl Future<Output = ()> + use<>, String> {
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| format!("no signals: {e}"))?;
    for outcome in ["ok", "error"] {
        metrics.config_reloads_of(outcome);
    }
    let file = overrides.file().map(PathBuf::from);
    let mut reload = Reload {
        filter: started_with.log.filter.clone(),
        log,
        overrides,
        handle,
        metrics,
    };
    Ok(async move {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tried = look(file.clone()).await;
        let mut last = tried;
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    tried = look(file.clone()).await;
                    last = tried;
                    reload.reload().await;
                }
                _ = tick.tick() => {
                    let seen = look(file.clone()).await;
                    // An editor may be half-way through: only what is seen twice is tried.
                    if seen != tried && seen == last {
                        tried = seen;
                        reload.reload().await;
                    }
                    last = seen;
                }
            }
        }
    })
}

struct Reload {
    /// What the log lets through now.
    filter: String,
    log: Log,
    overrides: Overrides,
    handle: Handle,
    metrics: Arc<Metrics>,
}

impl Reload {
    async fn reload(&mut self) {
        let overrides = self.overrides.clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&overrides)).await;
        let taken = match loaded {
            Ok(Ok(config)) => self.take(config),
            Ok(Err(problems)) => Err(problems.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let outcome = match taken {
            Ok(()) => {
                tracing::info!("the configuration was read anew");
                "ok"
            }
            Err(problem) => {
                tracing::error!(%problem, "the new configuration is not used; the last one stays");
                "error"
            }
        };
        self.metrics.config_reloads_of(outcome).inc();
    }

    fn take(&mut self, config: Config) -> Result<(), String> {
        self.handle.reconfigure(&config)?;
        if self.filter != config.log.filter {
            self.log.set_filter(&config.log.filter)?;
            self.filter = config.log.filter;
        }
        Ok(())
    }
}

async fn look(file: Option<PathBuf>) -> Looked {
    let file = file?;
    // A file system may hang; the async threads must not.
    let read = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
    Some(Sha256::digest(read.ok()?.ok()?).into())
}
