//! What every request shares.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use crate::{
    admission::{Admission, Permit},
    config::Config,
    engine::{Engine, Health},
    error::ApiError,
    media::MediaLoader,
    metrics::Metrics,
};

/// How far the engine has come.
#[derive(Clone)]
pub enum EngineState {
    /// Not yet; the reason is told by `/ready`.
    Loading,
    /// It can be asked.
    Loaded(Arc<dyn Engine>),
    /// It never will be.
    Failed(String),
}

/// What every request shares.
pub struct AppState {
    /// The configuration.
    pub config: Config,
    /// Images to pixels.
    pub media: MediaLoader,
    /// What can be seen from outside.
    pub metrics: Arc<Metrics>,
    /// Seconds since 1970 at which this server started.
    pub started: u64,
    engine: watch::Receiver<EngineState>,
    admission: Admission,
}

impl AppState {
    /// The state of a server whose engine arrives through `engine`.
    ///
    /// # Errors
    /// The TLS backend for fetching images could not be set up.
    pub fn new(
        config: Config,
        engine: watch::Receiver<EngineState>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let media = MediaLoader::new(config.images.clone(), metrics.clone())
            .map_err(std::io::Error::other)?;
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let admission = Admission::new(config.server.max_concurrent_requests);
        Ok(Self {
            config,
            media,
            metrics,
            started,
            engine,
            admission,
        })
    }

    /// The engine, if it can answer now.
    ///
    /// # Errors
    /// 503 with the reason.
    pub fn engine(&self) -> Result<Arc<dyn Engine>, ApiError> {
        let engine = match &*self.engine.borrow() {
            EngineState::Loading => return Err(ApiError::NotReady("it is loading".into())),
            EngineState::Failed(_) => {
                return Err(ApiError::NotReady("it could not be loaded".into()));
            }
            EngineState::Loaded(engine) => engine.clone(),
        };
        let health = engine.health().borrow().clone();
        match health {
            Health::Up => Ok(engine),
            Health::Recovering(_) => Err(ApiError::NotReady("it is being restarted".into())),
        }
    }

    /// A place for one request.
    ///
    /// # Errors
    /// 503 when all are taken.
    pub fn admit(&self) -> Result<Permit, ApiError> {
        self.admission.admit().ok_or(ApiError::Overloaded)
    }

    /// Refuses a model name that is not served here.
    ///
    /// # Errors
    /// 404.
    pub fn check_model(&self, name: &str) -> Result<(), ApiError> {
        if self.config.model_names().any(|known| known == name) {
            return Ok(());
        }
        Err(ApiError::ModelNotFound(name.chars().take(128).collect()))
    }
}
