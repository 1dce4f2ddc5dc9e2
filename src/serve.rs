//! Serving as the binary does it: models are loaded one after the other, signals are obeyed, and
//! the configuration is taken on anew when it changes.

mod reload;
mod signals;

use std::{io::Write, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    audit::AuditLog,
    cli::loopback_of,
    config::{Config, ModelConfig, Overrides},
    metrics::Metrics,
    startup::{Application, Handle},
    state::{EngineState, Parts},
    telemetry,
    trace::Traces,
};

/// How a server came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Asked,
    /// A model could not be loaded, or not be brought back.
    ModelLost,
}

/// Serves until told to stop; audit lines go to `audit`, where they are wanted.
///
/// # Errors
/// In words for the operator: the server cannot start, or failed.
pub async fn serve(
    config: Config,
    overrides: Overrides,
    audit: impl Write + Send + 'static,
) -> Result<End, String> {
    let log = telemetry::init(&config.log);
    let traces = Traces::start(&config.telemetry)?;
    let metrics = Arc::new(Metrics::default());
    let (engines, arriving): (Vec<_>, Vec<_>) = config
        .all_models()
        .map(|_| watch::channel(EngineState::Loading))
        .unzip();
    let audit = if config.log.audit {
        AuditLog::to(audit, metrics.clone())
    } else {
        AuditLog::off(metrics.clone())
    };
    let audit = audit.traced(traces.as_ref().map(Traces::tracer));
    let parts = Parts {
        config: config.clone(),
        engines: arriving,
        metrics: metrics.clone(),
        audit,
    };
    let application = Application::build(parts).map_err(|e| e.to_string())?;
    let greeting = Greeting::new(&application, &config);
    let handle = application.handle();
    signals::obey(handle.clone())?;
    let reload = reload::watch(&config, overrides, handle.clone(), (log, metrics.clone()))?;
    tokio::spawn(reload);
    tokio::spawn(load_all(config, engines, metrics, greeting));
    tokio::spawn(end_when_lost(handle.clone()));
    let ended = application.run().await;
    if let Some(traces) = traces {
        traces.finish().await;
    }
    ended.map_err(|e| e.to_string())?;
    if handle.is_whole() {
        Ok(End::Asked)
    } else {
        Ok(End::ModelLost)
    }
}

/// Waits for a model to be lost, and ends the server then: others finish what they are at, and
/// whoever runs the process starts another.
async fn end_when_lost(handle: Handle) {
    let reason = handle.lost().await;
    tracing::error!(%reason, "a model is lost; the server ends");
    // Where no model answers, nobody is sent here.
    let delay = (!handle.serves()).then_some(Duration::ZERO);
    handle.drain(delay).await;
}

/// Loads the models, one after the other: each takes all the machine has.
async fn load_all(
    config: Config,
    engines: Vec<watch::Sender<EngineState>>,
    metrics: Arc<Metrics>,
    greeting: Greeting,
) {
    let mut failed = false;
    for (model, engine) in config.all_models().zip(&engines) {
        match load(model.clone(), metrics.clone()).await {
            Ok(loaded) => {
                engine.send_replace(loaded);
            }
            Err(reason) => {
                failed = true;
                tracing::error!(model = model.name, %reason, "the model could not be loaded");
                engine.send_replace(EngineState::Failed(reason));
            }
        }
    }
    if !failed {
        greeting.ready();
    }
    // The engines live as long as the server: keep the senders.
    std::future::pending::<()>().await;
}

/// What is said on a terminal at the start.
struct Greeting {
    base: String,
    model: String,
    key: String,
}

impl Greeting {
    /// Says where the server listens, and with which key where one was made.
    fn new(application: &Application, config: &Config) -> Self {
        let mut key = String::from("$PORTHOLE_API_KEY");
        if let Some(made) = application.start_up_key() {
            key = made.expose().to_string();
            eprintln!(
                "There are no credentials yet, so this key works until the process ends:\n\n  {key}\n\n\
                 Make a lasting one with `porthole key create NAME`."
            );
        }
        if !config.auth.enabled {
            tracing::warn!(
                "auth.enabled = false: everybody who reaches {} may do everything",
                config.server.bind
            );
        }
        let mut address = config.server.bind;
        address.set_port(application.port());
        // What stands for all addresses is none to connect to.
        if address.ip().is_unspecified() {
            address.set_ip(loopback_of(address.ip()));
        }
        let tls = !config.server.tls_certificate.as_os_str().is_empty();
        let scheme = if tls { "https" } else { "http" };
        let base = format!("{scheme}://{address}");
        eprintln!(
            "Porthole listens on {base}; loading the model {} ...",
            config.model.id
        );
        Self {
            base,
            model: config.model.name.clone(),
            key,
        }
    }

    fn ready(&self) {
        let Self { base, model, key } = self;
        eprintln!(
            "Ready. Try:\n\n  curl {base}/v1/chat/completions -H 'Content-Type: application/json' \
             -H \"Authorization: Bearer {key}\" -d '{{\"model\": \
             \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"What are you able to do?\"}}]}}'\n"
        );
    }
}

#[cfg(feature = "mistralrs")]
async fn load(config: ModelConfig, metrics: Arc<Metrics>) -> Result<EngineState, String> {
    let engine = crate::engine::mistral::MistralEngine::load(config, metrics).await?;
    Ok(EngineState::Loaded(Arc::new(engine)))
}

#[cfg(not(feature = "mistralrs"))]
async fn load(_: ModelConfig, _: Arc<Metrics>) -> Result<EngineState, String> {
    Err("this build has no engine: build with the feature `mistralrs`".into())
}
