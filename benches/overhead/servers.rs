//! The two sides of the HTTP path, and what their threads cost.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, rt::System, web};
use futures::{Stream, StreamExt, stream};
use porthole::{
    config::Config,
    engine::{
        Engine, EngineError, Event, EventStream, FinishReason, GenerateRequest, Health, ModelInfo,
        TokenUsage,
    },
    media::budget::ImageGeometry,
    metrics::Metrics,
    startup::Application,
    state::EngineState,
};
use tokio::sync::watch;

/// Formats the log as the binary does and throws it away: it is part of a request's cost.
pub(crate) fn start_log() {
    use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};
    let filter: Targets = Config::default()
        .log
        .filter
        .parse()
        .expect("the default parses");
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::sink)
        .with_target(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
}

/// How the engine that takes no time hands out its answer.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// All tokens are there at once, so the gateway may send them together.
    Burst,
    /// The reader is woken for every token, as a model does it.
    TokenByToken,
}

/// Answers at once with `max_tokens` words; what is left to measure is the HTTP path.
pub(crate) struct NullEngine {
    pace: Pace,
    info: ModelInfo,
    health: watch::Sender<Health>,
}

impl NullEngine {
    pub(crate) fn new(pace: Pace) -> Arc<Self> {
        let geometry = ImageGeometry {
            factor: 32,
            min_pixels: 65_536,
            max_pixels: 16_777_216,
        };
        Arc::new(Self {
            pace,
            info: ModelInfo {
                geometry,
                context_length: 1 << 20,
                fingerprint: "fp_null".into(),
            },
            health: watch::Sender::new(Health::Up),
        })
    }
}

fn words(count: usize) -> impl Stream<Item = Result<Event, EngineError>> {
    let usage = TokenUsage {
        prompt: 10,
        image: 0,
        completion: count,
    };
    let reason = FinishReason::Stop;
    let deltas = (0..count).map(|_| Ok(Event::Delta("token ".into())));
    stream::iter(deltas.chain([Ok(Event::Finished { reason, usage })]))
}

#[async_trait::async_trait]
impl Engine for NullEngine {
    async fn generate(&self, request: GenerateRequest) -> Result<EventStream, EngineError> {
        let words = words(request.sampling.max_tokens.unwrap_or(4));
        Ok(match self.pace {
            Pace::Burst => Box::pin(words),
            Pace::TokenByToken => Box::pin(words.then(|event| async {
                tokio::task::yield_now().await;
                event
            })),
        })
    }

    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

/// Serves `engine` as production does; returns the port.
pub(crate) fn porthole(engine: Arc<dyn Engine>) -> u16 {
    let mut config = Config::default();
    config.server.bind.set_port(0);
    config.server.admin_bind.set_port(0);
    on_a_thread(move |port| async move {
        // Dropping the sender would not hurt, but production keeps it.
        let (_sender, arriving) = watch::channel(EngineState::Loaded(engine));
        let metrics = Arc::new(Metrics::default());
        let application = Application::build(config, arriving, metrics).expect("a port is free");
        port.send(application.port()).expect("the bench waits");
        application.run().await.expect("the server runs");
    })
}

/// A handler that parses the body as JSON and sends `answer`; returns the port. Neither side sets
/// its number of workers, so both have actix's default.
pub(crate) fn raw(answer: Vec<u8>) -> u16 {
    let answer = web::Bytes::from(answer);
    let answer_to = move |body: web::Bytes| {
        let answer = answer.clone();
        async move {
            let body: serde_json::Value = serde_json::from_slice(&body).expect("the body is JSON");
            assert!(body["model"].is_string());
            HttpResponse::Ok()
                .content_type("application/json")
                .body(answer)
        }
    };
    on_a_thread(move |port| async move {
        let routes =
            move || App::new().route("/v1/chat/completions", web::post().to(answer_to.clone()));
        let server = HttpServer::new(routes)
            .bind("127.0.0.1:0")
            .expect("a port is free");
        let bound = server.addrs()[0].port();
        port.send(bound).expect("the bench waits");
        server.run().await.expect("the server runs");
    })
}

fn on_a_thread<F: Future<Output = ()>>(
    serve: impl FnOnce(mpsc::Sender<u16>) -> F + Send + 'static,
) -> u16 {
    let (port, bound) = mpsc::channel();
    thread::spawn(move || System::new().block_on(serve(port)));
    bound.recv().expect("the server starts")
}

/// Processor time that the workers of all servers have used so far. Only one side works at a time.
/// Unlike wall time it does not grow when other programs take the cores. Zero where the kernel
/// does not tell.
pub(crate) fn worker_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        if !name.starts_with("actix-server wo") {
            return None;
        }
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}
