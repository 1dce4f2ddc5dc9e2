//! What every request shares.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use crate::{
    admission::{Bounds, Permit, Places, Queue},
    audit::AuditLog,
    auth::Authenticator,
    caller::Caller,
    config::{Config, LimitsConfig, ModelConfig, Secret},
    engine::{Engine, Health},
    error::ApiError,
    lifecycle::{Lifecycle, Phase},
    limits::Limiter,
    media::MediaLoader,
    metrics::{Metrics, ModelMetrics},
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

/// A model, and those who wait for it.
pub struct ServedModel {
    /// Its section of the configuration.
    pub config: ModelConfig,
    /// Who is next.
    pub queue: Arc<Queue>,
    /// What can be seen of it from outside.
    pub metrics: Arc<ModelMetrics>,
    engine: watch::Receiver<EngineState>,
}

impl ServedModel {
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
            Health::Lost(_) => Err(ApiError::NotReady("it could not be restarted".into())),
        }
    }

    async fn wait_for_loss(&self) -> String {
        let mut engine = self.engine.clone();
        loop {
            let loaded = match &*engine.borrow_and_update() {
                EngineState::Loading => None,
                EngineState::Failed(reason) => return reason.clone(),
                EngineState::Loaded(engine) => Some(engine.clone()),
            };
            if let Some(loaded) = loaded {
                let mut health = loaded.health();
                let lost = health
                    .wait_for(|health| matches!(health, Health::Lost(_)))
                    .await;
                if let Ok(health) = lost
                    && let Health::Lost(reason) = &*health
                {
                    return reason.clone();
                }
            }
            if engine.changed().await.is_err() {
                // Whoever loads has gone: it stays as it is.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why it will never answer again, where that is so.
    fn lost(&self) -> Option<String> {
        match &*self.engine.borrow() {
            EngineState::Loading => None,
            EngineState::Failed(reason) => Some(reason.clone()),
            EngineState::Loaded(engine) => match &*engine.health().borrow() {
                Health::Up | Health::Recovering(_) => None,
                Health::Lost(reason) => Some(reason.clone()),
            },
        }
    }
}

/// What every request shares.
pub struct AppState {
    /// The configuration.
    pub config: Config,
    /// Who may come in.
    pub auth: Authenticator,
    /// How much each may ask for.
    pub limiter: Arc<Limiter>,
    /// The models, the main one first.
    pub models: Vec<ServedModel>,
    /// Images to pixels.
    pub media: MediaLoader,
    /// What can be seen from outside.
    pub metrics: Arc<Metrics>,
    /// What is written of every request.
    pub audit: AuditLog,
    /// How far this server is on its way out.
    pub lifecycle: Arc<Lifecycle>,
    /// Seconds since 1970 at which this server started.
    pub started: u64,
    places: Arc<Places>,
    bodies: Arc<Places>,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

fn bounds(limits: &LimitsConfig) -> Bounds {
    Bounds {
        length: limits.max_queue_length,
        bytes: limits.max_queue_bytes,
        time: Duration::from_secs(limits.max_queue_time),
    }
}

/// What a server is built from.
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The engine of each model, in the order of the configuration, when it arrives.
    pub engines: Vec<watch::Receiver<EngineState>>,
    /// What can be seen from outside.
    pub metrics: Arc<Metrics>,
    /// What is written of every request.
    pub audit: AuditLog,
}

impl AppState {
    /// The state of a server, and the key that was made for this process where there is no
    /// credential.
    ///
    /// # Errors
    /// Everything that stands in the way, a line each.
    pub fn new(parts: Parts) -> Result<(Self, Option<Secret>), Vec<String>> {
        let Parts {
            config,
            engines,
            metrics,
            audit,
        } = parts;
        let is_loopback = config.server.bind.ip().is_loopback();
        let mut problems = Vec::new();
        let auth = Authenticator::new(&config.auth, is_loopback, metrics.clone());
        let auth = auth.map_err(|found| problems.extend(found));
        let limiter = Limiter::new(&config.limits, metrics.clone());
        let limiter = limiter.map_err(|problem| problems.push(problem));
        let media = MediaLoader::new(config.images.clone(), metrics.clone());
        let media = media.map_err(|problem| problems.push(format!("images: {problem}")));
        let (Ok((auth, start_up_key)), Ok(limiter), Ok(media)) = (auth, limiter, media) else {
            return Err(problems);
        };
        let bounds = bounds(&config.limits);
        let models = config.all_models().zip(engines);
        let models = models.map(|(model, engine)| {
            let metrics = metrics.model(&model.name);
            ServedModel {
                config: model.clone(),
                queue: Queue::new(bounds, metrics.waiting.clone()),
                metrics,
                engine,
            }
        });
        let state = Self {
            models: models.collect(),
            auth,
            limiter,
            media,
            audit,
            lifecycle: Arc::default(),
            started: now(),
            places: Places::new(config.server.max_concurrent_requests),
            bodies: Places::new(config.server.max_buffered_bytes),
            metrics,
            config,
        };
        Ok((state, start_up_key))
    }

    /// Takes on what can change while it runs: the limits.
    ///
    /// # Errors
    /// In words for the operator; nothing has changed then.
    pub fn reconfigure(&self, config: &Config) -> Result<(), String> {
        self.limiter.reconfigure(&config.limits)?;
        for model in &self.models {
            model.queue.set_bounds(bounds(&config.limits));
        }
        Ok(())
    }

    /// Whether the process is of use: no model is lost for good.
    ///
    /// # Errors
    /// Which model, and why.
    pub fn lost(&self) -> Result<(), String> {
        self.models.iter().try_for_each(|model| match model.lost() {
            None => Ok(()),
            Some(reason) => Err(format!("{}: {reason}", model.config.name)),
        })
    }

    /// Waits until a model is lost for good; which, and why.
    pub async fn wait_for_loss(&self) -> String {
        let losses = self.models.iter().map(|model| {
            Box::pin(async move {
                let reason = model.wait_for_loss().await;
                format!("{}: {reason}", model.config.name)
            })
        });
        futures::future::select_all(losses).await.0
    }

    /// Whether every model can answer now, and more may come.
    ///
    /// # Errors
    /// 503 with the reason of the first that cannot.
    pub fn ready(&self) -> Result<(), ApiError> {
        if self.lifecycle.phase() > Phase::Serving {
            return Err(ApiError::ShuttingDown);
        }
        self.models
            .iter()
            .try_for_each(|model| model.engine().map(drop))
    }

    /// Sets the gauges that tell what is so now: to be called before the metrics are read.
    pub fn refresh_metrics(&self) {
        self.metrics.ready.set(i64::from(self.ready().is_ok()));
        for model in &self.models {
            let engine = model.engine().ok();
            let of = |count: fn(&dyn Engine) -> usize| {
                let count = engine.as_deref().map_or(0, count);
                i64::try_from(count).unwrap_or(i64::MAX)
            };
            model.metrics.capacity.set(of(|engine| engine.width()));
            model
                .metrics
                .replicas_up
                .set(of(|engine| engine.replicas_up()));
            let wanted = i64::try_from(model.config.replicas).unwrap_or(i64::MAX);
            model.metrics.replicas.set(wanted);
        }
    }

    /// Whether a request may find a model: so that it can be refused before its body is read.
    ///
    /// # Errors
    /// 503 with the reason of the main one.
    pub fn any_ready(&self) -> Result<(), ApiError> {
        let mut found = self.models.iter().map(ServedModel::engine);
        let first = found.next().unwrap_or(Err(ApiError::Overloaded));
        match first {
            Err(_) if found.any(|other| other.is_ok()) => Ok(()),
            first => first.map(drop),
        }
    }

    /// A place for one request.
    ///
    /// # Errors
    /// 503 when all are taken, or the caller has as many as are left free.
    pub fn admit(&self, caller: &Caller) -> Result<Permit, ApiError> {
        self.places.take(caller.root(), 1).ok_or_else(|| {
            self.metrics.refused_for_overload("places");
            ApiError::Overloaded
        })
    }

    /// Memory for `bytes` of a request's body.
    ///
    /// # Errors
    /// 503 when it is not there.
    pub fn hold(&self, caller: &Caller, bytes: usize) -> Result<Permit, ApiError> {
        self.bodies.take(caller.root(), bytes).ok_or_else(|| {
            self.metrics.refused_for_overload("memory");
            ApiError::Overloaded
        })
    }

    /// The model behind a name that the caller may use.
    ///
    /// # Errors
    /// 404, the same for one that is not there and one that is not for this caller.
    pub fn model(&self, name: &str, caller: &Caller) -> Result<&ServedModel, ApiError> {
        let known = |model: &&ServedModel| model.config.names().any(|known| known == name);
        self.models
            .iter()
            .find(known)
            .filter(|model| caller.may_use(name) || caller.may_use(&model.config.name))
            .ok_or_else(|| ApiError::ModelNotFound(name.chars().take(128).collect()))
    }
}
