//! Reading the configuration. Every key is tried by itself first, so that one start names every
//! problem at once rather than the first of them.

use std::path::{Path, PathBuf};

use figment::{
    Figment, Provider,
    providers::{Env, Format, Serialized, Toml},
    value::Value,
};

use super::{Config, ModelConfig};

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

impl Overrides {
    /// The file that is read: the one named, else `config.toml` where there is one.
    pub fn file(&self) -> Option<&Path> {
        let usual = Path::new("config.toml");
        let named = self.config.as_deref();
        named.or_else(|| usual.is_file().then_some(usual))
    }
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
        if let Some(path) = overrides.file() {
            if !path.is_file() {
                let path = path.display();
                return Err(ConfigProblems(vec![format!("{path} does not exist")]));
            }
            given = given.merge(Toml::file_exact(path));
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
        let data = given
            .data()
            .map_err(|e| ConfigProblems(vec![e.to_string()]))?;
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
            merged
                .extract()
                .map_err(|e| ConfigProblems(vec![e.to_string()]))
        } else {
            Err(ConfigProblems(problems))
        }
    }

    /// Names that clients may use in `model`, the main one first.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        self.all_models().flat_map(ModelConfig::names)
    }

    /// The models, the main one first.
    pub fn all_models(&self) -> impl Iterator<Item = &ModelConfig> {
        std::iter::once(&self.model).chain(&self.models)
    }

    fn out_of_range(&self) -> Vec<String> {
        let images = &self.images;
        let server = &self.server;
        let rules = [
            (
                self.all_models().any(|model| model.id.is_empty()),
                "model.id: is empty",
            ),
            (
                self.all_models().any(|model| model.replicas == 0),
                "model.replicas: is 0",
            ),
            (
                self.all_models().any(|model| {
                    !(model.gpu_memory_utilization > 0.0 && model.gpu_memory_utilization <= 1.0)
                }),
                "model.gpu_memory_utilization: is not between 0 and 1",
            ),
            (
                self.model_names().any(str::is_empty),
                "model.name, model.aliases: a name is empty",
            ),
            (
                server.max_body_bytes < 1024,
                "server.max_body_bytes: is under 1024",
            ),
            (server.body_timeout == 0, "server.body_timeout: is 0"),
            (
                server.max_buffered_bytes < 2 * server.max_body_bytes,
                "server.max_buffered_bytes: is under twice server.max_body_bytes",
            ),
            (
                server.max_concurrent_requests == 0,
                "server.max_concurrent_requests: is 0",
            ),
            (
                server.keep_alive_interval == 0,
                "server.keep_alive_interval: is 0",
            ),
            (images.max_bytes == 0, "images.max_bytes: is 0"),
            (
                images.max_input_pixels == 0,
                "images.max_input_pixels: is 0",
            ),
            (
                !(1.0..=200.0).contains(&images.max_aspect_ratio),
                "images.max_aspect_ratio: is not between 1 and 200, the most the model's own rule allows",
            ),
            (
                images.low_max_pixels == 0 || images.auto_max_pixels == 0 || images.max_pixels == 0,
                "images.low_max_pixels, auto_max_pixels, max_pixels: one is 0",
            ),
            (images.fetch_timeout == 0, "images.fetch_timeout: is 0"),
            (
                images.allowed_ports.is_empty(),
                "images.allowed_ports: is empty",
            ),
            (server.header_timeout == 0, "server.header_timeout: is 0"),
            (server.write_timeout == 0, "server.write_timeout: is 0"),
            (
                server.max_connections == 0 || server.max_connections_per_address == 0,
                "server.max_connections, max_connections_per_address: one is 0",
            ),
            (
                server.tls_certificate.as_os_str().is_empty()
                    != server.tls_key.as_os_str().is_empty(),
                "server.tls_certificate, tls_key: one is set without the other",
            ),
            (
                self.auth.token_max_minutes == 0,
                "auth.token_max_minutes: is 0",
            ),
            (self.auth.jwks_refresh == 0, "auth.jwks_refresh: is 0"),
            (
                self.limits.max_queue_length == 0 || self.limits.max_queue_time == 0,
                "limits.max_queue_length, max_queue_time: one is 0",
            ),
        ];
        let mut found: Vec<String> = rules
            .iter()
            .filter(|(bad, _)| *bad)
            .map(|(_, text)| (*text).to_string())
            .collect();
        found.extend(self.telemetry.problems());
        let mut names: Vec<&str> = self.model_names().collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            found.push(format!("model.aliases: {:?} is named twice", pair[0]));
        }
        if let Err(e) = self
            .log
            .filter
            .parse::<tracing_subscriber::filter::Targets>()
        {
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
            .map_err(Box::new)
    };
    let Err(first) = fits(value) else {
        return Ok(value.clone());
    };
    if matches!(value, Value::Num(..) | Value::Bool(..))
        && let Ok(text) = serde_json::to_string(value)
    {
        let text = Value::from(text);
        if fits(&text).is_ok() {
            return Ok(text);
        }
    }
    Err(first
        .into_iter()
        .next()
        .map_or_else(String::new, |e| e.kind.to_string()))
}

fn collect_leaves(prefix: &str, value: &Value, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Dict(_, dict) if !dict.is_empty() || prefix.is_empty() => {
            for (key, value) in dict {
                let path = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
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

    const FILE: &str = include_str!("../../config.toml");

    fn from_toml(text: &str) -> Result<Config, ConfigProblems> {
        Config::from_figment(&Figment::from(Toml::string(text)))
    }

    #[test]
    fn the_file_in_the_repository_lists_every_key_with_its_default() {
        let keys = |value: &toml::Value| -> Vec<String> {
            let mut keys = Vec::new();
            for (section, table) in value.as_table().unwrap() {
                // `[[models]]` has the keys of `[model]`, and there is none by default.
                if section == "models" {
                    continue;
                }
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
        for expected in [
            "server.bnd",
            "server.bind",
            "model.device",
            "images.max_count",
            "nope",
        ] {
            assert!(all.contains(expected), "{expected} is missing from:\n{all}");
        }
        assert_eq!(problems.len(), 5, "{all}");
    }

    #[test]
    fn a_value_out_of_range_is_a_problem() {
        let problems = from_toml("[images]\nmax_aspect_ratio = 0.5\nmax_bytes = 0\n")
            .unwrap_err()
            .0;
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn a_name_that_looks_like_a_number_is_a_name() {
        assert_eq!(from_toml("[model]\nname = 42\n").unwrap().model.name, "42");
    }
}
