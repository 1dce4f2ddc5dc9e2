//! The command line.

pub mod bench;
pub mod key;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use clap::{Parser, Subcommand};

use crate::config::{Config, Overrides};
use bench::BenchArgs;
use key::KeyCommand;

/// An OpenAI-compatible gateway with a vision-language model in its own process.
#[derive(Debug, Parser)]
#[command(name = "porthole", version)]
pub struct Cli {
    /// Configuration file; without it `config.toml`, where there is one.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Address and port to listen on.
    #[arg(long, global = true)]
    bind: Option<String>,
    /// Model folder or hub id.
    #[arg(long, global = true)]
    model: Option<String>,
    /// What to do; `serve` where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Load the model and serve.
    Serve,
    /// Read the configuration, name every problem, and say what would be loaded.
    Check,
    /// Make, list, revoke and rotate API keys.
    #[command(subcommand)]
    Key(Box<KeyCommand>),
    /// Ask the running server whether it lives; the exit code is the answer.
    Healthcheck,
    /// Load any OpenAI-compatible server and measure throughput and latency.
    Bench(Box<BenchArgs>),
}

impl Cli {
    /// What the flags override.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            bind: self.bind.clone(),
            model: self.model.clone(),
        }
    }
}

/// The loopback address of the same family.
pub fn loopback_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Asks the server of this configuration for `/health`.
///
/// # Errors
/// In words: it does not answer, or not with 200.
pub async fn healthcheck(config: &Config) -> Result<(), String> {
    let mut address = config.server.bind;
    if address.ip().is_unspecified() {
        address.set_ip(loopback_of(address.ip()));
    }
    let tls = !config.server.tls_certificate.as_os_str().is_empty();
    let scheme = if tls { "https" } else { "http" };
    let client = reqwest::Client::builder()
        .no_proxy()
        // The certificate names the server's public host, not the address it is asked at here; and
        // nothing is told to it or believed of it but that it lives.
        .tls_danger_accept_invalid_certs(tls)
        .timeout(std::time::Duration::from_secs(5))
        .build()
        .map_err(|e| e.to_string())?;
    let response = client
        .get(format!("{scheme}://{address}/health"))
        .send()
        .await
        .map_err(|e| e.to_string())?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(format!("/health answered {}", response.status()))
    }
}
