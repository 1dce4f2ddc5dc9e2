//! The configuration: one documented struct per section, read from a TOML file, the environment
//! (`PORTHOLE__SECTION__KEY`) and flags, in rising order of precedence.

mod load;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use load::{ConfigProblems, Overrides};

/// Everything an operator can set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP listener and what it lets in.
    pub server: ServerConfig,
    /// The model that answers.
    pub model: ModelConfig,
    /// What an image may cost.
    pub images: ImagesConfig,
    /// What is written to the log.
    pub log: LogConfig,
}

/// `[server]`: the HTTP listener and what it lets in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address and port of the API. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// Address and port of `/metrics`, kept apart from the API. Port 0 takes a free one.
    pub admin_bind: SocketAddr,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Seconds a client may take to send its request body.
    pub body_timeout: u64,
    /// Requests inside at once, waiting ones included; one more is answered 503.
    pub max_concurrent_requests: usize,
    /// Seconds between keep-alive comments on a silent stream.
    pub keep_alive_interval: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_bind: SocketAddr::from(([127, 0, 0, 1], 9090)),
            max_body_bytes: 100 << 20,
            body_timeout: 60,
            max_concurrent_requests: 512,
            keep_alive_interval: 10,
        }
    }
}

/// `[model]`: the model that answers.
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
    /// Longest prompt plus answer, in tokens; 0 means the model's own.
    pub context_length: usize,
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
            context_length: 0,
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
    /// Fetch http(s) URLs at all.
    pub allow_urls: bool,
    /// Let URLs reach private, loopback and link-local addresses. Only for tests.
    pub allow_private_addresses: bool,
    /// Seconds for one image to arrive, redirects included.
    pub fetch_timeout: u64,
    /// Redirects followed for one image.
    pub max_redirects: usize,
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
            allow_urls: true,
            allow_private_addresses: false,
            fetch_timeout: 10,
            max_redirects: 3,
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
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "porthole=info,warn".into(),
            format: LogFormat::Pretty,
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
