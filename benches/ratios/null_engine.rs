//! An engine that takes no time: what is left is the HTTP path. And starting servers.

use std::sync::{Arc, mpsc};

use futures::stream;
use porthole::{
    audit::AuditLog,
    config::Config,
    engine::{
        Engine, EngineError, Event, EventStream, FinishReason, Health, Inquiry, Job, ModelInfo,
        Prompt, PromptTokens, Reasoning, TokenUsage,
    },
    media::budget::ImageGeometry,
    metrics::Metrics,
    startup::Application,
    state::{EngineState, Parts},
};
use tokio::sync::watch;

pub(crate) struct NullEngine {
    info: ModelInfo,
    health: watch::Sender<Health>,
}

impl NullEngine {
    pub(crate) fn new() -> Arc<Self> {
        let geometry = ImageGeometry::patches(32, 1024, 1 << 24);
        let info = ModelInfo {
            geometry: Some(geometry),
            context_length: 1 << 20,
            vocabulary: 1_000,
            fingerprint: "fp_null".into(),
            tools: true,
            reasoning: Reasoning::Never,
        };
        Arc::new(Self {
            info,
            health: watch::Sender::new(Health::Up),
        })
    }
}

#[async_trait::async_trait]
impl Engine for NullEngine {
    async fn prepare(&self, _inquiry: Inquiry) -> Result<Box<dyn Prompt>, EngineError> {
        Ok(Box::new(NullPrompt))
    }

    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn width(&self) -> usize {
        1_000
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

struct NullPrompt;

#[async_trait::async_trait]
impl Prompt for NullPrompt {
    fn tokens(&self) -> PromptTokens {
        PromptTokens {
            total: 10,
            image: 0,
        }
    }

    fn ids(&self) -> Vec<u32> {
        (0..10).collect()
    }

    fn count(&self, text: &str) -> usize {
        text.len()
    }

    /// `max_tokens` words, all at once.
    async fn generate(&self, job: Job) -> Result<EventStream, EngineError> {
        let words = job.sampling.max_tokens.unwrap_or(4);
        let usage = TokenUsage {
            prompt: 10,
            image: 0,
            completion: words,
            reasoning: 0,
        };
        let end = Event::Finished {
            reason: FinishReason::Stop,
            usage,
        };
        let events = (0..words)
            .map(|_| Ok(Event::text("token ")))
            .chain([Ok(end)]);
        let events = events.collect::<Vec<_>>();
        (job.on_end)(usage);
        Ok(Box::pin(stream::iter(events)))
    }
}

/// Serves an engine without credentials; returns the port.
pub(crate) fn serve(engine: Arc<dyn Engine>) -> u16 {
    let mut config = Config::default();
    config.auth.enabled = false;
    serve_with(config, engine)
}

/// Serves an engine as production does; returns the port.
pub(crate) fn serve_with(mut config: Config, engine: Arc<dyn Engine>) -> u16 {
    config.server.bind.set_port(0);
    config.server.admin_bind.set_port(0);
    let (sender, receiver) = watch::channel(EngineState::Loaded(engine));
    let (port, started) = mpsc::channel();
    std::thread::spawn(move || {
        let _sender = sender;
        actix_web::rt::System::new().block_on(async move {
            let metrics = Arc::new(Metrics::default());
            let audit = AuditLog::off(metrics.clone());
            let parts = Parts {
                config,
                engines: vec![receiver],
                metrics,
                audit,
            };
            let application = Application::build(parts).expect("a free port");
            port.send(application.port()).expect("the bench waits");
            application.run().await.expect("the server runs");
        });
    });
    started.recv().expect("the server starts")
}
