//! The binary: arguments, logging, configuration, then the application.

use std::{io::Write, process::ExitCode, sync::Arc};

use clap::Parser;
use porthole::{
    check,
    cli::{Cli, Command, healthcheck},
    config::{Config, ModelConfig},
    metrics::Metrics,
    startup::Application,
    state::EngineState,
    telemetry,
};
use tokio::sync::watch;

#[actix_web::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match Config::load(&cli.overrides()) {
        Ok(config) => config,
        Err(problems) => return fail(&problems.to_string()),
    };
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(config).await,
        Command::Check => match check::report(&config) {
            Ok(report) => {
                let _ = std::io::stdout().write_all(report.as_bytes());
                ExitCode::SUCCESS
            }
            Err(problems) => fail(&format!(
                "the model has {} problem(s):\n  - {}",
                problems.len(),
                problems.join("\n  - ")
            )),
        },
        Command::Healthcheck => match healthcheck(&config).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(&reason),
        },
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("porthole: {reason}");
    ExitCode::FAILURE
}

async fn serve(config: Config) -> ExitCode {
    telemetry::init(&config.log);
    let metrics = Arc::new(Metrics::default());
    let (engine, arriving) = watch::channel(EngineState::Loading);
    let application = match Application::build(config.clone(), arriving, metrics.clone()) {
        Ok(application) => application,
        Err(e) => return fail(&format!("cannot listen on {}: {e}", config.server.bind)),
    };
    let mut address = config.server.bind;
    address.set_port(application.port());
    eprintln!(
        "Porthole listens on http://{address}; loading the model {} ...",
        config.model.id
    );
    let name = config.model.name.clone();
    actix_web::rt::spawn(async move {
        match load(config.model, metrics).await {
            Ok(loaded) => {
                engine.send_replace(loaded);
                greet(&address.to_string(), &name);
            }
            Err(reason) => {
                tracing::error!(%reason, "the model could not be loaded");
                engine.send_replace(EngineState::Failed(reason));
            }
        }
        // The engine lives as long as the server: keep the sender.
        std::future::pending::<()>().await;
    });
    match application.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e.to_string()),
    }
}

fn greet(address: &str, model: &str) {
    eprintln!(
        "Ready. Try:\n\n  curl http://{address}/v1/chat/completions -H 'Content-Type: application/json' -d '{{\"model\": \
         \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"What are you able to do?\"}}]}}'\n"
    );
}

#[cfg(feature = "mistralrs")]
async fn load(config: ModelConfig, metrics: Arc<Metrics>) -> Result<EngineState, String> {
    let engine = porthole::engine::mistral::MistralEngine::load(config, metrics).await?;
    Ok(EngineState::Loaded(Arc::new(engine)))
}

#[cfg(not(feature = "mistralrs"))]
async fn load(_: ModelConfig, _: Arc<Metrics>) -> Result<EngineState, String> {
    Err("this build has no engine: build with the feature `mistralrs`".into())
}
