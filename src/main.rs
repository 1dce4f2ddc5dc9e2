//! The binary: arguments, logging, configuration, then the application.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use porthole::{
    audit::AuditLog,
    check,
    cli::{self, Cli, Command, healthcheck},
    config::{Config, ModelConfig},
    metrics::Metrics,
    startup::Application,
    state::{EngineState, Parts},
    telemetry,
};
use tokio::sync::watch;

fn main() -> ExitCode {
    give_large_buffers_back();
    actix_web::rt::System::new().block_on(run())
}

/// Keeps glibc from growing its threshold for memory that is mapped, and so given back as soon as
/// it is free, up to 32 MiB: images would then come from the arenas of the threads, which keep them.
fn give_large_buffers_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: no other thread runs yet, and both are parameters that mallopt(3) knows.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}

/// Takes standard output away from everybody but the audit log: the engine prints what it finds in
/// a GGUF file there, and a reader of audit lines is promised nothing but those. What is printed on
/// it from now on goes to stderr.
#[cfg(unix)]
fn take_stdout() -> io::Result<std::fs::File> {
    use std::os::fd::AsFd;

    let out = io::stdout().as_fd().try_clone_to_owned()?;
    // SAFETY: both descriptors are open, as std has seen to at the start, and stdout's number is
    // only pointed elsewhere; nobody owns it who would close it.
    if unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(out.into())
}

#[cfg(not(unix))]
fn take_stdout() -> io::Result<io::Stdout> {
    Ok(io::stdout())
}

/// The audit log, which has standard output for itself whether or not it is on.
fn audit_log(on: bool, metrics: Arc<Metrics>) -> io::Result<AuditLog> {
    let stdout = take_stdout()?;
    Ok(if on {
        AuditLog::to(stdout, metrics)
    } else {
        AuditLog::off(metrics)
    })
}

async fn run() -> ExitCode {
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
                "{} problem(s):\n  - {}",
                problems.len(),
                problems.join("\n  - ")
            )),
        },
        Command::Key(command) => match cli::key::run(&command, &config.auth) {
            Ok(said) => {
                let _ = std::io::stdout().write_all(said.out.as_bytes());
                eprint!("{}", said.note);
                ExitCode::SUCCESS
            }
            Err(reason) => fail(&reason),
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
    let (engines, arriving): (Vec<_>, Vec<_>) = config
        .all_models()
        .map(|_| watch::channel(EngineState::Loading))
        .unzip();
    let audit = match audit_log(config.log.audit, metrics.clone()) {
        Ok(audit) => audit,
        Err(e) => return fail(&format!("standard output: {e}")),
    };
    let parts = Parts {
        config: config.clone(),
        engines: arriving,
        metrics: metrics.clone(),
        audit,
    };
    let application = match Application::build(parts) {
        Ok(application) => application,
        Err(e) => return fail(&e.to_string()),
    };
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
    let tls = !config.server.tls_certificate.as_os_str().is_empty();
    let scheme = if tls { "https" } else { "http" };
    eprintln!(
        "Porthole listens on {scheme}://{address}; loading the model {} ...",
        config.model.id
    );
    let models: Vec<ModelConfig> = config.all_models().cloned().collect();
    actix_web::rt::spawn(async move {
        // One after the other: each takes all the machine has.
        let mut failed = false;
        for (model, engine) in models.iter().zip(&engines) {
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
        if let (false, Some(model)) = (failed, models.first()) {
            greet(&format!("{scheme}://{address}"), &model.name, &key);
        }
        // The engines live as long as the server: keep the senders.
        std::future::pending::<()>().await;
    });
    match application.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e.to_string()),
    }
}

fn greet(base: &str, model: &str, key: &str) {
    eprintln!(
        "Ready. Try:\n\n  curl {base}/v1/chat/completions -H 'Content-Type: application/json' \
         -H \"Authorization: Bearer {key}\" -d '{{\"model\": \
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
