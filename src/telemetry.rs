//! The log: lines for people or JSON, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::{
    Registry, filter::Targets, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::config::{LogConfig, LogFormat};

/// The log, started.
#[derive(Debug, Clone)]
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
}

/// Starts logging. Called once, by the binary.
pub fn init(config: &LogConfig) -> Log {
    let filter: Targets = config.filter.parse().unwrap_or_default();
    let (filter, handle) = reload::Layer::new(filter);
    let colors = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colors);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match config.format {
        LogFormat::Pretty => registry.with(layer.with_target(false)).try_init(),
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_span_list(false);
            registry.with(layer).try_init()
        }
    };
    if let Err(error) = started {
        tracing::warn!(%error, "logging was started already");
    }
    Log { filter: handle }
}

impl Log {
    /// Logs what this filter lets through, from now on.
    ///
    /// # Errors
    /// It is none; the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), String> {
        let filter: Targets = filter.parse().map_err(|e| format!("log.filter: {e}"))?;
        self.filter.reload(filter).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_can_be_changed_while_it_runs() {
        let (filter, handle) = reload::Layer::new("warn".parse::<Targets>().unwrap());
        let log = Log { filter: handle };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter), || {
            let told = || tracing::enabled!(tracing::Level::INFO);
            assert!(!told());
            log.set_filter("info").unwrap();
            assert!(told());
            let error = log.set_filter("porthole=loud").unwrap_err();
            assert!(error.starts_with("log.filter: "), "{error}");
            assert!(told());
        });
    }
}
