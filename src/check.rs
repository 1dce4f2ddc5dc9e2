//! `porthole check`: what would be loaded, and how much memory it needs.

use std::{fmt::Write, path::Path, sync::Arc};

use serde_json::Value;

use crate::{
    auth::Authenticator,
    config::{Config, Device, Dtype},
    metrics::Metrics,
};

/// Says what would be loaded, in lines for the terminal.
///
/// # Errors
/// Every problem with the credentials, or with the model's files.
pub fn report(config: &Config) -> Result<String, Vec<String>> {
    let model = &config.model;
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(text, "The configuration is good.");
    let _ = writeln!(text, "  listen   {}", config.server.bind);
    let _ = writeln!(
        text,
        "  serve    {}",
        config.model_names().collect::<Vec<_>>().join(", ")
    );
    let loopback = config.server.bind.ip().is_loopback();
    let (_, made) = Authenticator::new(&config.auth, loopback, Arc::new(Metrics::default()))?;
    let credentials = match made {
        _ if !config.auth.enabled => "none asked for: everybody may do everything".to_string(),
        Some(_) => "none yet: a key will be made that lives as long as the process".to_string(),
        None => {
            let issuers = config.auth.issuers.len();
            let file = config.auth.keys_file.display();
            format!("the keys in {file}, and the tokens of {issuers} issuer(s)")
        }
    };
    let _ = writeln!(text, "  let in   {credentials}");
    let folder = Path::new(&model.id);
    if !folder.is_dir() {
        let is_hub_id = model.id.split('/').count() == 2 && !model.id.starts_with(['.', '/']);
        if !is_hub_id {
            return Err(vec![format!(
                "model.id: {:?} is neither a folder nor a hub id",
                model.id
            )]);
        }
        let _ = writeln!(
            text,
            "  model    {} from the hub; its size is known once it is downloaded",
            model.id
        );
        return Ok(text);
    }
    let mut problems = Vec::new();
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
        if !folder.join(name).is_file() {
            problems.push(format!("model.id: {} has no {name}", folder.display()));
        }
    }
    let stored = weight_bytes(folder);
    if stored == 0 {
        problems.push(format!(
            "model.id: {} has no *.safetensors",
            folder.display()
        ));
    }
    let shape = std::fs::read_to_string(folder.join("config.json"))
        .map_err(|e| e.to_string())
        .and_then(|json| serde_json::from_str::<Value>(&json).map_err(|e| e.to_string()));
    let shape = match shape {
        Ok(shape) if problems.is_empty() => shape,
        Ok(_) => return Err(problems),
        Err(e) => {
            problems.push(format!("{}: {e}", folder.join("config.json").display()));
            return Err(problems);
        }
    };
    let bytes = bytes_per_weight(config);
    // Published vision-language weights are stored in 16 bits.
    let weights = stored / 2 * bytes;
    let (per_token, context) = kv_cache(config, &shape, bytes);
    let _ = writeln!(
        text,
        "  model    {} ({} of weights on disk)",
        model.id,
        size(stored)
    );
    let _ = writeln!(text, "  context  {context} tokens");
    let _ = writeln!(
        text,
        "  memory   about {}: {} of weights{}, {} for the longest context ({per_token} bytes a token)",
        size(weights + per_token * context),
        size(weights),
        if model.quantization.is_empty() {
            ""
        } else {
            " before quantization"
        },
        size(per_token * context),
    );
    Ok(text)
}

fn weight_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter(|file| file.path().extension().is_some_and(|e| e == "safetensors"))
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

fn bytes_per_weight(config: &Config) -> u64 {
    match (config.model.dtype, config.model.device) {
        (Dtype::F16 | Dtype::Bf16, _) | (Dtype::Auto, Device::Cuda) => 2,
        (Dtype::Auto, Device::Auto) if cfg!(any(feature = "cuda", feature = "metal")) => 2,
        (Dtype::F32, _) | (Dtype::Auto, Device::Auto | Device::Cpu) => 4,
    }
}

/// Bytes of keys and values a token, and the context's length.
fn kv_cache(config: &Config, shape: &Value, bytes: u64) -> (u64, u64) {
    let text = shape.get("text_config").unwrap_or(shape);
    let number = |name: &str| text.get(name).and_then(Value::as_u64);
    let heads = number("num_attention_heads").unwrap_or(1).max(1);
    let head_dim = number("head_dim").unwrap_or_else(|| number("hidden_size").unwrap_or(0) / heads);
    let per_token = 2
        * number("num_hidden_layers").unwrap_or(0)
        * number("num_key_value_heads").unwrap_or(heads)
        * head_dim
        * bytes;
    let longest = number("max_position_embeddings").unwrap_or(0);
    let context = match config.model.context_length as u64 {
        0 => longest,
        wanted => wanted.min(longest),
    };
    (per_token, context)
}

fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes >= 1e9 {
        format!("{:.1} GB", bytes / 1e9)
    } else {
        format!("{:.1} MB", bytes / 1e6)
    }
}
