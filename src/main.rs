//! The binary: arguments, logging, configuration, then the application.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use porthole::{
    check,
    cli::{self, Cli, Command, bench::BenchArgs, healthcheck},
    config::{Config, Secret},
    serve::{End, serve},
};

/// The exit code where a model could not be loaded, or not be brought back: the process is to be
/// started anew. 1 is for everything else that goes wrong.
const MODEL_LOST: u8 = 3;

fn main() -> ExitCode {
    give_large_buffers_back();
    let system = actix_web::rt::System::new();
    let code = system.block_on(run());
    // A model that is still being loaded would hold up the end of its thread for minutes.
    std::mem::forget(system);
    code
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

async fn run() -> ExitCode {
    let cli = Cli::parse();
    let overrides = cli.overrides();
    let config = match Config::load(&overrides) {
        Ok(config) => config,
        // It asks another server: what is wrong with the configuration here does not matter.
        Err(_) if matches!(cli.command, Some(Command::Bench(_))) => Config::default(),
        Err(problems) => return fail(&problems.to_string()),
    };
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => match take_stdout() {
            Ok(stdout) => match serve(config, overrides, stdout).await {
                Ok(End::Asked) => ExitCode::SUCCESS,
                Ok(End::ModelLost) => ExitCode::from(MODEL_LOST),
                Err(reason) => fail(&reason),
            },
            Err(error) => fail(&format!("standard output: {error}")),
        },
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
        Command::Bench(args) => bench(&args),
    }
}

fn bench(args: &BenchArgs) -> ExitCode {
    let keys = ["PORTHOLE_API_KEY", "OPENAI_API_KEY"];
    let key = keys.iter().find_map(|name| std::env::var(name).ok());
    let command: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match cli::bench::run(args, key.as_deref().map(Secret::from), &command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => fail(&reason),
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("porthole: {reason}");
    ExitCode::FAILURE
}
