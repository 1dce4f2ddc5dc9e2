//! The configuration: one documented struct per section, read from a TOML file, the environment
//! (`PORTHOLE__SECTION__KEY`) and flags, in rising order of precedence.

mod auth;
mod limits;
mod load;
mod secret;
mod server;
mod telemetry;

use serde::{Deserialize, Serialize};

pub use auth::{AuthConfig, IssuerConfig, StartUpKey};
pub use limits::{LimitsConfig, ModelLimits, OnRedisError};
pub use load::{ConfigProblems, Overrides};
pub use secret::Secret;
pub use server::ServerConfig;
pub use telemetry::{OtlpProtocol, TelemetryConfig};

/// Everything an operator can set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP listener and what it lets in.
    pub server: ServerConfig,
    /// Who may ask.
    pub auth: AuthConfig,
    /// How much each caller may ask for, and how long anybody waits.
    pub limits: LimitsConfig,
    /// The model that answers.
    pub model: ModelConfig,
    /// Further models in the same process, with the same keys.
    pub models: Vec<ModelConfig>,
    /// What an image may cost.
    pub images: ImagesConfig,
    /// What is written to the log.
    pub log: LogConfig,
    /// Where traces go.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Sections in which `new` differs where only a start takes it on: not the limits themselves, nor
    /// what is written to the log.
    pub fn fixed_changes(&self, new: &Self) -> Vec<&'static str> {
        let limits = |config: &Self| LimitsConfig {
            redis_url: config.limits.redis_url.clone(),
            store: config.limits.store.clone(),
            ..LimitsConfig::default()
        };
        let log = |config: &Self| LogConfig {
            filter: String::new(),
            ..config.log.clone()
        };
        let pairs = [
            ("server", self.server == new.server),
            ("auth", self.auth == new.auth),
            (
                "limits.redis_url, limits.store",
                limits(self) == limits(new),
            ),
            ("model", self.model == new.model),
            ("models", self.models == new.models),
            ("images", self.images == new.images),
            ("log.format, log.audit", log(self) == log(new)),
            ("telemetry", self.telemetry == new.telemetry),
        ];
        let changed = pairs.into_iter().filter(|(_, same)| !same);
        changed.map(|(name, _)| name).collect()
    }
}

/// `[model]`, and each of `[[models]]`: a model that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A folder, or a hub id such as `Qwen/Qwen3-VL-8B-Instruct`.
    pub id: String,
    /// The name clients use in `model`.
    pub name: String,
    /// Further names for the same model.
    pub aliases: Vec<String>,
    /// Where it runs.
    pub device: Device,
    /// Arithmetic of the weights: `auto` is f32 on a CPU and bf16 elsewhere.
    pub dtype: Dtype,
    /// Quantisation applied while loading, as mistral.rs names it (`q4k`, `q8_0`, ...); empty for none.
    pub quantization: String,
    /// Sequences at once, in so far as the check at load proves that they do not disturb each
    /// other; 0 means 1 on a CPU and 8 elsewhere.
    pub max_batch_size: usize,
    /// Microseconds that an idle engine waits for more requests, to compute their prompts in one
    /// pass; 0 for none. Of use only where sequences run together.
    pub batch_timeout_micros: u64,
    /// Longest prompt plus answer, in tokens; 0 means the model's own.
    pub context_length: usize,
    /// Times the model is loaded, each with its own memory and its own sequences.
    pub replicas: usize,
    /// Where the replicas run, one after the other and round again: `cpu`, `cuda:0`, `cuda:1` ...;
    /// empty for `device`.
    pub devices: Vec<String>,
    /// Keep keys and values in pages, as large batches on a GPU need it. CUDA only.
    pub paged_attention: bool,
    /// The part of the GPU's memory that weights and pages may take together.
    pub gpu_memory_utilization: f32,
    /// Attempts to bring a dead engine back within ten minutes; after one more it counts as lost.
    pub max_restarts: usize,
}

impl ModelConfig {
    /// The names that clients may use for it, its own first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.aliases.iter().map(String::as_str))
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            id: "models/demo".into(),
            name: "demo".into(),
            aliases: Vec::new(),
            device: Device::Auto,
            dtype: Dtype::Auto,
            quantization: String::new(),
            max_batch_size: 0,
            batch_timeout_micros: 0,
            context_length: 0,
            replicas: 1,
            devices: Vec::new(),
            paged_attention: false,
            gpu_memory_utilization: 0.9,
            max_restarts: 10,
        }
    }
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The first accelerator this build and machine have, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

/// Arithmetic of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// f32 on a CPU, bf16 elsewhere.
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// bfloat16.
    Bf16,
}

/// `[images]`: what an image may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagesConfig {
    /// Images in one request.
    pub max_count: usize,
    /// Bytes of one encoded image, fetched or inline.
    pub max_bytes: usize,
    /// Pixels of one image before resizing, by its header; checked before anything is decoded.
    pub max_input_pixels: u64,
    /// Longer side divided by shorter side.
    pub max_aspect_ratio: f64,
    /// Pixels the model sees of an image with `detail: low`.
    pub low_max_pixels: u64,
    /// Pixels the model sees of an image with `detail: auto`, or none given.
    pub auto_max_pixels: u64,
    /// Pixels the model sees of an image with `detail: high`.
    pub max_pixels: u64,
    /// Bytes of decoded pixels that all requests may hold together while they are decoded and
    /// wait for the engine; further ones wait.
    pub max_decoded_bytes: usize,
    /// Fetch http(s) URLs at all.
    pub allow_urls: bool,
    /// Fetch https URLs only.
    pub https_only: bool,
    /// Ports that URLs may name.
    pub allowed_ports: Vec<u16>,
    /// Domains that URLs may name, subdomains included; empty for all.
    pub allow_domains: Vec<String>,
    /// Domains that URLs may not name, subdomains included.
    pub deny_domains: Vec<String>,
    /// HTTP proxy that images are fetched through (`http://host:port`); empty for none. The proxy
    /// then resolves names, so it must judge addresses itself. The environment's is never used.
    pub proxy: String,
    /// Let URLs reach private, loopback and link-local addresses. Only for tests.
    pub allow_private_addresses: bool,
    /// Seconds for one image to arrive, redirects included.
    pub fetch_timeout: u64,
    /// Redirects followed for one image.
    pub max_redirects: usize,
    /// Bytes of fetched images kept for callers that send the same URL again, as far as the
    /// image's server allows; 0 for none.
    pub cache_bytes: usize,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            max_count: 16,
            max_bytes: 20 << 20,
            max_input_pixels: 50_000_000,
            max_aspect_ratio: 200.0,
            low_max_pixels: 512 * 512,
            auto_max_pixels: 1 << 20,
            max_pixels: 1 << 24,
            max_decoded_bytes: 1 << 30,
            allow_urls: true,
            https_only: false,
            allowed_ports: vec![80, 443],
            allow_domains: Vec::new(),
            deny_domains: Vec::new(),
            proxy: String::new(),
            allow_private_addresses: false,
            fetch_timeout: 10,
            max_redirects: 3,
            cache_bytes: 256 << 20,
        }
    }
}

/// `[log]`: what is written to the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A level, or directives such as `porthole=debug,warn`.
    pub filter: String,
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// One JSON line a request on stdout: who asked for what, and what became of it.
    pub audit: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            // actix-http tells every malformed request of a stranger as an error.
            filter: "porthole=info,actix_http=off,warn".into(),
            format: LogFormat::Pretty,
            audit: true,
        }
    }
}

/// Lines for people or for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}
