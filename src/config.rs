//! The configuration: one documented struct per section, read from a TOML file, the environment
//! (`PORTHOLE__SECTION__KEY`) and flags, in rising order of precedence.
//!
//! Every key is tried by itself first, so that one start names every problem at once rather than
//! the first of them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Provider,
    providers::{Env, Format, Serialized, Toml},
    value::Value,
};
use serde::{Deserialize, Serialize};

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
        Self { filter: "porthole=info,warn".into(), format: LogFormat::Pretty }
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

/// What flags say; each wins over the file and the environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--bind`.
    pub bind: Option<String>,
    /// `--model`.
    pub model: Option<String>,
}

/// Every problem found in the configuration, one line each.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} problem(s):\n{}", .0.len(), .0.iter().map(|p| format!("  - {p}\n")).collect::<String>())]
pub struct ConfigProblems(pub Vec<String>);

impl Config {
    /// Reads the file (`config.toml` where there is one and none is named), the environment and
    /// the flags.
    ///
    /// # Errors
    /// All the problems there are: unknown keys, wrong types, values out of range.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigProblems> {
        let mut given = Figment::new();
        match &overrides.config {
            Some(path) if !path.is_file() => {
                return Err(ConfigProblems(vec![format!("{} does not exist", path.display())]));
            }
            Some(path) => given = given.merge(Toml::file_exact(path)),
            None if Path::new("config.toml").is_file() => {
                given = given.merge(Toml::file_exact("config.toml"));
            }
            None => {}
        }
        given = given.merge(Env::prefixed("PORTHOLE__").split("__"));
        if let Some(bind) = &overrides.bind {
            given = given.merge(Serialized::global("server.bind", bind));
        }
        if let Some(model) = &overrides.model {
            given = given.merge(Serialized::global("model.id", model));
        }
        Self::from_figment(&given)
    }

    fn from_figment(given: &Figment) -> Result<Self, ConfigProblems> {
        let data = given.data().map_err(|e| ConfigProblems(vec![e.to_string()]))?;
        let mut leaves = Vec::new();
        for (_, dict) in data {
            collect_leaves("", &Value::from(dict), &mut leaves);
        }
        let mut problems = Vec::new();
        let mut merged = Figment::from(Serialized::defaults(Config::default()));
        for (key, value) in leaves {
            match accepted_value(&key, &value) {
                Ok(value) => merged = merged.merge(Serialized::global(&key, value)),
                Err(reason) => {
                    let source = given
                        .get_metadata(value.tag())
                        .map_or_else(String::new, |m| format!(" (in {})", m.name));
                    problems.push(format!("{key}: {reason}{source}"));
                }
            }
        }
        match merged.extract::<Config>() {
            Ok(config) => problems.extend(config.out_of_range()),
            Err(e) => problems.push(e.to_string()),
        }
        if problems.is_empty() {
            merged.extract().map_err(|e| ConfigProblems(vec![e.to_string()]))
        } else {
            Err(ConfigProblems(problems))
        }
    }

    /// Names that clients may use in `model`, the main one first.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.model.name.as_str())
            .chain(self.model.aliases.iter().map(String::as_str))
    }

    fn out_of_range(&self) -> Vec<String> {
        let images = &self.images;
        let server = &self.server;
        let rules = [
            (self.model.id.is_empty(), "model.id: is empty"),
            (self.model_names().any(str::is_empty), "model.name, model.aliases: a name is empty"),
            (server.max_body_bytes < 1024, "server.max_body_bytes: is under 1024"),
            (server.body_timeout == 0, "server.body_timeout: is 0"),
            (server.max_concurrent_requests == 0, "server.max_concurrent_requests: is 0"),
            (server.keep_alive_interval == 0, "server.keep_alive_interval: is 0"),
            (images.max_bytes == 0, "images.max_bytes: is 0"),
            (images.max_input_pixels == 0, "images.max_input_pixels: is 0"),
            (
                !(1.0..=200.0).contains(&images.max_aspect_ratio),
                "images.max_aspect_ratio: is not between 1 and 200, the most the model's own rule allows",
            ),
            (
                images.low_max_pixels == 0 || images.auto_max_pixels == 0 || images.max_pixels == 0,
                "images.low_max_pixels, auto_max_pixels, max_pixels: one is 0",
            ),
            (images.fetch_timeout == 0, "images.fetch_timeout: is 0"),
        ];
        let mut found: Vec<String> =
            rules.iter().filter(|(bad, _)| *bad).map(|(_, text)| (*text).to_string()).collect();
        let mut names: Vec<&str> = self.model_names().collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            found.push(format!("model.aliases: {:?} is named twice", pair[0]));
        }
        if let Err(e) = self.log.filter.parse::<tracing_subscriber::filter::Targets>() {
            found.push(format!("log.filter: {e}"));
        }
        found
    }
}

/// The value as its key takes it, or why the key does not take it. What the environment spells like
/// a number or a boolean is tried as a text too.
fn accepted_value(key: &str, value: &Value) -> Result<Value, String> {
    let fits = |value: &Value| {
        Figment::from(Serialized::defaults(Config::default()))
            .merge(Serialized::global(key, value))
            .extract::<Config>()
    };
    let Err(first) = fits(value) else { return Ok(value.clone()) };
    if matches!(value, Value::Num(..) | Value::Bool(..))
        && let Ok(text) = serde_json::to_string(value)
    {
        let text = Value::from(text);
        if fits(&text).is_ok() {
            return Ok(text);
        }
    }
    Err(first.into_iter().next().map_or_else(String::new, |e| e.kind.to_string()))
}

fn collect_leaves(prefix: &str, value: &Value, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Dict(_, dict) if !dict.is_empty() || prefix.is_empty() => {
            for (key, value) in dict {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                collect_leaves(&path, value, leaves);
            }
        }
        Value::String(..)
        | Value::Char(..)
        | Value::Bool(..)
        | Value::Num(..)
        | Value::Empty(..)
        | Value::Dict(..)
        | Value::Array(..) => leaves.push((prefix.to_string(), value.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../config.toml");

    fn from_toml(text: &str) -> Result<Config, ConfigProblems> {
        Config::from_figment(&Figment::from(Toml::string(text)))
    }

    #[test]
    fn the_file_in_the_repository_lists_every_key_with_its_default() {
        let keys = |value: &toml::Value| -> Vec<String> {
            let mut keys = Vec::new();
            for (section, table) in value.as_table().unwrap() {
                for key in table.as_table().unwrap().keys() {
                    keys.push(format!("{section}.{key}"));
                }
            }
            keys.sort();
            keys
        };
        let file: toml::Value = toml::from_str(FILE).unwrap();
        let defaults = toml::Value::try_from(Config::default()).unwrap();
        assert_eq!(keys(&file), keys(&defaults));
        assert_eq!(from_toml(FILE).unwrap(), Config::default());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let text = "[server]\nbnd = 1\nbind = 'nowhere'\n[model]\ndevice = 'tpu'\n[images]\nmax_count = -1\n[nope]\nx = 1\n";
        let problems = from_toml(text).unwrap_err().0;
        let all = problems.join("\n");
        for expected in ["server.bnd", "server.bind", "model.device", "images.max_count", "nope"] {
            assert!(all.contains(expected), "{expected} is missing from:\n{all}");
        }
        assert_eq!(problems.len(), 5, "{all}");
    }

    #[test]
    fn a_value_out_of_range_is_a_problem() {
        let problems = from_toml("[images]\nmax_aspect_ratio = 0.5\nmax_bytes = 0\n").unwrap_err().0;
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn a_name_that_looks_like_a_number_is_a_name() {
        assert_eq!(from_toml("[model]\nname = 42\n").unwrap().model.name, "42");
    }
}
